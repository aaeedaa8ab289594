package multiproc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// starve calls do as a process that may open no more files.
func starve(t *testing.T, do func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	do()
}

// TestStarvedReads: files that can't be read for want of descriptors fail the
// snapshot, and are not said to be damaged. Half of the values would look like a
// reset.
func TestStarvedReads(t *testing.T) {
	dir := t.TempDir()
	log := new(logBuffer)
	d := Open(Options{Path: dir, Rescan: time.Hour, Budget: mmapfile.NewBudget(0, 2), Logger: slog.New(slog.NewTextHandler(log, nil))})
	defer d.Close()
	for i := range 6 {
		write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
	}
	past := time.Now().Add(-time.Minute) // so that the directory is not listed again
	if err := os.Chtimes(dir, past, past); err != nil {
		t.Fatal(err)
	}
	want(t, "at first", values(t, d), "c_total", 6)
	starve(t, func() {
		if s, err := d.Snapshot(context.Background()); err == nil {
			t.Errorf("without descriptors: got %v, want an error", valuesOf(s))
		}
		if _, err := d.Select(context.Background(), func(find func(string) *merge.Family) []*merge.Family {
			return []*merge.Family{find("c_total")}
		}); err == nil {
			t.Error("without descriptors: a selection was made")
		}
	})
	want(t, "with descriptors again", values(t, d), "c_total", 6)
	if damaged := d.Damaged(); len(damaged) > 0 || log.count("can't be read") > 0 {
		t.Errorf("damaged: %v, log:\n%s", damaged, log)
	}
}

// TestStarvedThaw: a frozen file that can't be opened when its writer returns
// remains what it was.
func TestStarvedThaw(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	w, _ := write(t, dir, "counter_1.db", "c_total", 5)
	w.Close()
	write(t, dir, "counter_2.db", "c_total", 7)
	want(t, "one is dead", values(t, d), "c_total", 12)
	if d.Stats().Frozen != 1 {
		t.Fatal("it is not frozen")
	}
	starve(t, func() { d.released(closing{names: []string{"counter_1.db"}}) })
	want(t, "could not be opened", values(t, d), "c_total", 12)
	d.released(closing{names: []string{"counter_1.db"}})
	want(t, "opened", values(t, d), "c_total", 12)
}

// TestReadTruncated: of a file that is read and cut off, what is there counts, and
// it is said to be damaged.
func TestReadTruncated(t *testing.T) {
	dir := t.TempDir()
	d := Open(Options{Path: dir, Rescan: time.Hour, Budget: mmapfile.NewBudget(10, 0)})
	defer d.Close()
	w, _ := write(t, dir, "counter_1.db", "c_total", 5)
	for i := range 500 {
		if _, err := w.Append(fmt.Appendf(nil, `["n%d", "n%d_total", {}, ""]`, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, d); len(got) != 501 {
		t.Fatalf("%d families", len(got))
	}
	if err := os.Truncate(filepath.Join(dir, "counter_1.db"), 4096); err != nil {
		t.Fatal(err)
	}
	if got := values(t, d); got["c_total"] != 5 || len(got) > 200 {
		t.Errorf("%d families, c_total is %v", len(got), got["c_total"])
	}
	if len(d.Damaged()) != 1 {
		t.Errorf("damaged: %v", d.Damaged())
	}
}

// TestReadClaims: a file that claims to be large takes no memory for that.
func TestReadClaims(t *testing.T) {
	dir := t.TempDir()
	d := Open(Options{Path: dir, Rescan: time.Hour, Budget: mmapfile.NewBudget(0, 0)})
	defer d.Close()
	write(t, dir, "counter_1.db", "c_total", 5)
	if err := os.WriteFile(filepath.Join(dir, "counter_2.db"), []byte("\xf8\xff\xff\x7f\x00\x00\x00\x00........"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1, func() { want(t, "served", values(t, d), "c_total", 5) })
	if n > 10000 {
		t.Errorf("%v allocations", n)
	}
	if len(d.Damaged()) != 1 {
		t.Errorf("damaged: %v", d.Damaged())
	}
}

// TestIdle: files that cost nothing any more are in no list that a snapshot goes
// through, and come back.
func TestIdle(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	d.run(true)
	gauge, _ := write(t, dir, "gauge_livesum_1.db", "g", 5)
	counter, _ := write(t, dir, "counter_1.db", "c_total", 7)
	want(t, "alive", values(t, d), "g", 5, "c_total", 7)
	gauge.Close()
	counter.Close()
	want(t, "dead", values(t, d), "c_total", 7)
	d.Sync(true)
	if s := d.Stats(); len(d.active) != 0 || len(d.order) != 2 || s.Dead != 2 || s.Frozen != 1 || s.Entries != 1 || s.Files != 2 {
		t.Errorf("%d active of %d files, %+v", len(d.active), len(d.order), s)
	}
	w, err := mmapfile.Create(filepath.Join(dir, "gauge_livesum_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.tend(1)
	want(t, "taken up", values(t, d), "g", 5, "c_total", 7)
	w.Close()
	want(t, "dead again", values(t, d), "c_total", 7)
	for _, base := range []string{"gauge_livesum_1.db", "counter_1.db"} {
		if err := os.Remove(filepath.Join(dir, base)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "deleted", values(t, d))
	if s := d.Stats(); len(d.active)+len(d.order)+s.Dead+s.Frozen+s.Entries+s.Files != 0 || len(d.byPart) != 0 {
		t.Errorf("left over: %d active of %d files, %+v", len(d.active), len(d.order), s)
	}
}
