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
func (b *bench) measure(ctx context.Context, table []contestant) (r *report, err error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	machine := thisMachine() // before we make load of our own
	players := make([]*player, 0, len(table))
	defer func() {
		for _, p := range players {
			if p.absent == nil {
				err = errors.Join(err, p.close())
			}
		}
	}()
	for _, c := range table {
		p := &player{contestant: c}
		p.scraper, err = c.start(ctx, b)
		if errors.As(err, new(notMeasured)) && os.Getenv("CI") != "true" {
			p.absent, err = err, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		players = append(players, p)
	}
	checked, err := b.agree(ctx, players)
	if err != nil {
		return nil, err
	}
	for round := range b.runs {
		fmt.Fprintf(b.log, "bench: round %d of %d\n", round+1, b.runs)
		for i := range players {
			// Nobody is always the one after the slowest.
			p := players[(i+round)%len(players)]
			if p.absent != nil || b.quick && p.slow && round >= quickRounds {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := p.turn(b.dir.truth); err != nil {
				return nil, err
			}
		}
	}
	return b.report(ctx, machine, players, checked)
}

// settle waits until the directory has not changed for as long as it takes
// promagg to trust its modification time; before, every scrape lists it again.
func (b *bench) settle(ctx context.Context) error {
	const trusted = 2*time.Second + 100*time.Millisecond // internal/multiproc's mtimeGrain
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
// warm-up. It returns what they all have.
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
			if err := same(firstName, first, p.name, s); err != nil {
				return nil, err
			}
		}
	}
	return first, nil
}

// turn has a contestant scrape a few times in a row, and checks the last scrape.
func (p *player) turn(t truth) error {
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
