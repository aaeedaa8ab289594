package client

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestFullDisk fills a tmpfs of 256 KiB with series, in a mount namespace of its
// own. The application must live, every value that found a place must be served,
// and it must be told once.
func TestFullDisk(t *testing.T) {
	const inside = "PROMAGG_TEST_FULL_DISK"
	dir := os.Getenv(inside)
	if dir == "" {
		testpeer.Require(t, testpeer.Unshare)
		test, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		at := t.TempDir()
		cmd := exec.Command(testpeer.Unshare.Path(), "--mount", "sh", "-c",
			`mount -t tmpfs -o size=256k tmpfs "$1" && exec "$2" -test.v -test.run='^TestFullDisk$'`, "sh", at, test)
		cmd.Env = append(os.Environ(), inside+"="+at)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var log strings.Builder
	r := NewRegistry(Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)})
	c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"i"})
	g := NewGauge(GaugeOpts{Name: "late", Help: "Late.", Mode: ModeSum})
	r.MustRegister(c)
	const series = 20000
	for i := range series {
		c.WithLabelValues(fmt.Sprint(i)).Inc()
	}
	r.MustRegister(g) // no room for its file
	g.Set(5)
	for i := range series {
		c.WithLabelValues(fmt.Sprint(i)).Inc()
	}
	if err := r.Err(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Err() is %v, want ENOSPC", err)
	}
	if got := logOf(r, &log); strings.Count(got, "\n") != 1 {
		t.Errorf("logged:\n%s", got)
	}
	got := merged(t, dir, mmapfile.ProbeAuto)
	if n := r.store.unplaced.Load(); n != float64(series-len(got)+1) {
		t.Errorf("%v values are said to have no place, want %d", n, series-len(got)+1)
	}
	for key, v := range got {
		if v != 2 {
			t.Fatalf("%s is %v, want 2", key, v)
		}
	}
	if len(got) < 500 || len(got) >= series {
		t.Errorf("%d series found a place", len(got))
	}
}

// TestDirectoryDeleted: values go on where they are, in files without a name.
func TestDirectoryDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	r := NewRegistry(Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)})
	c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"i"})
	r.MustRegister(c)
	c.WithLabelValues("1").Inc()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 { // grows the file that is gone
		c.WithLabelValues(fmt.Sprint(i)).Inc()
	}
	g := NewGauge(GaugeOpts{Name: "g", Help: "G."})
	r.MustRegister(g)
	g.Set(1)
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "was deleted or replaced") {
		t.Errorf("Err() is %v", err)
	}
	if got := logOf(r, &log); strings.Count(got, "\n") != 1 {
		t.Errorf("logged:\n%s", got)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestReadOnlyDirectory: as a user who may not write there.
func TestReadOnlyDirectory(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		testpeer.AsNobody(t, dir)
		return
	}
	var log strings.Builder
	r := NewRegistry(Options{Dir: ".", Logger: textLogger(&log)})
	use(r, 3)
	if err := r.Err(); !errors.Is(err, os.ErrPermission) || strings.Count(logOf(r, &log), "\n") != 1 {
		t.Errorf("Err() is %v, log:\n%s", err, log.String())
	}
}

// TestContention spreads a counter over several entries, which are one again
// for every reader, and go with it when it is deleted.
func TestContention(t *testing.T) {
	dir := t.TempDir()
	v := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
	process(t, dir, "1").MustRegister(v)
	c := v.WithLabelValues("x")
	const each, goroutines = 20000, 8
	var adding sync.WaitGroup
	for range goroutines {
		adding.Go(func() {
			for range each {
				c.Inc()
			}
		})
	}
	// Chance does not bring goroutines together on every machine.
	c.(*counter).stripe(&c.(*counter).cell)
	adding.Wait()
	wantMerged(t, "spread", dir, map[string]float64{`c_total l="x"`: each * goroutines})
	v.DeleteLabelValues("x")
	wantMerged(t, "deleted", dir, map[string]float64{})
	v.WithLabelValues("x").Add(2)
	wantMerged(t, "made again", dir, map[string]float64{`c_total l="x"`: 2})
}

