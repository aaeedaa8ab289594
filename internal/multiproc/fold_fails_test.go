package multiproc

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// litter is a directory with an archive of counters, dead writers' files of several
// kinds and one that is alive, each with a value that is a power of four of its own:
// a total tells which of them are in it, and whether one is in it twice.
type litter struct {
	dir string
	d   *Dir
	log *logBuffer
	w   *folder
	// living is the writer that is alive.
	living *mmapfile.Writer
	// hook is what the fold's steps are told to.
	hook func(fold.Step) error
}

// The values of what a litter has in its counters.
const (
	inLiving  = 1
	inArchive = 4
	inDead    = 16 // and 64, 256
	inAll     = inLiving + inArchive + inDead*(1+4+16)
)

func newLitter(t *testing.T, dir string) *litter {
	t.Helper()
	l := &litter{hook: func(fold.Step) error { return nil }}
	l.look(t, dir)
	die := func(base, sample string, v float64) {
		w, _ := write(t, dir, base, sample, v)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.living, _ = write(t, dir, "counter_1.db", "c_total", inLiving)
	die("counter_0.db", "c_total", inArchive)
	if err := l.round(t); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		die(fmt.Sprintf("counter_%d.db", 10+i), "c_total", float64(inDead*int(1<<(2*i))))
	}
	for i := range 2 {
		die(fmt.Sprintf("gauge_max_%d.db", 20+i), "max", float64(1+i))
		die(fmt.Sprintf("gauge_livesum_%d.db", 20+i), "live", 1)
		die(fmt.Sprintf("gauge_all_%d.db", 20+i), "all", 7)
	}
	l.d.Sync(true)
	return l
}

// look has another promagg look at the directory and fold it, by this name of it.
func (l *litter) look(t *testing.T, dir string) {
	t.Helper()
	l.dir = dir
	l.d, l.log = open(t, dir, mmapfile.ProbeAuto)
	l.d.opts.Fold.Retention = Forever
	l.d.opts.Fold.Hook = func(s fold.Step) error { return l.hook(s) }
	l.w = &folder{d: l.d}
	t.Cleanup(l.w.close)
}

// round folds what there is, as Run does.
func (l *litter) round(t *testing.T) error {
	t.Helper()
	l.d.Sync(true)
	err := l.w.round(t.Context(), 1)
	l.w.report(err)
	return err
}

// steps returns what the fold of a litter does, step by step.
func steps(t *testing.T) []fold.Step {
	t.Helper()
	var all []fold.Step
	l := newLitter(t, t.TempDir())
	l.hook = func(s fold.Step) error {
		all = append(all, s)
		return nil
	}
	if err := l.round(t); err != nil {
		t.Fatal(err)
	}
	ops := make(map[string]int)
	for _, s := range all {
		ops[s.Op]++
	}
	// Of live gauges, too, files are claimed and deleted.
	want := map[string]int{"claim": 3 + 2 + 2, "delete": 3 + 2 + 2, "create": 2, "write": 2, "sync": 2, "commit": 2, "syncdir": 4}
	if !maps.Equal(ops, want) {
		t.Fatalf("the fold makes the steps %v, want %v", ops, want)
	}
	return all
}

// atStep calls do before the nth step that comes, from 0 on.
func atStep(n int, do func() error) func(fold.Step) error {
	return func(fold.Step) error {
		if n--; n == -1 {
			return do()
		}
		return nil
	}
}

// wantAll wants all values of the litter from a promagg that has been there all the
// time and from one that comes now.
func (l *litter) wantAll(t *testing.T, what string) {
	t.Helper()
	fresh, _ := open(t, l.dir, mmapfile.ProbeAuto)
	defer fresh.Close()
	for who, d := range map[string]*Dir{"the one that folds": l.d, "one that comes": fresh} {
		want(t, what+", "+who, values(t, d), "c_total", inAll, "max", 2, "all", 7)
	}
}

// wantFolded wants the directory as it is when there is nothing to do any more.
func (l *litter) wantFolded(t *testing.T) {
	t.Helper()
	for range 2 { // what a cut-off fold has left, and what it had not come to
		if err := l.round(t); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, l.dir, "counter_1.db", "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_max_archived.db")
	drafts, err := filepath.Glob(filepath.Join(l.dir, ".promagg*.tmp"))
	if err != nil || len(drafts) > 0 {
		t.Errorf("drafts are left: %q, %v", drafts, err)
	}
}

