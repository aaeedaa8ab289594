package multiproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// logBuffer keeps log lines for a test to look at.
type logBuffer struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count returns how many lines contain all of the words.
func (l *logBuffer) count(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.b.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			n++
		}
	}
	return n
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open opens a directory whose log the test can look at.
func open(t *testing.T, path string, probe mmapfile.Probe) (*Dir, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	d := Open(Options{Path: path, Liveness: probe, Rescan: time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(d.Close)
	return d, log
}

// write makes a value file with one entry and returns its writer and the
// entry's place.
func write(t *testing.T, dir, base, sample string, v float64) (*mmapfile.Writer, uint32) {
	t.Helper()
	w, err := mmapfile.Create(filepath.Join(dir, base), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	family := strings.TrimSuffix(sample, "_total")
	off, err := w.Append(fmt.Appendf(nil, `["%s", "%s", {}, "Help."]`, family, sample))
	if err != nil {
		t.Fatal(err)
	}
	w.SetAt(off, v, 1)
	return w, off
}

// values returns the first value of each family at a snapshot.
func values(t *testing.T, d *Dir) map[string]float64 {
	t.Helper()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return valuesOf(s)
}

func valuesOf(s *merge.Snapshot) map[string]float64 {
	m := make(map[string]float64)
	for i := range s.Families {
		if v := s.Values(&s.Families[i])[0]; !merge.Absent(v) {
			m[s.Families[i].Name] = v
		}
	}
	return m
}

func want(t *testing.T, what string, got map[string]float64, pairs ...any) {
	t.Helper()
	wanted := make(map[string]float64)
	for i := 0; i < len(pairs); i += 2 {
		wanted[pairs[i].(string)] = float64(pairs[i+1].(int))
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}

// TestWriterReturns: a live gauge's file whose writer died is taken up by a new
// process, as happens when a PID is used again. All its entries count again.
func TestWriterReturns(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	w, _ := write(t, dir, "gauge_livesum_1.db", "g", 5)
	write(t, dir, "counter_1.db", "c_total", 7)
	want(t, "alive", values(t, d), "g", 5, "c_total", 7)
	w.Close()
	want(t, "dead", values(t, d), "c_total", 7)
	want(t, "still dead", values(t, d), "c_total", 7)
	w, err := mmapfile.Create(filepath.Join(dir, "gauge_livesum_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "taken up", values(t, d), "g", 5, "c_total", 7)
	if _, err := w.Append([]byte(`["h", "h", {}, ""]`)); err != nil {
		t.Fatal(err)
	}
	want(t, "grown", values(t, d), "g", 5, "h", 0, "c_total", 7)
	w.Close()
	want(t, "dead again", values(t, d), "c_total", 7)
}

// TestTornRead: a writer that stores a zero before it stores the new value does
// not make a counter fall. The writer gets its turn only when the reader yields.
func TestTornRead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	w, off := write(t, dir, "counter_1.db", "c_total", 1000)
	want(t, "at first", values(t, d), "c_total", 1000)
	for i := range 100 {
		w.Set(off, 0)
		done := make(chan struct{})
		go func() { w.Set(off, float64(1001+i)); close(done) }()
		want(t, "in the middle of a store", values(t, d), "c_total", 1001+i)
		<-done
	}
}

// TestSharedSnapshot: callers that wait at the same time get the same snapshot,
// one that comes later a later one.
func TestSharedSnapshot(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	write(t, dir, "counter_1.db", "c_total", 1)
	d.mu.Lock()
	const callers = 50
	got := make(chan *merge.Snapshot, callers)
	var calling sync.WaitGroup
	for range callers {
		calling.Add(1)
		go func() {
			calling.Done()
			s, err := d.Snapshot(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- s
		}()
	}
	calling.Wait()
	// One of them leads; it waits for the lock that the test holds.
	testpeer.WaitFor(t, "a leader", time.Minute, func() error {
		d.nextMu.Lock()
		defer d.nextMu.Unlock()
		if d.next == nil {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Snapshot(gone); err == nil {
		t.Error("a caller that has gone waits for a snapshot")
	}
	d.mu.Unlock()
	different := make(map[*merge.Snapshot]bool)
	for range callers {
		different[<-got] = true
	}
	// All that called before the lock was free share one; a few may have been
	// on their way to the call.
	if len(different) > 3 {
		t.Errorf("%d callers made %d snapshots", callers, len(different))
	}
	s, err := d.Snapshot(t.Context())
	if err != nil || different[s] {
		t.Errorf("a later caller got an earlier snapshot (%v)", err)
	}
}

// TestNothingIsLeft: descriptors and mappings of files that are gone are given back.
func TestNothingIsLeft(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	resources := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds) + strings.Count(string(maps), dir)
	}
	values(t, d)
	before := resources()
	for i := range 200 {
		base := fmt.Sprintf("gauge_liveall_%d.db", i)
		w, _ := write(t, dir, base, "g", float64(i))
		values(t, d)
		w.Close()
		values(t, d)
		if i%2 == 0 {
			if err := os.Remove(filepath.Join(dir, base)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	want(t, "directory removed", values(t, d))
	if after := resources(); after > before+2 {
		t.Errorf("%d descriptors and mappings before, %d after", before, after)
	}
}

// TestUnlistable: a directory that can't be listed must not pass for an empty one.
func TestUnlistable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "metrics")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d, log := open(t, file, mmapfile.ProbeOff)
	for range 3 {
		if s, err := d.Snapshot(t.Context()); err == nil {
			t.Errorf("a file in place of the directory gives a snapshot of %d families", len(s.Families))
		}
	}
	if n := log.count("level=ERROR"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(t, "no directory", values(t, d))
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, file, "counter_1.db", "c_total", 1)
	want(t, "a directory", values(t, d), "c_total", 1)
}

// TestUnlistablePermission: the same for one that promagg has no right to list,
// or to look into.
func TestUnlistablePermission(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		openToAll(t, dir)
		for name, mode := range map[string]os.FileMode{"no-read": 0o711, "no-search": 0o744} {
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, sub, "counter_1.db", "c_total", 1)
			if err := os.Chmod(sub, mode); err != nil {
				t.Fatal(err)
			}
		}
		testpeer.AsNobody(t, dir)
		return
	}
	for _, name := range []string{"no-read", "no-search"} {
		d, log := open(t, name, mmapfile.ProbeOff)
		if _, err := d.Snapshot(t.Context()); !errors.Is(err, os.ErrPermission) || d.Ready() {
			t.Errorf("%s: error %v, ready %v, log:\n%s", name, err, d.Ready(), log)
		}
	}
}

// openToAll lets other users look into a temporary directory.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// lockEntries locks a directory as who folds it does.
func lockEntries(t *testing.T, dir string) *mmapfile.Directory {
	t.Helper()
	folding, err := mmapfile.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folding.Close() })
	if err := folding.LockEntries(0); err != nil {
		t.Fatal(err)
	}
	return folding
}

// TestListingPutOff: while another process renames files, the directory is not listed
// and what is known of it is served, but not for ever.
func TestListingPutOff(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	now := time.Now()
	d.opts.Now = func() time.Time { return now }
	write(t, dir, "counter_1.db", "c_total", 1)
	want(t, "first", values(t, d), "c_total", 1)

	folding := lockEntries(t, dir)
	write(t, dir, "counter_2.db", "c_total", 2)
	// As if the rename had shown neither name of it to a listing.
	hidden := filepath.Join(t.TempDir(), "counter_1.db")
	if err := os.Rename(filepath.Join(dir, "counter_1.db"), hidden); err != nil {
		t.Fatal(err)
	}
	now = now.Add(maxBusy / 2)
	want(t, "while files are renamed", values(t, d), "c_total", 1)
	now = now.Add(maxBusy)
	want(t, "when that does not end", values(t, d), "c_total", 2)

	if err := os.Rename(hidden, filepath.Join(dir, "counter_1.db")); err != nil {
		t.Fatal(err)
	}
	if err := folding.UnlockEntries(); err != nil {
		t.Fatal(err)
	}
	want(t, "afterwards", values(t, d), "c_total", 3)
	if !d.seen.busy.IsZero() {
		t.Error("a listing in peace leaves the time of one that was put off")
	}
}