// TestSpreadEachType: every value that is added up can be spread, and is found
// among those of other metrics; a gauge's is not.
func TestSpreadEachType(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	label := []string{"l"}
	c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, label)
	h := NewHistogramVec(HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1}}, label)
	s := NewSummaryVec(SummaryOpts{Name: "s", Help: "S."}, label)
	g := NewGaugeVec(GaugeOpts{Name: "g", Help: "G.", Mode: ModeMostRecent}, label)
	r.MustRegister(c, h, s, g)
	c.WithLabelValues("other").Inc()
	h.WithLabelValues("other").Observe(1)
	s.WithLabelValues("other").Observe(1)
	for _, m := range []placed{c.WithLabelValues("x"), h.WithLabelValues("x"), s.WithLabelValues("x")} {
		for i, p := range m.places() {
			if !m.holds(p.cell) {
				t.Errorf("%v: value %d is not its own", m.Desc(), i)
			}
			m.(striper).stripe(p.cell)
			if n := len(p.cell.current()); n < stripes {
				t.Errorf("%v: value %d has %d places, want at least %d", m.Desc(), i, n, stripes)
			}
		}
		if m.holds(new(cell)) {
			t.Errorf("%v holds a value of something else", m.Desc())
		}
	}
	if x := g.WithLabelValues("x"); !x.holds(x.places()[0].cell) || x.holds(new(cell)) {
		t.Error("a gauge does not know its value")
	}
	var adding sync.WaitGroup
	for range 4 {
		adding.Go(func() {
			for range 500 {
				c.WithLabelValues("x").Inc()
				h.WithLabelValues("x").Observe(2)
				s.WithLabelValues("x").Observe(3)
			}
		})
	}
	adding.Wait()
	wantMerged(t, "spread", dir, map[string]float64{
		`c_total l="other"`: 1, `c_total l="x"`: 2000, `s_count l="other"`: 1, `s_sum l="other"`: 1, `s_count l="x"`: 2000, `s_sum l="x"`: 6000,
		`h_bucket l="other" le="1"`: 1, `h_bucket l="other" le="+Inf"`: 1, `h_count l="other"`: 1, `h_sum l="other"`: 1,
		`h_bucket l="x" le="1"`: 0, `h_bucket l="x" le="+Inf"`: 2000, `h_count l="x"`: 2000, `h_sum l="x"`: 4000,
	})
}

// TestAllocations: no update and no look-up allocates, not even of a counter that
// is spread over several entries.
func TestAllocations(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"a", "b", "c"})
	g := NewGauge(GaugeOpts{Name: "g", Help: "G.", Mode: ModeMostRecent})
	h := NewHistogram(HistogramOpts{Name: "h", Help: "H."})
	s := NewSummary(SummaryOpts{Name: "s", Help: "S."})
	plain, spread := NewCounter(CounterOpts{Name: "plain_total", Help: "P."}), NewCounter(CounterOpts{Name: "spread_total", Help: "S."}).(*counter)
	sum := NewGauge(GaugeOpts{Name: "sum", Help: "S.", Mode: ModeLiveSum})
	hv := NewHistogramVec(HistogramOpts{Name: "hv", Help: "H."}, []string{"a"})
	r.MustRegister(c, g, h, s, plain, spread, sum, hv)
	spread.stripe(&spread.cell)
	if spread.at.Load() != nil {
		t.Fatal("the counter is not spread")
	}
	curried := c.MustCurryWith(Labels{"b": "/"})
	labels := Labels{"a": "GET", "b": "/", "c": "200"}
	for name, update := range map[string]func(){
		"With.Inc":            func() { c.With(labels).Inc() },
		"WithLabelValues.Inc": func() { c.WithLabelValues("GET", "/", "200").Inc() },
		"curried.Inc":         func() { curried.WithLabelValues("GET", "200").Inc() },
		"Inc":                 plain.Inc,
		"Add":                 func() { plain.Add(2.5) },
		"spread Inc":          spread.Inc,
		"Gauge.Set":           func() { sum.Set(1) },
		"Gauge.Inc":           sum.Inc,
		"Gauge.Sub":           func() { sum.Sub(3) },
		"Set":                 func() { g.Set(1) },
		"SetToCurrentTime":    g.SetToCurrentTime,
		"Histogram.Observe":   func() { h.Observe(0.3) },
		"HistogramVec":        func() { hv.WithLabelValues("x").Observe(0.3) },
		"Summary.Observe":     func() { s.Observe(0.3) },
	} {
		if n := testing.AllocsPerRun(100, update); n != 0 {
			t.Errorf("%s allocates %v objects", name, n)
		}
	}
}

// TestDeleteWhileAdding: an update that is under way when its series is deleted
// does not bring it back, as a number or as none.
func TestDeleteWhileAdding(t *testing.T) {
	dir := t.TempDir()
	v := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
	process(t, dir, "1").MustRegister(v)
	stop := make(chan struct{})
	var adding sync.WaitGroup
	for range 2 {
		adding.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					v.WithLabelValues("x").Inc()
				}
			}
		})
	}
	for range 20000 {
		v.DeleteLabelValues("x")
	}
	close(stop)
	adding.Wait()
	v.DeleteLabelValues("x")
	wantMerged(t, "deleted", dir, map[string]float64{})
	v.WithLabelValues("x").Inc()
	wantMerged(t, "made again", dir, map[string]float64{`c_total l="x"`: 1})
}
