package multiproc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestFreeze: a file whose writer is dead is read a last time and no longer
// mapped, and its values count as before.
func TestFreeze(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true) // as Run does
	w, off := write(t, dir, "counter_1.db", "c_total", 5)
	other, otherOff := write(t, dir, "counter_2.db", "c_total", 7)
	recent, _ := write(t, dir, "gauge_mostrecent_1.db", "g", 3)
	want(t, "alive", values(t, d), "c_total", 12, "g", 3)
	w.Set(off, 6) // its last words
	w.Close()
	recent.Close()
	d.Sync(true)
	if s := d.Stats(); s.Frozen != 2 || s.Mapped != 1 || s.Dead != 2 || s.Entries != 3 {
		t.Errorf("%d frozen, %d mapped, %d dead, %d entries; want 2, 1, 2, 3", s.Frozen, s.Mapped, s.Dead, s.Entries)
	}
	other.Set(otherOff, 8)
	want(t, "frozen", values(t, d), "c_total", 14, "g", 3)

	// A new writer takes one up. It is served from the next look at everything on.
	w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "not noticed yet", values(t, d), "c_total", 14, "g", 3)
	d.Sync(true)
	w.Set(off, 10)
	want(t, "taken up", values(t, d), "c_total", 18, "g", 3)
	w.Close()
	d.Sync(true)
	want(t, "frozen again", values(t, d), "c_total", 18, "g", 3)

	// The directory is the truth: what is deleted takes its values with it.
	if err := os.Remove(filepath.Join(dir, "counter_1.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "deleted", values(t, d), "c_total", 8, "g", 3)
}

// TestFreezeAtStart: the dead that are there at the start are frozen at once.
func TestFreezeAtStart(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		w, _ := write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		w.Close()
	}
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	want(t, "at first", values(t, d), "c_total", 20)
	if s := d.Stats(); s.Frozen != 20 || s.Mapped != 0 || s.Bytes != 0 {
		t.Errorf("%d frozen, %d mapped, %d bytes", s.Frozen, s.Mapped, s.Bytes)
	}
	// Without anybody who tells of writers that come and go nothing stays frozen.
	d.freeze(false)
	d.Sync(true)
	if s := d.Stats(); s.Frozen != 0 || s.Mapped != 20 {
		t.Errorf("%d frozen, %d mapped", s.Frozen, s.Mapped)
	}
	want(t, "thawed", values(t, d), "c_total", 20)
}

// TestTaken: Run notices of itself that a frozen file is taken up, on filesystems
// whose times tell it (of the temporary directory, mostly) and on those where they
// do not (tmpfs).
func TestTaken(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "promagg-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	for _, dir := range []string{t.TempDir(), shm} {
		testTaken(t, dir)
	}
}

func testTaken(t *testing.T, dir string) {
	w, off := write(t, dir, "counter_1.db", "c_total", 5)
	w.Close()
	d := Open(Options{Path: dir, Rescan: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	defer d.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { d.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	frozen := func(n int) {
		t.Helper()
		testpeer.WaitFor(t, fmt.Sprintf("%d frozen files", n), 10*time.Second, func() error {
			if s := d.Stats(); s.Frozen != n {
				return fmt.Errorf("%d are", s.Frozen)
			}
			return nil
		})
	}
	frozen(1)
	w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Set(off, 6)
	frozen(0)
	want(t, "taken up", values(t, d), "c_total", 6)
	w.Close()
	frozen(1)
	want(t, "dead again", values(t, d), "c_total", 6)
	// One that comes and goes before anybody looks.
	for i := range 20 {
		w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Set(off, float64(7+i))
		w.Close()
		testpeer.WaitFor(t, "what it wrote", 10*time.Second, func() error {
			if got := values(t, d)["c_total"]; got != float64(7+i) {
				return fmt.Errorf("got %v, want %v", got, 7+i)
			}
			return nil
		})
	}
	frozen(1)
}

// TestFewMappings: files past the budget are read, to the same effect, and mapped
// once there is room.
func TestFewMappings(t *testing.T) {
	for name, budget := range map[string]*mmapfile.Budget{
		"no descriptors": mmapfile.NewBudget(0, 3),
		"no mappings":    mmapfile.NewBudget(100, 0),
		"few of each":    mmapfile.NewBudget(5, 5),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := Open(Options{Path: dir, Rescan: time.Hour, Budget: budget})
			defer d.Close()
			d.freeze(true)
			var writers []*mmapfile.Writer
			var offs []uint32
			for i := range 10 {
				w, off := write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
				writers, offs = append(writers, w), append(offs, off)
			}
			gauge, gaugeOff := write(t, dir, "gauge_livemostrecent_1.db", "g", 4)
			want(t, "at first", values(t, d), "c_total", 10, "g", 4)
			s := d.Stats()
			if s.Mapped+s.Read != 11 || s.Read < 6 || s.Mapped != int(budget.Mapped()) {
				t.Errorf("%d mapped, %d read", s.Mapped, s.Read)
			}
			for i, w := range writers {
				w.Set(offs[i], 3)
				if _, err := w.Append(fmt.Appendf(nil, `["n%d", "n%d_total", {}, ""]`, i%2, i%2)); err != nil {
					t.Fatal(err)
				}
			}
			gauge.SetAt(gaugeOff, 5, 2)
			want(t, "grown", values(t, d), "c_total", 30, "g", 5, "n0_total", 0, "n1_total", 0)
			selected, err := d.Select(t.Context(), func(find func(string) *merge.Family) []*merge.Family {
				return []*merge.Family{find("c_total")}
			})
			if err != nil {
				t.Fatal(err)
			}
			want(t, "selected", valuesOf(selected), "c_total", 30)
			for _, w := range writers[:8] {
				w.Close()
			}
			d.Sync(true)
			d.Sync(true) // what was frozen has left room
			want(t, "frozen", values(t, d), "c_total", 30, "g", 5, "n0_total", 0, "n1_total", 0)
			if s := d.Stats(); s.Frozen != 8 || s.Mapped+s.Read != 3 || s.Mapped != int(budget.Mapped()) {
				t.Errorf("%d frozen, %d mapped, %d read", s.Frozen, s.Mapped, s.Read)
			}
			if name != "no mappings" && d.Stats().Read != 0 {
				t.Errorf("%d files are still read", d.Stats().Read)
			}
			if damaged := d.Damaged(); len(damaged) > 0 {
				t.Error(damaged)
			}
		})
	}
}

// TestTend: each file has its turn in as many calls as there are shares.
func TestTend(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	var writers []*mmapfile.Writer
	for i := range 7 {
		w, _ := write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		writers = append(writers, w)
	}
	want(t, "alive", values(t, d), "c_total", 7)
	for _, w := range writers {
		w.Close()
	}
	for range 4 * 4 {
		d.tend(4)
	}
	if s := d.Stats(); s.Frozen != 7 {
		t.Errorf("%d frozen, want 7", s.Frozen)
	}
	want(t, "frozen", values(t, d), "c_total", 7)
}