// doStep makes a step of a fold in its place.
func doStep(dir string, s fold.Step) error {
	from, to := filepath.Join(dir, s.From), filepath.Join(dir, s.To)
	switch s.Op {
	case "claim", "return", "commit":
		return os.Rename(from, to)
	case "delete":
		return os.Remove(from)
	case "create":
		return os.WriteFile(from, nil, 0o600)
	}
	return nil // what is written or synced can't be told from outside
}

// TestFoldStepFails: whatever step of a fold fails, for whatever reason, made or not,
// and however often: no value changes, it is logged once and counted each time, and
// the fold goes on where it was once the step succeeds.
func TestFoldStepFails(t *testing.T) {
	type failing struct {
		at    int
		step  fold.Step
		errno syscall.Errno
		made  bool
	}
	var all []failing
	for i, step := range steps(t) {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
			all = append(all, failing{i, step, errno, false}, failing{i, step, errno, true})
		}
	}
	for _, f := range some(t, 60, all) {
		t.Run(fmt.Sprintf("%d %s %v made=%v", f.at, f.step.Op, f.errno, f.made), func(t *testing.T) {
			testStepFails(t, f.at, f.step, f.errno, f.made)
		})
	}
}

// some returns so many of a test's cases, by chance, or all of them with
// PROMAGG_TEST_ALL=1 in the environment.
func some[T any](t *testing.T, n int, cases []T) []T {
	t.Helper()
	if os.Getenv("PROMAGG_TEST_ALL") != "" || n >= len(cases) {
		return cases
	}
	testpeer.Rand(t).Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	return cases[:n]
}

func testStepFails(t *testing.T, at int, failing fold.Step, errno error, made bool) {
	l := newLitter(t, t.TempDir())
	n := -1
	l.hook = func(s fold.Step) error {
		// A claim that was made gets another number the next time; it is the same file.
		if n++; n < at || s.Op != failing.Op || s.From != failing.From {
			return nil
		}
		if made {
			if err := doStep(l.dir, s); err != nil {
				return err
			}
		}
		return &os.PathError{Op: s.Op, Path: s.From, Err: errno}
	}
	rounds := 3
	if made && failing.Op != "syncdir" {
		rounds = 1 // the next one finds it made
	}
	before := l.d.Stats().Fold.Failed
	for n := range rounds {
		if err := l.round(t); !errors.Is(err, errno) {
			t.Fatalf("round %d: %v, want %v", n, err, errno)
		}
		l.wantAll(t, fmt.Sprintf("after round %d", n))
	}
	barred := errno == syscall.EROFS
	level, counted := "level=ERROR", uint64(rounds)
	if barred {
		level, counted = "level=WARN", 0
	}
	if n := l.log.count(level, errno.Error()); n != 1 {
		t.Errorf("logged %d times:\n%s", n, l.log)
	}
	if n := l.d.Stats().Fold.Failed - before; n != counted {
		t.Errorf("counted %d times, want %d", n, counted)
	}
	l.hook = func(fold.Step) error { return nil }
	l.wantFolded(t)
	l.wantAll(t, "in the end")
}

// TestFoldGoesOn: an archive that is none any more is left as it is, and does not keep
// files of other types from being folded.
func TestFoldGoesOn(t *testing.T) {
	for _, suffix := range []string{"", ".new"} { // broken in place, or replaced by another file
		l := newLitter(t, t.TempDir())
		path := filepath.Join(l.dir, "counter_archived.db")
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := slices.Clone(sound)
		broken[len(broken)-1] ^= 1
		if err := errors.Join(os.WriteFile(path+suffix, broken, 0o644), os.Rename(path+suffix, path)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := l.round(t); !errors.Is(err, mmapfile.ErrTrailer) {
				t.Fatalf("%v, want %v", err, mmapfile.ErrTrailer)
			}
			l.wantAll(t, "with a broken archive")
			if now, err := os.ReadFile(path); err != nil || !slices.Equal(now, broken) {
				t.Errorf("the broken archive is another one: %v", err)
			}
		}
		if all := strings.Join(names(t, l.dir), " "); !strings.Contains(all, "gauge_max_archived.db") || strings.Contains(all, "livesum") {
			t.Errorf("the other files are not folded: %s", all)
		}
		if n := l.log.count("level=ERROR", "move it away"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, l.log)
		}
		if err := os.WriteFile(path, sound, 0o644); err != nil {
			t.Fatal(err)
		}
		l.wantFolded(t)
		l.wantAll(t, "in the end")
	}
}
