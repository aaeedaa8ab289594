package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// quickRounds is how many rounds -quick gives the slow contestants.
const quickRounds = 3

// player is a contestant in a run, with what was measured of it.
type player struct {
	contestant
	scraper
	absent error // why it is not measured

	rounds  []time.Duration // the median scrape of each turn
	scraped int
	used    time.Duration // CPU time of all scrapes
	mallocs uint64        // of all scrapes, in our own process
	malloc  uint64        // bytes of them
}

// measure runs all contestants of the table.
func (b *bench) measure(ctx context.Context, table []contestant) (s *section, err error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	kept, err := b.measureHeap() // while there is nothing else on the heap
	if err != nil {
		return nil, err
	}
	players, err := b.start(ctx, table)
	defer func() { err = errors.Join(err, stop(players)) }()
	if err != nil {
		return nil, err
	}
	if err := b.steady(ctx); err != nil {
		return nil, err
	}
	checked, err := b.agree(ctx, players)
	if err != nil {
		return nil, err
	}
	if err := b.rounds(ctx, players); err != nil {
		return nil, err
	}
	s, err = b.section(ctx, players, checked)
	if err == nil {
		s.Heap = kept
	}
	return s, err
}

// start starts the contestants of a table. With an error it returns those that
// have to be stopped.
func (b *bench) start(ctx context.Context, table []contestant) (players []*player, err error) {
	for _, c := range table {
		p := &player{contestant: c}
		p.scraper, err = c.start(ctx, b)
		if tolerable(err) {
			p.absent, err = err, nil
		}
		if err != nil {
			return players, fmt.Errorf("%s: %w", c.name, err)
		}
		players = append(players, p)
	}
	return players, nil
}

func stop(players []*player) error {
	var errs []error
	for _, p := range players {
		if p.absent == nil {
			errs = append(errs, p.close())
		}
	}
	return errors.Join(errs...)
}

// rounds gives each player its turns.
func (b *bench) rounds(ctx context.Context, players []*player) error {
	for round := range b.runs {
		fmt.Fprintf(b.log, "bench: %s: round %d of %d\n", b.dir.shape.name, round+1, b.runs)
		for i := range players {
			// Nobody is always the one after the slowest.
			p := players[(i+round)%len(players)]
			if p.absent != nil || b.quick && p.slow && round >= quickRounds {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.turn(b.dir.truth); err != nil {
				return err
			}
		}
	}
	return nil
}

// steady waits until a daemon has found out who lives, where that makes a
// difference.
func (b *bench) steady(ctx context.Context) error {
	if b.dir.shape.live == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.wait):
		return nil
	}
}

// trusted is how old the modification time of a directory has to be for promagg
// to trust it: internal/multiproc's mtimeGrain, and some more.
const trusted = 2*time.Second + 100*time.Millisecond

// settle waits until the directory has not changed for that long; before, every
// scrape lists it again.
func (b *bench) settle(ctx context.Context) error {
	info, err := os.Stat(b.dir.path)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(info.ModTime().Add(trusted))):
		return nil
	}
}

// agree makes sure that all contestants read the same, which is also their
// warm-up. It returns what they all have. A contestant that asks for one name
// must not be the first of a table.
func (b *bench) agree(ctx context.Context, players []*player) (samples, error) {
	var first samples
	var firstName string
	for _, p := range players {
		if p.absent != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		a, err := p.scrape()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		s, err := b.dir.truth.check(p.name, a)
		if err != nil {
			return nil, err
		}
		p.rest()
		switch {
		case s == nil:
		case first == nil:
			first, firstName = s, p.name
		default:
			if err := same(firstName, first.of(a.only), p.name, s); err != nil {
				return nil, err
			}
		}
	}
	return first, nil
}

// turn has a contestant scrape a few times in a row, and checks the last scrape.
func (p *player) turn(t truth) error {
	if p.cores > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(p.cores))
	}
	runtime.GC() // so that nobody pays for what another one left
	var last answer
	took := make([]time.Duration, p.scrapes)
	var before, after runtime.MemStats
	begin, err := p.cpu()
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&before)
	for i := range took {
		if last, err = p.scrape(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		took[i] = last.took
	}
	runtime.ReadMemStats(&after)
	end, err := p.cpu()
	if err != nil {
		return err
	}
	if _, err := t.check(p.name, last); err != nil {
		return err
	}
	p.rest()

	p.rounds = append(p.rounds, median(took))
	p.scraped += p.scrapes
	p.used += end - begin
	p.mallocs += after.Mallocs - before.Mallocs
	p.malloc += after.TotalAlloc - before.TotalAlloc
	return nil
}

// median returns the median, of an even number of times the upper one.
func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
