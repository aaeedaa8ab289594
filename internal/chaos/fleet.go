package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"
)

// fleet is the workers: a number of slots, in each of which one follows the other.
type fleet struct {
	workerSettings // those that all have
	env            []string
	log            *os.File
	events         *events
	slots          []*slot

	mu      sync.Mutex // protects all below
	serial  int
	running map[*worker]bool
	idle    []string        // ids that dead workers had and others will have
	seen    map[string]bool // all ids that there have been
	// done and begun are of the workers that are gone, newest too. Those of late are
	// in begun only.
	done, begun totals
	newest      float64
	late        []lately
	views       map[*view]bool
	kills       int
	exits       int
	unready     int     // killed before their first update
	doubtful    int     // what they had under way is not known,
	doubt       float64 // that many updates

	backlog backlog
}

// slot is the place of one worker at a time. It is one goroutine's.
type slot struct {
	n        int
	progress *progress
	rnd      *rand.Rand
}

// worker is a process.
type worker struct {
	serial int
	id     string
	reused bool // the id, on purpose
	again  bool // an earlier worker had the id, on purpose or since PIDs come again
	slot   *slot
	cmd    *exec.Cmd
	life   io.Closer // its input
	born   time.Time
	dying  bool // or done; protected by the fleet's lock
}

// newFleet makes a fleet of n slots.
func newFleet(common workerSettings, n int, seed uint64, log *os.File, ev *events) (*fleet, error) {
	f := &fleet{workerSettings: common, log: log, events: ev, running: make(map[*worker]bool), seen: make(map[string]bool), views: make(map[*view]bool)}
	for i := range n {
		p, err := openProgress(common.progress, i)
		if err != nil {
			return nil, err
		}
		f.slots = append(f.slots, &slot{i, p, rand.New(rand.NewPCG(seed, uint64(1000+i)))})
		if i%2 == 0 {
			f.idle = append(f.idle, fmt.Sprintf("r%d", i/2))
		}
	}
	// Small and quick to start: most of what a worker costs is its start.
	f.env = slices.Clip(append(os.Environ(), "GOMAXPROCS=2", "GOGC=off"))
	return f, nil
}

// start starts a worker in a slot that is free.
func (f *fleet) start(s *slot) (*worker, error) {
	s.progress.reset()
	settings := f.workerSettings
	settings.slot, settings.seed = s.n, s.rnd.Uint64()
	settings.plain = s.rnd.IntN(2) == 0
	reused := s.rnd.IntN(3) == 0

	f.mu.Lock()
	f.serial++
	settings.serial = f.serial
	if n := len(f.idle); reused && n > 0 {
		i := s.rnd.IntN(n)
		settings.id = f.idle[i]
		f.idle[i] = f.idle[n-1]
		f.idle = f.idle[:n-1]
	}
	f.mu.Unlock()

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(f.env, workerEnv+"="+settings.String())
	cmd.Stderr = f.log
	life, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	w := &worker{serial: settings.serial, id: settings.id, reused: settings.id != "", slot: s, cmd: cmd, life: life, born: time.Now()}
	// Nobody looks at the directory with this lock held, so that a worker is known
	// before it is seen; but others begin to look before it is there.
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if !w.reused {
		w.id = strconv.Itoa(cmd.Process.Pid)
	}
	w.again = w.reused || f.seen[w.id]
	f.seen[w.id] = true
	f.running[w] = true
	for v := range f.views {
		v.may[w.id] = true
		v.most++
	}
	f.events.add("start %d id=%s plain=%v", w.serial, w.id, settings.plain)
	return w, nil
}

// kill ends a worker by SIGKILL.
func (f *fleet) kill(w *worker) error {
	return f.end(w, w.cmd.Process.Kill)
}

// dismiss has a worker exit.
func (f *fleet) dismiss(w *worker) error {
	return f.end(w, w.life.Close)
}

func (f *fleet) end(w *worker, how func() error) error {
	f.mu.Lock()
	w.dying = true
	for v := range f.views {
		delete(v.must, w.id)
	}
	f.mu.Unlock()
	left, err := f.open(w)
	if err != nil {
		return err
	}
	defer left.close()
	f.events.add("end %d id=%s", w.serial, w.id)
	if err := how(); err != nil {
		return fmt.Errorf("end worker %d: %w", w.serial, err)
	}
	exit := w.cmd.Wait()
	killed := w.cmd.ProcessState.ExitCode() == -1
	if exit != nil && !killed {
		return fmt.Errorf("worker %d (id %s): %w, see workers.log", w.serial, w.id, exit)
	}
	sum, err := left.settle(w)
	if err != nil {
		return err
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun.add(&sum.begun)
	f.late = append(f.late, lately{sum.done, w.slot.progress.newest.Load(), time.Now()})
	if !w.again {
		f.late[len(f.late)-1].gone = time.Time{}
	}
	delete(f.running, w)
	if w.reused {
		f.idle = append(f.idle, w.id)
	}
	if killed {
		f.kills++
	} else {
		f.exits++
	}
	if !sum.ready {
		f.unready++
	}
	if sum.doubtful {
		f.doubtful++
		f.doubt += sum.begun[0] - sum.done[0]
	}
	return nil
}

// churn has workers follow each other in all slots until ctx ends; each is killed
// after a random time of this mean. The last ones are left running. failed is called
// with what goes wrong.
func (f *fleet) churn(ctx context.Context, life time.Duration, failed func(error)) {
	var slots sync.WaitGroup
	for _, s := range f.slots {
		slots.Go(func() {
			if err := f.churnSlot(ctx, s, life); err != nil {
				failed(err)
			}
		})
	}
	slots.Wait()
}

func (f *fleet) churnSlot(ctx context.Context, s *slot, life time.Duration) error {
	for {
		w, err := f.start(s)
		if err != nil {
			return err
		}
		d := time.Duration(s.rnd.ExpFloat64() * float64(life))
		if s.rnd.IntN(8) == 0 {
			d = time.Duration(s.rnd.Int64N(int64(10 * time.Millisecond))) // while it starts
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d):
		}
		if err := f.kill(w); err != nil {
			return err
		}
		if !f.backlog.await(ctx) {
			return nil
		}
	}
}

// all returns the workers that run.
func (f *fleet) all() []*worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*worker
	for w := range f.running {
		all = append(all, w)
	}
	return all
}

// pause has all workers stop making updates, once they have begun, and waits for it.
func (f *fleet) pause(ctx context.Context) error {
	for _, w := range f.all() {
		w.slot.progress.pause.Set(1)
	}
	return until(ctx, "all workers pause", func() error {
		for _, w := range f.all() {
			if !w.slot.progress.paused() {
				return fmt.Errorf("worker %d (id %s) does not", w.serial, w.id)
			}
		}
		return nil
	})
}

// until waits for a condition.
func until(ctx context.Context, what string, condition func() error) error {
	const patience = time.Minute
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := condition()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("waited %s until %s: %w", patience, what, err)
		}
	}
}

// dismissAll has all workers exit.
func (f *fleet) dismissAll() error {
	var errs []error
	for _, w := range f.all() {
		errs = append(errs, f.dismiss(w))
	}
	return errors.Join(errs...)
}

// killAll ends what runs, whatever comes of it.
func (f *fleet) killAll() {
	for _, w := range f.all() {
		_ = w.cmd.Process.Kill() // it may be gone
	}
}
