package multiproc

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// size returns how much of something a test has: so much, or what an environment
// variable says for a run by hand.
func size(t *testing.T, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number, got %q", variable, s)
	}
	return n
}

// total adds up all series of a counter.
func total(t *testing.T, d *Dir, family string) (sum float64, series int) {
	t.Helper()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := s.Find(family)
	if f == nil {
		return 0, 0
	}
	for _, v := range s.Values(f)[:len(f.Series)] {
		sum += v
	}
	return sum, len(f.Series)
}

// runFolding keeps a directory watched and folded, as fast as can be.
func runFolding(t *testing.T, dir string) *Dir {
	t.Helper()
	d := Open(Options{Path: dir, Rescan: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Limits: new(Limits), // none: the full size has more than one file is given
		Fold:   Folding{Interval: 10 * time.Millisecond, Retention: Forever}})
	t.Cleanup(d.Close)
	run(t, d)
	return d
}

// waitFolded waits until a directory has only these files any more.
func waitFolded(t *testing.T, dir string, only ...string) {
	t.Helper()
	testpeer.WaitFor(t, "the fold", time.Minute, func() error {
		if all := names(t, dir); !slices.Equal(all, only) {
			return fmt.Errorf("%d files, such as %q", len(all), all[:min(len(all), 5)])
		}
		return nil
	})
}

// TestFoldMillion: a file of very many entries is folded, and another one again into
// the archive of those, while scrapes go on and see all of it each time.
// PROMAGG_TEST_ENTRIES=1000000 is the full size.
func TestFoldMillion(t *testing.T) {
	n := size(t, "PROMAGG_TEST_ENTRIES", 20000)
	dir := t.TempDir()
	die := func(base string, v float64) {
		w, err := mmapfile.Create(filepath.Join(dir, base), mmapfile.ValueTimestamp, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			off, err := w.Append(fmt.Appendf(nil, `["c", "c_total", {"i": "%d"}, "Help."]`, i))
			if err != nil {
				t.Fatal(err)
			}
			w.Set(off, v)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := Open(Options{Path: dir, Rescan: time.Hour, Limits: new(Limits), Fold: Folding{Retention: Forever}})
	t.Cleanup(d.Close)
	d.freeze(true)
	wanted := 0
	for round := range 3 {
		die("counter_1.db", 1)
		wanted += n
		if got, series := total(t, d, "c_total"); got != float64(wanted) || series != n {
			t.Fatalf("round %d: %v in %d series, want %d in %d", round, got, series, wanted, n)
		}
		stop, scraped := make(chan struct{}), make(chan time.Duration)
		go func() {
			longest := time.Duration(0)
			for done := false; !done; {
				select {
				case <-stop:
					done = true
				default:
				}
				begun := time.Now()
				if got, series := total(t, d, "c_total"); got != float64(wanted) || series != n {
					t.Errorf("round %d, during the fold: %v in %d series, want %d in %d", round, got, series, wanted, n)
				}
				longest = max(longest, time.Since(begun))
			}
			scraped <- longest
		}()
		begun := time.Now()
		s := foldOnce(t, d)
		took := time.Since(begun)
		close(stop)
		t.Logf("round %d: folded in %v; the longest scrape meanwhile took %v", round, took, <-scraped)
		if s.Folded != uint64(round+1) {
			t.Errorf("%d files are folded", s.Folded)
		}
		if got, series := total(t, d, "c_total"); got != float64(wanted) || series != n {
			t.Errorf("round %d, folded: %v in %d series, want %d in %d", round, got, series, wanted, n)
		}
		wantNames(t, dir, "counter_archived.db")
	}
	if entries := inArchiveOf(t, filepath.Join(dir, "counter_archived.db")); entries != n {
		t.Errorf("the archive has %d entries, want %d", entries, n)
	}
}

// TestFoldWhileGrowing: a file grows while it is read and others are folded. Each
// scrape has what was written before it and no more than what was written after.
func TestFoldWhileGrowing(t *testing.T) {
	n := size(t, "PROMAGG_TEST_ENTRIES", 20000)
	dir := t.TempDir()
	d := runFolding(t, dir)
	growing, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer growing.Close()
	var begun, done atomic.Int64
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range n {
			begun.Add(1)
			off, err := growing.Append(fmt.Appendf(nil, `["c", "c_total", {"i": "%d"}, "Help."]`, i))
			if err != nil {
				t.Error(err)
				return
			}
			growing.Set(off, 1)
			done.Add(1)
			if i%200 > 0 {
				continue
			}
			// One that comes and goes, with a series that it has alone.
			begun.Add(2)
			w, err := mmapfile.Create(filepath.Join(dir, fmt.Sprintf("counter_%d.db", 10+i)), mmapfile.ValueTimestamp, 0)
			if err == nil {
				var off uint32
				if off, err = w.Append(fmt.Appendf(nil, `["c", "c_total", {"of": "%d"}, "Help."]`, i)); err == nil {
					w.Set(off, 2)
				}
				err = w.Close()
			}
			if err != nil {
				t.Error(err)
				return
			}
			done.Add(2)
		}
	})
	scrapes := 0
	for done.Load() < int64(n) {
		least := done.Load()
		got, _ := total(t, d, "c_total")
		if most := begun.Load(); got < float64(least) || got > float64(most) {
			t.Fatalf("scrape %d: %v, want %d to %d", scrapes, got, least, most)
		}
		scrapes++
		if t.Failed() {
			break
		}
	}
	writing.Wait()
	waitFolded(t, dir, "counter_1.db", "counter_archived.db")
	if got, series := total(t, d, "c_total"); got != float64(begun.Load()) || series != n+(n+199)/200 {
		t.Errorf("in the end %v in %d series, want %d; dropped %v, damaged %v", got, series, begun.Load(), d.Stats().Dropped, d.Damaged())
	}
	t.Logf("%d scrapes, %d archives written", scrapes, d.Stats().Fold.Folds)
}

