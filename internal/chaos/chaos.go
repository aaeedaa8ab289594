package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// chaosSettings are those of a run in which all are killed at random.
type chaosSettings struct {
	settings
	time       time.Duration
	life       time.Duration // of a worker
	daemonLife time.Duration // of a promagg
}

// chaos is such a run.
func (h *harness) chaos(ctx context.Context, s chaosSettings) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	timed, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	fmt.Fprintf(h.out, "seed %d, %d workers, for %s, in %s\n", h.seed, s.workers, s.time, h.base)

	var running sync.WaitGroup
	running.Go(func() { h.fleet.backlog.watch(timed, h.dir) })
	running.Go(func() { h.fleet.churn(timed, s.life, stop) })
	for n := range 2 {
		rnd := rand.New(rand.NewPCG(h.seed, uint64(n)))
		running.Go(func() {
			for timed.Err() == nil {
				if n > 0 { // the second one is there at times
					sleep(timed, time.Duration(rnd.ExpFloat64()*float64(2*s.daemonLife)))
				}
				if err := h.daemonLife(timed, s.daemonLife, rnd); err != nil {
					stop(err)
				}
			}
		})
	}
	running.Go(func() {
		for sleep(timed, time.Minute) {
			h.report()
		}
	})
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return h.finish(ctx, 50*time.Millisecond)
}

// sleep reports false if ctx ends before the time is up.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// daemonLife starts a promagg, scrapes it all the time, and kills it.
func (h *harness) daemonLife(ctx context.Context, life time.Duration, rnd *rand.Rand) error {
	interval := 20*time.Millisecond + time.Duration(rnd.Int64N(int64(180*time.Millisecond)))
	lives := time.Duration(rnd.ExpFloat64() * float64(life))
	starting := rnd.IntN(10) == 0
	if starting {
		lives = time.Duration(rnd.Int64N(int64(60 * time.Millisecond)))
	}
	atFold, gently := rnd.IntN(2) == 0, rnd.IntN(10) == 0
	within := time.Duration(rnd.Int64N(int64(2 * time.Millisecond)))
	scrapes := rand.New(rand.NewPCG(rnd.Uint64(), 0))

	d, err := h.daemons.start(interval)
	if err != nil {
		return err
	}
	living, end := context.WithCancel(ctx)
	defer end()
	var scraping sync.WaitGroup
	var violated error
	answered := make(chan struct{})
	scraping.Go(func() {
		answers := sync.OnceFunc(func() { close(answered) })
		defer answers()
		if !d.listens(living) {
			return
		}
		for living.Err() == nil {
			// By itself: a scrape that is under way when promagg dies is let die with it.
			_, _, err := h.scrape(context.WithoutCancel(ctx), d)
			if err != nil && !errors.Is(err, errRefused) {
				violated = err
				end()
				return
			}
			if err == nil {
				answers()
			}
			sleep(living, time.Duration(scrapes.ExpFloat64()*float64(5*time.Millisecond)))
		}
	})
	if !starting {
		// On a busy machine none would ever come to fold what the others have left.
		<-answered
	}
	sleep(living, lives)
	if atFold && living.Err() == nil {
		h.daemons.awaitFold(living, within)
	}
	err = h.daemons.kill(d, gently)
	end()
	scraping.Wait()
	return errors.Join(violated, err)
}

// awaitFold waits for a sign of a fold, and for as long as said behind it.
func (ds *daemons) awaitFold(ctx context.Context, behind time.Duration) {
	for begun := time.Now(); ctx.Err() == nil && time.Since(begun) < time.Second; time.Sleep(200 * time.Microsecond) {
		names, err := namesIn(ds.dir)
		if err != nil {
			return
		}
		for _, name := range names {
			if strings.Contains(name, "~") || strings.HasSuffix(name, ".tmp") {
				time.Sleep(behind)
				ds.mu.Lock()
				ds.folding++
				ds.mu.Unlock()
				return
			}
		}
	}
}
