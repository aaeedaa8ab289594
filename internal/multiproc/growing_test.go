package multiproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// TestGrowingDelaysNobody: while one writer adds series as fast as it can, each
// snapshot has what others stored before it, and all that the one had added.
func TestGrowingDelaysNobody(t *testing.T) {
	dir := t.TempDir()
	d := Open(Options{Path: dir, Liveness: mmapfile.ProbeOff})
	defer d.Close()
	run(t, d)
	other, off := write(t, dir, "counter_1.db", "c_total", 0)
	write(t, dir, "counter_2.db", "c_total", 7)
	var added, rounds atomic.Int64
	done := make(chan error, 1)
	go func() {
		w, err := mmapfile.Create(filepath.Join(dir, "counter_3.db"), mmapfile.ValueTimestamp, 0)
		for n := 0; err == nil && n < 200_000 && (n < 50_000 || rounds.Load() < 20); n++ {
			_, err = w.Append(fmt.Appendf(nil, `["grows", "grows_total", {"path": "/%d"}, "Help."]`, n))
			added.Add(1)
		}
		if w != nil {
			w.Close()
		}
		done <- err
	}()
	for n := 1; ; n++ {
		ended := false
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		other.SetAt(off, float64(n), 1)
		had := added.Load()
		s, err := d.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := valuesOf(s)["c_total"]; got != float64(n+7) {
			t.Fatalf("snapshot %d: c_total is %v, want %d", n, got, n+7)
		}
		if f := s.Find("grows_total"); had > 0 && (f == nil || int64(len(f.Series)) < had) {
			t.Fatalf("snapshot %d has not all of %d series", n, had)
		}
		rounds.Add(1)
		if ended && n > 1 {
			t.Logf("%d snapshots, %d series", n, had)
			return
		}
	}
}

// TestDescriptorsBounded: of a budget's few descriptors no more are open after a
// snapshot, however many files there are, and the values are right.
func TestDescriptorsBounded(t *testing.T) {
	dir := t.TempDir()
	const files, descriptors, mappings = 120, 10, 30
	for i := range files {
		w, _ := write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		if i >= files/2 {
			w.Close() // of the dead, too
		}
	}
	before := openIn(t, dir)
	d := Open(Options{Path: dir, Budget: mmapfile.NewBudget(descriptors, mappings)})
	defer d.Close()
	for range 3 {
		want(t, "served", values(t, d), "c_total", files)
		d.Sync(true)
		if n := openIn(t, dir) - before; n != descriptors {
			t.Errorf("%d descriptors, want %d", n, descriptors)
		}
	}
	if s := d.Stats(); s.Mapped != mappings || s.Read != files-mappings {
		t.Errorf("%d mapped, %d read", s.Mapped, s.Read)
	}
}

// openIn returns how many descriptors the process has of files in dir.
func openIn(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if path, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(path, dir+"/") {
			n++
		}
	}
	return n
}