// TestFoldFlood: files come by the thousand at a time, and nobody writes them any more.
// PROMAGG_TEST_FILES=10000 is the full size.
func TestFoldFlood(t *testing.T) {
	n := size(t, "PROMAGG_TEST_FILES", 2000)
	dir, elsewhere := filepath.Join(t.TempDir(), "metrics"), filepath.Join(t.TempDir(), "prepared")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(elsewhere, 0o755)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		w, _ := write(t, elsewhere, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		w.Close()
	}
	d := runFolding(t, dir)
	waitFiles(t, d, "a watch", 0, true)
	var there atomic.Int64
	begun := time.Now()
	var coming sync.WaitGroup
	coming.Go(func() {
		for i := range n {
			base := fmt.Sprintf("counter_%d.db", i)
			if err := os.Rename(filepath.Join(elsewhere, base), filepath.Join(dir, base)); err != nil {
				t.Error(err)
				return
			}
			there.Add(1)
		}
		t.Logf("%d files in %v", n, time.Since(begun))
	})
	last, scrapes := 0.0, 0
	for there.Load() < int64(n) && !t.Failed() {
		least := there.Load()
		got, _ := total(t, d, "c_total")
		if got < float64(least) || got < last || got > float64(n) {
			t.Fatalf("%v of %d files, want at least %d and no less than the %v of before", got, n, least, last)
		}
		last = got
		scrapes++
	}
	coming.Wait()
	waitFolded(t, dir, "counter_archived.db")
	t.Logf("folded after %v, %d scrapes while they came", time.Since(begun), scrapes)
	if got, _ := total(t, d, "c_total"); got != float64(n) {
		t.Errorf("in the end %v, want %d", got, n)
	}
	if s := d.Stats(); s.Fold.Folded != uint64(n) || s.Fold.Failed > 0 {
		t.Errorf("%+v", s.Fold)
	}
}

