package foldtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// history is what became of a directory: folds, between which writers die.
type history struct {
	*recorder
	r       *random
	writers []*writer
	kinds   []mmapfile.Name
	n       int // writers of each kind that die before each fold
	// ended says that a fold has come to its end that was to be killed.
	ended bool
}

// die has more writers leave their files, some of them under the ids of earlier ones.
func (h *history) die() {
	for _, kind := range h.kinds {
		for range h.n {
			w := h.r.writer(kind, false)
			if i := h.r.IntN(len(h.writers) + 1); i < len(h.writers) && kind.Mode != mmapfile.All && h.writers[i].ruby == w.ruby {
				w.name.ID = h.writers[i].name.ID
			}
			if slices.Contains(list(h.t, h.dir), w.name.String()) {
				continue // it would go on with a file that there is
			}
			h.writers = append(h.writers, w)
			h.leave(w, len(h.writers)-1)
		}
	}
}

// fold folds the directory until the process is killed before a step, or to the end.
func (h *history) fold(kill int) {
	from := h.steps
	h.ops = append(h.ops, op{what: "begin"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		d := openDir(h.dir, multiproc.Forever, func(s fold.Step) error {
			if h.steps-from == kill {
				h.done()
				runtime.Goexit()
			}
			return h.hook(s)
		})
		defer d.Close()
		if _, err := d.FoldOnce(context.Background()); err != nil {
			h.t.Error(err)
		}
		h.done()
		h.ended = h.ended || kill >= 0
	}()
	<-done
}

// live makes a history. Its folds are killed before those steps, at -1 not at all.
func live(t testing.TB, r *random, dir string, writers []*writer, kinds []mmapfile.Name, n int, kills ...int) *history {
	h := &history{recorder: record(t, dir), r: r, writers: writers, kinds: kinds, n: n}
	for _, kill := range kills {
		h.die()
		h.fold(kill)
	}
	classify(h.ops)
	// The disk that the ops make is the one that there is.
	whole := newState()
	for name, data := range h.base {
		whole.files[name] = content{data: data}
	}
	for i := range h.ops {
		whole.apply(&h.ops[i], nil)
	}
	real := newState()
	for name, data := range files(t, dir) {
		real.files[name] = content{data: data}
	}
	if whole.key() != real.key() {
		t.Fatalf("what was noted of the directory makes %v, there is %v", whole, real)
	}
	return h
}

// crashes yields the states of the disk after a crash at any time.
func (h *history) crashes(ops []op, most int) func(func(state) bool) {
	return func(yield func(state) bool) {
		more := true
		for end := range len(ops) + 1 {
			after(h.base, ops, end, h.r.Rand, most, func(s state) bool {
				more = yield(s)
				return more
			})
			if !more {
				return
			}
		}
	}
}

// left returns the writers of whom the disk has a file, or ever had.
func (h *history) left(s state) (writers []*writer) {
	for i, w := range h.writers {
		if !s.lost[i] {
			writers = append(writers, w)
		}
	}
	return writers
}

// recovered says what is wrong with a directory after a crash, at first and once it has
// been folded. It is empty if nothing is.
func (h *history) recovered(s state) string {
	dir := s.write(h.t)
	left := h.left(s)
	want := merged(left, true)
	d := openDir(dir, multiproc.Forever, nil)
	defer d.Close()
	if diff := want.differ(snapshot(h.t, d)); diff != "" {
		return "(-model +served):\n" + diff
	}
	if _, err := d.FoldOnce(context.Background()); err != nil {
		return fmt.Sprintf("folding: %v", err)
	}
	if diff := want.differ(snapshot(h.t, d)); diff != "" {
		return "folded (-model +served):\n" + diff
	}
	other := openDir(dir, multiproc.Forever, nil)
	defer other.Close()
	if diff := want.differ(snapshot(h.t, other)); diff != "" {
		return "folded, to somebody else (-model +served):\n" + diff
	}
	if left := leftovers(h.t, dir, left, true); len(left) > 0 {
		return fmt.Sprintf("folded: left over: %q", left)
	}
	return ""
}

// survey looks at the states after a crash of a history at any time, each once.
type survey struct {
	t      testing.TB
	most   int // of each instant
	seen   map[string]bool
	states int // that were looked at
	failed int
}

func (v *survey) look(h *history) {
	for s := range h.crashes(h.ops, v.most) {
		if key := s.key(); v.seen[key] {
			continue
		} else {
			v.seen[key] = true
		}
		v.states++
		if wrong := h.recovered(s); wrong != "" {
			if v.failed++; v.failed <= 3 {
				v.t.Errorf("after a crash that leaves %v: %s", s, wrong)
			}
		}
	}
}

// TestMachineStops: the machine stops at any instant of several folds, some of them cut
// short by the death of the daemon, between which writers die. Whatever the disk has
// of it, no value is lost or counts twice.
func TestMachineStops(t *testing.T) {
	seed := testpeer.Seed(t)
	t.Run("two counters", func(t *testing.T) {
		v := &survey{t: t, most: 1 << 12, seen: make(map[string]bool)}
		cuts := 0
		for kill := 0; ; kill++ {
			r := &random{Rand: rand.New(rand.NewPCG(seed, 0))}
			h := live(t, r, place(t), nil, kinds()[:1], 2, -1, kill, -1)
			v.look(h)
			cuts++
			if t.Failed() || h.ended {
				break
			}
		}
		t.Logf("%d histories of 3 folds, the second cut short at each step: %d states, %d wrong", cuts, v.states, v.failed)
	})
	t.Run("all types and modes", func(t *testing.T) {
		v := &survey{t: t, most: 4, seen: make(map[string]bool)}
		histories, n := 4, 3
		if long() {
			v.most, histories, n = 64, 20, len(kinds())
		}
		ops := 0
		for i := range histories {
			r := &random{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
			some := kinds()
			r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			h := live(t, r, place(t), nil, some[:n], 1, r.IntN(8*n), r.IntN(8*n), -1)
			v.look(h)
			ops += len(h.ops)
		}
		t.Logf("%d histories of 3 folds, %d operations: %d states, %d wrong", histories, ops, v.states, v.failed)
	})
	t.Run("crash after crash", func(t *testing.T) {
		v := &survey{t: t, most: 16, seen: make(map[string]bool)}
		crashes := 40
		if long() {
			crashes = 2000
		}
		r := &random{Rand: rand.New(rand.NewPCG(seed, 1))}
		var writers []*writer
		dir := place(t)
		for range crashes {
			h := live(t, r, dir, writers, kinds()[:2], 1, r.IntN(30)-1, r.IntN(30)-1)
			// The machine goes on with one of the states that it may have stopped in.
			var next state
			n := 0
			for s := range h.crashes(h.ops, 2) {
				if n++; r.IntN(n) == 0 {
					next = s
				}
			}
			if wrong := h.recovered(next); wrong != "" {
				t.Fatalf("after a crash that leaves %v: %s", next, wrong)
			}
			dir, writers = next.write(t), slices.Clone(h.left(next))
			v.states++
		}
		t.Logf("%d crashes, of %d writers", v.states, len(writers))
	})
}

// TestSyncsAreNeeded: without the syncs of any one purpose some crash loses a value, or
// counts one twice. So none is superfluous, and TestMachineStops would notice.
func TestSyncsAreNeeded(t *testing.T) {
	seed := testpeer.Seed(t)
	for _, purpose := range []string{draftSync, claimSync, commitSync, lingerSync} {
		t.Run(purpose, func(t *testing.T) {
			states, syncs := 0, 0
			for kill := 0; ; kill++ {
				r := &random{Rand: rand.New(rand.NewPCG(seed, 0))}
				h := live(t, r, place(t), nil, kinds()[:1], 2, -1, kill, -1)
				ops := without(h.ops, purpose)
				syncs += len(h.ops) - len(ops)
				for s := range h.crashes(ops, 1<<12) {
					if s.unsaid {
						continue // of a writer whose file is not there nothing is missed
					}
					states++
					if wrong := h.recovered(s); wrong != "" {
						t.Logf("without the sync %s: state %d, %v: %s", purpose, states, s, wrong)
						return
					}
				}
				if h.ended {
					break
				}
			}
			t.Errorf("without the sync %s, of which there are %d, all %d states are sound", purpose, syncs, states)
		})
	}
}
