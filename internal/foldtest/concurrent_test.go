package foldtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// pause is what observers leave between two looks: as long as somebody lists the
// directory it can't be folded.
const pause = 2 * time.Millisecond

// observer reads a directory over and over, and wants that nothing falls.
type observer struct {
	d     *multiproc.Dir
	last  map[string]float64
	looks int
}

func (o *observer) look() error {
	s, err := o.d.Snapshot(context.Background())
	if err != nil {
		return err
	}
	o.looks++
	got := flatten(s)
	for key, v := range o.last {
		if now, there := got[key]; !there || now < v {
			err := fmt.Errorf("look %d: %s falls from %v to %v (there: %v)", o.looks, key, v, now, there)
			// Whether it is there again the next time tells a lot.
			if s, again := o.d.Snapshot(context.Background()); again == nil {
				err = fmt.Errorf("%w, and is %v then", err, flatten(s)[key])
			}
			return err
		}
	}
	o.last = got
	return nil
}

// observe looks until its standard input ends, and prints what it has seen last.
func observe(dir string) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	o := &observer{d: openDir(dir, multiproc.Forever, nil)}
	defer o.d.Close()
	pace := time.NewTicker(pause)
	defer pace.Stop()
	for {
		last := false
		select {
		case <-ended:
			last = true
		case <-pace.C:
		}
		if err := o.look(); err != nil {
			return err
		}
		if last {
			return json.NewEncoder(os.Stdout).Encode(seen{o.last, o.looks})
		}
	}
}

// seen is what an observer in another process tells.
type seen struct {
	Last  map[string]float64
	Looks int
}

// startObserver starts one, which must have seen all that want holds once it is stopped.
func startObserver(t *testing.T, dir string) (stop func() seen) {
	t.Helper()
	text, err := json.Marshal(child{Dir: dir, Observe: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceValue(func() (s seen) {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the observer: %v: %s", err, &stderr)
		} else if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Errorf("the observer says %q: %v", &out, err)
		}
		return s
	})
	t.Cleanup(func() { stop() })
	return stop
}

// tally is what writers have done so far, who do one thing at a time each.
type tally struct {
	begun, done atomic.Int64 // rounds of adding 1 to everything
	deaths      atomic.Int64
	mu          sync.Mutex // protects parts
	parts       big.Float  // the exact sum of f_total
}

const (
	cKey   = `["c", "c_total", {}, ""]`
	fKey   = `["f", "f_total", {}, ""]`
	lowKey = `["h", "h_bucket", {"le": "1.0"}, ""]`
	infKey = `["h", "h_bucket", {"le": "+Inf"}, ""]`
	sumKey = `["h", "h_sum", {}, ""]`
	maxKey = `["m", "m", {}, ""]`

	rubyLowKey   = `["r","r_bucket",["le"],["1"]]`
	rubyInfKey   = `["r","r_bucket",["le"],["+Inf"]]`
	rubyCountKey = `["r","r_count",[],[]]`
)

// work has one writer after the other live and die until stop, under a few ids in turn.
func (a *tally) work(rnd *rand.Rand, dir, id string, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := a.life(rnd, dir, fmt.Sprintf("%s_%d", id, n%3)); err != nil {
			return err
		}
		a.deaths.Add(1)
	}
}

// life is that of one writer.
func (a *tally) life(rnd *rand.Rand, dir, id string) (err error) {
	var files []*taken
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.w.Close())
		}
	}()
	for _, file := range []struct {
		base   string
		layout mmapfile.Layout
		keys   []string
	}{
		{"counter_" + id, mmapfile.ValueTimestamp, []string{cKey, fKey}},
		{"histogram_" + id, mmapfile.ValueTimestamp, []string{lowKey, infKey, sumKey}},
		{"histogram_" + id + "-0", mmapfile.ValueOnly, []string{rubyLowKey, rubyInfKey, rubyCountKey}},
		{"gauge_max_" + id, mmapfile.ValueTimestamp, []string{maxKey}},
	} {
		f, err := take(filepath.Join(dir, file.base+".db"), file.layout, file.keys...)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	value := func(key string) *mmapfile.Value {
		for _, f := range files {
			if v := f.value[key]; v != nil {
				return v
			}
		}
		panic("no entry " + key)
	}
	for range rnd.IntN(400) {
		part := rnd.Float64()
		n := a.begun.Add(1)
		value(cKey).Add(1)
		value(fKey).Add(part)
		value(sumKey).Add(0.25)
		if n%3 == 0 {
			value(lowKey).Add(1)
			value(rubyLowKey).Add(1)
		} else {
			value(infKey).Add(1)
		}
		value(rubyInfKey).Add(1)
		value(rubyCountKey).Add(1)
		value(maxKey).Set(max(value(maxKey).Load(), float64(n)))
		a.mu.Lock()
		a.parts.Add(&a.parts, big.NewFloat(part))
		a.mu.Unlock()
		a.done.Add(1)
	}
	return nil
}