// TestFoldOverflow: events of the kernel are lost that tell of files that come, and of a
// frozen one that was taken up and let go of. All of that is folded all the same.
func TestFoldOverflow(t *testing.T) {
	dir := t.TempDir()
	d := Open(Options{Path: dir, Rescan: time.Hour, Fold: Folding{Interval: 10 * time.Millisecond, Retention: Forever, MinFiles: 2}})
	t.Cleanup(d.Close)
	run(t, d)
	waitFiles(t, d, "a watch", 0, true)
	w, off := write(t, dir, "counter_1.db", "c_total", 1)
	w.Close()
	testpeer.WaitFor(t, "a frozen file", 30*time.Second, func() error { // alone it is not folded
		if s := d.Stats(); s.Frozen != 1 {
			return fmt.Errorf("%d are", s.Frozen)
		}
		return nil
	})
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var events int
	if _, err := fmt.Sscan(string(limit), &events); err != nil || events > 1<<20 {
		t.Fatalf("max_queued_events %s: %v", limit, err)
	}
	d.mu.Lock() // whoever reads the events, and the fold, wait here
	noise := filepath.Join(dir, "noise")
	for range events {
		if err := os.WriteFile(noise, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(noise); err != nil {
			t.Fatal(err)
		}
	}
	if w, err = mmapfile.Create(w.Path(), mmapfile.ValueTimestamp, 0); err != nil {
		t.Fatal(err)
	}
	w.Set(off, 4)
	w.Close()
	other, _ := write(t, dir, "counter_2.db", "c_total", 16)
	other.Close()
	d.mu.Unlock()
	waitFolded(t, dir, "counter_archived.db")
	want(t, "folded", values(t, d), "c_total", 20)
}

// TestFoldTruncated: a claimed file is cut off. It is given back and said to be damaged,
// what is left of it is served, and the others are folded.
func TestFoldTruncated(t *testing.T) {
	l := newLitter(t, t.TempDir())
	l.hook = func(s fold.Step) error {
		if s.Op == "claim" && s.From == "counter_12.db" {
			return os.Truncate(filepath.Join(l.dir, "counter_11~1.db"), 20)
		}
		return nil
	}
	without := inAll - inDead*4
	for range 2 {
		if err := l.round(t); err != nil {
			t.Fatal(err)
		}
		wantNames(t, l.dir, "counter_1.db", "counter_11.db", "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_max_archived.db")
		want(t, "with a file that is cut off", values(t, l.d), "c_total", without, "max", 2, "all", 7)
	}
	if n := l.log.count("counter_11"); n != 1 || l.log.count("level=ERROR") > 0 {
		t.Errorf("logged:\n%s", l.log)
	}
}

// TestFoldClock: the clock goes back and forth by hours, and the times that files were
// changed with it. Files come, are found and are folded all the same.
func TestFoldClock(t *testing.T) {
	rnd := testpeer.Rand(t)
	l := newLitter(t, t.TempDir())
	now := time.Now().Round(0) // without what tells that it goes back
	l.d.opts.Now = func() time.Time {
		now = now.Add(time.Duration(rnd.Int64N(int64(20*time.Hour))) - 10*time.Hour)
		return now
	}
	took := time.Duration(0)
	wanted := inAll
	for i := range 100 {
		w, _ := write(t, l.dir, fmt.Sprintf("counter_%d.db", 50+i), "c_total", 1)
		if i%10 > 0 {
			w.Close()
		}
		wanted++
		at := l.d.opts.Now()
		if err := os.Chtimes(l.dir, at, at); err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprintf("file %d", i), values(t, l.d), "c_total", wanted, "max", 2, "all", 7)
		if err := l.w.round(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprintf("file %d, folded", i), values(t, l.d), "c_total", wanted, "max", 2, "all", 7)
		s := l.d.Stats().Fold
		if s.Took < took {
			t.Errorf("the time that folding took went from %v to %v", took, s.Took)
		}
		took = s.Took
	}
	// Who was found dead at a time that is yet to come is left alone until it has come.
	now = now.Add(2000 * time.Hour)
	l.d.opts.Now = func() time.Time { return now }
	if err := l.round(t); err != nil {
		t.Fatal(err)
	}
	want(t, "in the end", values(t, l.d), "c_total", wanted, "max", 2, "all", 7)
	if s := l.d.Stats(); s.Fold.Folded != 1+3+2+90 || s.Alive != 11 {
		t.Errorf("%d files are folded, %d have a writer", s.Fold.Folded, s.Alive)
	}
}

// TestFoldRetentionClock: who has set the clock forward and back again has not made a
// gauge's time be over for good, nor kept it for ever.
func TestFoldRetentionClock(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	now := time.Now()
	d.opts.Now = func() time.Time { return now }
	d.opts.Fold.Retention = time.Hour
	w, _ := write(t, dir, "gauge_all_1.db", "g", 1)
	w.Close()
	foldOnce(t, d)
	for _, step := range []time.Duration{59 * time.Minute, -50 * time.Hour, 50 * time.Hour} {
		now = now.Add(step)
		foldOnce(t, d)
		wantNames(t, dir, "gauge_all_1.db")
	}
	now = now.Add(time.Minute)
	foldOnce(t, d)
	wantNames(t, dir)
}
