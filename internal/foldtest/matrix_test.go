package foldtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// scene is a directory that is to be folded.
type scene struct {
	name      string
	retention time.Duration // of "all" gauges of the dead
	bump      string        // what a writer does meanwhile
	// build writes the files, and returns who has ever written any.
	build func(t testing.TB, r *random, dir string) []*writer
}

func (s *scene) keeps() bool { return s.retention == multiproc.Forever }

// leave has writers leave their files.
func leave(t testing.TB, dir string, writers []*writer) []*writer {
	t.Helper()
	for _, w := range writers {
		w.leave(t, dir)
	}
	return writers
}

var counters = mmapfile.Name{Type: mmapfile.Counter}

// scenes are what the matrix is made of.
func scenes() []scene {
	some := func(t testing.TB, r *random, dir string) []*writer {
		writers := append(r.many(1, true, counters), r.many(1, false, counters)...)
		for range 2 { // for writers that take them up
			w := r.writer(counters, false)
			w.name.ID, w.ruby, w.layout = fmt.Sprint("web_", r.pid), false, mmapfile.ValueTimestamp
			writers = append(writers, w)
		}
		return leave(t, dir, writers)
	}
	all := func(kinds ...mmapfile.Name) func(t testing.TB, r *random, dir string) []*writer {
		return func(t testing.TB, r *random, dir string) []*writer {
			writers := r.many(1, false, kinds...)
			return leave(t, dir, append(writers, r.many(1, true, counters, mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.LiveSum})...))
		}
	}
	return []scene{
		{"counters", multiproc.Forever, "", some},
		{"all types and modes", multiproc.Forever, "", all(kinds()...)},
		{"all gauge modes, no retention", 0, "", all(kinds()[3:]...)},
		{"onto older archives", multiproc.Forever, "", func(t testing.TB, r *random, dir string) []*writer {
			old := leave(t, dir, r.many(2, false, kinds()[:3]...))
			foldAll(t, dir, multiproc.Forever)
			return append(old, leave(t, dir, r.many(1, false, kinds()[:3]...))...)
		}},
		{"claimed files left over", multiproc.Forever, "", func(t testing.TB, r *random, dir string) []*writer {
			writers := leave(t, dir, r.many(2, false, kinds()[:2]...))
			stopAt(t, dir, "create")
			return append(writers, leave(t, dir, r.many(1, false, kinds()[:2]...))...)
		}},
		{"lingering files and a draft left over", multiproc.Forever, "", func(t testing.TB, r *random, dir string) []*writer {
			writers := leave(t, dir, r.many(3, false, counters))
			foldAll(t, dir, multiproc.Forever)
			writers = append(writers, leave(t, dir, r.many(3, false, counters))...)
			stopAt(t, dir, "delete")
			for _, draft := range []string{".promagg_counter_archived.tmp", ".promagg_gauge_max_archived.tmp"} {
				if err := os.WriteFile(filepath.Join(dir, draft), []byte("half of it"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// The same ids again, which must not be taken for those that linger.
			for _, w := range writers[3:] {
				again := r.writer(counters, false)
				again.name, again.ruby, again.layout = w.name, w.ruby, w.layout
				writers = append(writers, again)
				again.leave(t, dir)
			}
			return writers
		}},
		{"taken up at each step, and let go of", multiproc.Forever, bumpPass, some},
		{"taken up at each step, and held", multiproc.Forever, bumpStay, some},
		{"opened late, when claimed", multiproc.Forever, bumpLate, some},
	}
}

// stopAt folds a directory and ends before the first step of that kind.
func stopAt(t testing.TB, dir, op string) {
	t.Helper()
	if ended, err := foldUntil(dir, multiproc.Forever, func(_ int, s fold.Step) bool { return s.Op == op }); ended {
		t.Fatalf("the fold has come to its end without a step %q: %v", op, err)
	}
}

// TestKilledAtEachStep: the daemon is killed before each step of a fold. Whoever
// reads the directory then, and whoever goes on with it, has what the writers left.
func TestKilledAtEachStep(t *testing.T) {
	seed := testpeer.Seed(t)
	table := make([]string, len(scenes()))
	t.Run("scenes", func(t *testing.T) {
		for i, s := range scenes() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				dir := place(t)
				writers := s.build(t, &random{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}, dir)
				steps, sound := s.kill(t, dir, writers)
				result := "all exact"
				if sound < steps+1 {
					result = fmt.Sprintf("%d of %d NOT EXACT", steps+1-sound, steps+1)
				}
				table[i] = fmt.Sprintf("| %-40s | %5d | %9d | %s |", s.name, steps, steps+1, result)
			})
		}
	})
	t.Logf("\n| %-40s | steps | processes | totals |\n| --- | --- | --- | --- |\n%s", "scene", strings.Join(table, "\n"))
}

// kill folds copies of a directory, with the process killed before each step in turn
// and once not at all, and returns how many steps there are and how many copies were
// found exact.
func (s *scene) kill(t *testing.T, template string, writers []*writer) (steps, sound int) {
	names := deadCounters(writers)
	dir := copyDir(t, template)
	release := hold(t, dir, writers)
	all := child{Dir: dir, Retention: s.retention, Kill: -1, Bump: s.bump, Names: names}.start(t)
	release()
	first := slices.IndexFunc(all, lateStep)
	for k := range len(all) + 1 {
		what := "not killed"
		if k < len(all) {
			what = fmt.Sprintf("killed before step %d of %d, %s", k, len(all), describe(all[k]))
		}
		bumps := 0
		switch {
		case s.bump == bumpPass, s.bump == bumpStay:
			bumps = k
		case s.bump == bumpLate && k > first:
			bumps = 1
		}
		ok := t.Run(fmt.Sprint(k), func(t *testing.T) {
			dir := copyDir(t, template)
			release := hold(t, dir, writers)
			defer release()
			if again := (child{Dir: dir, Retention: s.retention, Kill: k, Bump: s.bump, Names: names}).start(t); k == len(all) && len(again) != k {
				t.Errorf("%d steps, %d at first", len(again), k)
			}
			s.checkKilled(t, what, dir, writers, bumps)
		})
		if ok {
			sound++
		}
	}
	return len(all), sound
}

// checkKilled looks at what a process has left that was killed.
func (s *scene) checkKilled(t *testing.T, what, dir string, writers []*writer, bumps int) {
	forking.RLock()
	defer forking.RUnlock()
	b := &bumper{dir: dir, names: deadCounters(writers), stay: true}
	defer b.close()
	want := func() totals {
		if n := bumps + b.n; n > 0 {
			return merged(append(slices.Clone(writers), bumped(n)), s.keeps())
		}
		return merged(writers, s.keeps())
	}
	check(t, what, dir, want())
	if s.bump != "" {
		// Now that the daemon is dead, too, a writer takes up the names.
		for range b.names {
			if err := b.bump(); err != nil {
				t.Fatal(err)
			}
		}
		check(t, what+", and files taken up", dir, want())
		foldAll(t, dir, s.retention)
		check(t, what+", and folded while a writer lives", dir, want())
		if err := b.close(); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(dir, s.retention, nil)
	defer d.Close()
	if _, err := d.FoldOnce(t.Context()); err != nil {
		t.Fatalf("%s: the next fold: %v", what, err)
	}
	if diff := want().differ(snapshot(t, d)); diff != "" {
		t.Errorf("%s, and folded (-model +served):\n%s", what, diff)
	}
	check(t, what+", and folded, to somebody else", dir, want())
	if left := leftovers(t, dir, writers, s.keeps()); len(left) > 0 {
		t.Errorf("%s, and folded: left over: %q", what, left)
	}
}
