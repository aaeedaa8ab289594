package foldtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestErrorAtEachStep: a step of a fold fails, alone or with all that come after it,
// as on a disk that is full or broken. The daemon goes on, and at every moment it
// and everybody else who reads the directory has the same totals; the next round
// comes to its end.
func TestErrorAtEachStep(t *testing.T) {
	seed := testpeer.Seed(t)
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS}
	for i, s := range scenes() {
		if s.bump != "" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			template := place(t)
			writers := s.build(t, &random{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}, template)
			steps := s.steps(t, template, writers)
			// Each in any case, but not in each way.
			for k := range steps {
				for j := range 2 * len(errnos) {
					if long() || (int(seed)+k)%(2*len(errnos)) == j {
						s.fail(t, template, writers, errnos[j/2], k, j%2 == 0)
					}
				}
			}
			t.Logf("%d steps", steps)
		})
	}
}

// steps returns how many steps the fold of a directory takes.
func (s *scene) steps(t *testing.T, template string, writers []*writer) (n int) {
	dir := copyDir(t, template)
	defer hold(t, dir, writers)()
	d := openDir(dir, s.retention, func(fold.Step) error { n++; return nil })
	defer d.Close()
	if _, err := d.FoldOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// fail has a daemon fold a copy of a directory. The k-th step fails, and all behind it if
// all, until the disk is whole again.
func (s *scene) fail(t *testing.T, template string, writers []*writer, errno syscall.Errno, k int, all bool) {
	t.Helper()
	dir := copyDir(t, template)
	defer hold(t, dir, writers)()
	what := fmt.Sprintf("%v at step %d", errno, k)
	if all {
		what += " and all after it"
	}
	want := merged(writers, s.keeps())
	same := func(who string, d *multiproc.Dir) {
		got, err := d.Snapshot(context.Background())
		if err != nil {
			t.Errorf("%s, %s: %v", what, who, err)
		} else if diff := want.differ(flatten(got)); diff != "" {
			t.Errorf("%s, %s (-model +served):\n%s", what, who, diff)
		}
	}
	other := openDir(dir, multiproc.Forever, nil)
	defer other.Close()
	n := 0 // steps, of the goroutine that folds
	var failed atomic.Int64
	var healed atomic.Bool
	d := multiproc.Open(multiproc.Options{Path: dir, Rescan: time.Hour, Fold: multiproc.Folding{
		Interval: time.Millisecond, Retention: s.retention, Hook: func(step fold.Step) error {
			// What comes before is looked at with the errors that come before.
			if (n == k || n == k+1) && !locked(step) {
				same("to somebody else before "+describe(step), other)
			}
			n++
			if healed.Load() || n-1 != k && !(all && n-1 > k) {
				return nil
			}
			failed.Add(1)
			return errno
		}}})
	defer d.Close()
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer running.Wait()
	defer stop()
	running.Go(func() { d.Run(ctx) })
	running.Go(func() {
		for ctx.Err() == nil {
			same("meanwhile", d)
		}
	})
	wanted := int64(1)
	if all {
		wanted = 3 // in more rounds than one
	}
	testpeer.WaitFor(t, "steps to fail", 30*time.Second, func() error {
		if n := failed.Load(); n < wanted {
			return fmt.Errorf("%d have failed of %d", n, wanted)
		}
		return nil
	})
	same("afterwards", d)
	same("afterwards, to somebody else", other)
	check(t, what+", afterwards, to a newcomer", dir, want)
	healed.Store(true)
	testpeer.WaitFor(t, "a round that comes to its end", 30*time.Second, func() error {
		if left := leftovers(t, dir, writers, s.keeps()); len(left) > 0 {
			return fmt.Errorf("%s, and healed: left over: %q, %+v", what, left, d.Stats().Fold)
		}
		return nil
	})
	same("healed", d)
	same("healed, to somebody else", other)
	check(t, what+", healed, to a newcomer", dir, want)
}

// locked reports whether a step is made while nobody may list the directory.
func locked(s fold.Step) bool { return slices.Contains([]string{"claim", "return", "commit"}, s.Op) }
