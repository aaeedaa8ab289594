package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// How writers come and go: churnAtOnce of them live at a time, and a new one
// comes every churnEvery.
const (
	churnAtOnce = 64
	churnEvery  = time.Millisecond
	churnScrape = 50 * time.Millisecond // how often it is scraped meanwhile
)

// measureChurn measures one promagg at the start, while writers come and go, when
// half of them have, and when all have. A cold start, the Python collector and the
// limit are for the end: they look at the directory for the first time at each scrape.
func (b *bench) measureChurn(ctx context.Context) (s *section, err error) {
	if !b.dir.built || b.dir.shape.live == 0 {
		return nil, errors.New("churn needs a directory that was built")
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	d, err := startServe(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	var rows []row
	measure := func(players ...*player) error {
		if err := b.steady(ctx); err != nil {
			return err
		}
		if _, err := b.agree(ctx, players); err != nil {
			return err
		}
		if err := b.rounds(ctx, players); err != nil {
			return err
		}
		for _, p := range players {
			w, err := p.row(b.dir.path)
			if err != nil {
				return err
			}
			rows = append(rows, w)
		}
		return nil
	}
	stage := func(name, about string) *player {
		return &player{scraper: d, contestant: contestant{name: httpName + ", " + name, about: about, scrapes: turnScrapes}}
	}
	if err := measure(stage("start", "promagg serve with the writers that stay")); err != nil {
		return nil, err
	}
	first, half, all := len(b.dir.live()), b.dir.shape.writers/2, b.dir.shape.writers
	busy := stage("meanwhile", "the same daemon while writers come and go, each scrape a round of its own")
	busy.scrapes = 1
	if err := b.comeAndGo(ctx, busy, first, first+half); err != nil {
		return nil, err
	}
	if err := measure(stage("middle", fmt.Sprintf("when %d have come and gone", half))); err != nil {
		return nil, err
	}
	if err := b.comeAndGo(ctx, busy, first+half, first+all); err != nil {
		return nil, err
	}
	w, err := busy.row(b.dir.path)
	if err != nil {
		return nil, err
	}
	rows = slices.Insert(rows, 1, w)

	end := []*player{stage("end", fmt.Sprintf("when %d have come and gone", all))}
	var others []contestant
	for _, c := range tableFor(b.dir.shape) {
		if c.name == limitName || c.name == limitAllName || c.name == coldName || c.name == pythonName {
			others = append(others, c)
		}
	}
	more, err := b.start(ctx, others)
	defer func() { err = errors.Join(err, stop(more)) }()
	if err != nil {
		return nil, err
	}
	for _, p := range more {
		if p.absent == nil {
			end = append(end, p)
		}
	}
	if err := measure(end...); err != nil {
		return nil, err
	}
	checked, err := b.agree(ctx, end)
	if err != nil {
		return nil, err
	}
	if s, err = b.section(ctx, nil, checked); err != nil {
		return nil, err
	}
	s.Rows = rows
	s.compare()
	return s, nil
}

// comeAndGo has writers come and go, and scrapes meanwhile. What it sees then
// can't be compared with the truth but for one thing: no sum of counters falls.
func (b *bench) comeAndGo(ctx context.Context, p *player, first, last int) error {
	fmt.Fprintf(b.log, "bench: %s: writers %d to %d come and go\n", b.dir.shape.name, first, last-1)
	h, err := startHelper(ctx, order{Churn: &churnOrder{
		Shape: b.dir.shape.name, Entries: b.dir.shape.entries, Dir: b.dir.path,
		First: first, Last: last, AtOnce: churnAtOnce, Every: churnEvery, Seed: b.seed + uint64(first),
	}})
	if err != nil {
		return err
	}
	type result struct {
		written
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = json.NewDecoder(h.out).Decode(&r.written)
		done <- r
	}()
	total := 0.0
	for {
		begin, err := p.cpu()
		if err != nil {
			return errors.Join(err, h.stop())
		}
		a, err := p.scrape()
		if err != nil {
			return errors.Join(err, h.stop())
		}
		end, err := p.cpu()
		if err != nil {
			return errors.Join(err, h.stop())
		}
		s, err := samplesOf(a.text, a.own)
		if err == nil && s.total() < total {
			err = fmt.Errorf("%w: counters fell from %.0f to %.0f while writers came and went", errDisagree, total, s.total())
		}
		if err != nil {
			return errors.Join(err, h.stop())
		}
		total = s.total()
		p.rounds = append(p.rounds, a.took)
		p.scraped++
		p.used += end - begin
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), h.stop())
		case r := <-done:
			if err := errors.Join(r.err, h.stop()); err != nil {
				return err
			}
			b.dir.written.plus(r.written)
			b.dir.truth = b.dir.truthNow()
			return nil
		case <-time.After(churnScrape):
		}
	}
}