// exact says what is wrong with totals once nobody adds anything any more.
func (a *tally) exact(got map[string]float64) error {
	n := float64(a.done.Load())
	low := math.Floor(n / 3)
	for key, want := range map[string]float64{
		"c_total": n, "m": n, "h_sum": n / 4,
		"h_count": n, "h_bucket le=1": low, "h_bucket le=+Inf": n,
		"r_count": n, "r_bucket le=1": low, "r_bucket le=+Inf": n,
	} {
		if got[key] != want {
			return fmt.Errorf("%s is %v, want %v, in %v", key, got[key], want, got)
		}
	}
	// The writers' own additions round, and folding rounds up.
	sum, _ := a.parts.Float64()
	if v := got["f_total"]; v < sum*(1-1e-9) || v > sum*(1+1e-9) {
		return fmt.Errorf("f_total is %v, want %v", v, sum)
	}
	return nil
}

// TestFoldWhileServing: writers come and go, under ids that were used before, while the
// directory is folded all the time. Whoever reads it meanwhile has every increment that
// was done, none twice, and sees nothing fall: the daemon that folds, others in the
// same process, without a descriptor or a mapping of its own one of them, and one in
// another.
func TestFoldWhileServing(t *testing.T) {
	seed := testpeer.Seed(t)
	enough := uint64(60)
	if long() {
		enough = 3000
	}
	dir := place(t)
	stopOther := startObserver(t, dir)
	serve := func(budget *mmapfile.Budget, interval time.Duration) *multiproc.Dir {
		d := multiproc.Open(multiproc.Options{Path: dir, Rescan: 50 * time.Millisecond, Budget: budget, Logger: slog.New(slog.DiscardHandler),
			Fold: multiproc.Folding{Interval: interval, Retention: multiproc.Forever}})
		t.Cleanup(d.Close)
		return d
	}
	folds := serve(nil, time.Millisecond)
	dirs := map[string]*multiproc.Dir{"folds": folds, "serves": serve(nil, 0), "serves with nothing": serve(mmapfile.NewBudget(0, 0), 0)}
	const writers = 3
	a := new(tally)
	var running, reading, working sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer running.Wait()
	defer cancel()
	running.Go(func() { folds.Run(ctx) })
	running.Go(func() { dirs["serves"].Run(ctx) })
	stopReading, stopWorking := make(chan struct{}), make(chan struct{})
	looks := make(map[string]*observer)
	for name, d := range dirs {
		o := &observer{d: d}
		looks[name] = o
		reading.Go(func() {
			pace := time.NewTicker(pause)
			defer pace.Stop()
			for {
				select {
				case <-stopReading:
					return
				case <-pace.C:
				}
				least := a.done.Load()
				err := o.look()
				if name != "serves with nothing" {
					// What a new writer adds to a frozen file is served once that was noticed.
					least = 0
				}
				if most := a.begun.Load(); err == nil && (o.last["c_total"] < float64(least) || o.last["c_total"] > float64(most)) {
					err = fmt.Errorf("c_total is %v, want %d to %d", o.last["c_total"], least, most)
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for i := range writers {
		working.Go(func() {
			if err := a.work(rand.New(rand.NewPCG(seed, uint64(i))), dir, fmt.Sprint(i), stopWorking); err != nil {
				t.Error(err)
			}
		})
	}
	testpeer.WaitFor(t, "enough folds", 10*time.Minute, func() error {
		if n := folds.Stats().Fold.Folds; n < enough && !t.Failed() {
			return fmt.Errorf("%d of %d", n, enough)
		}
		return nil
	})
	close(stopWorking)
	working.Wait()
	testpeer.WaitFor(t, "all to be folded", 30*time.Second, func() error {
		if left := leftovers(t, dir, nil, true); len(left) > 0 {
			return fmt.Errorf("left over: %q", left)
		}
		return nil
	})
	close(stopReading)
	reading.Wait()
	for name, o := range looks {
		if err := errors.Join(o.look(), a.exact(o.last)); err != nil {
			t.Errorf("%s, at the end: %v", name, err)
		}
		t.Logf("%s: %d looks", name, o.looks)
	}
	other := stopOther()
	if err := a.exact(other.Last); err != nil {
		t.Errorf("in another process, at the end: %v", err)
	}
	t.Logf("in another process: %d looks", other.Looks)
	s := folds.Stats().Fold
	t.Logf("%d deaths, %d increments of each, %d folds of %d files, %d rounds failed", a.deaths.Load(), a.done.Load(), s.Folds, s.Folded, s.Failed)
}
