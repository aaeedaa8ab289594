package client

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// merged returns what promagg serves of a directory.
func merged(t testing.TB, dir string, probe mmapfile.Probe) map[string]float64 {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir, Liveness: probe})
	defer d.Close()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if damaged := d.Damaged(); len(damaged) > 0 {
		t.Errorf("damaged: %v", damaged)
	}
	values, _ := fixture.Parse(t, expose.Append(nil, expose.Text, s, nil))
	delete(values, unplacedName)
	return values
}

func wantMerged(t *testing.T, what, dir string, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, merged(t, dir, mmapfile.ProbeAuto)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// process returns a registry as a process of its own would have it.
func process(t *testing.T, dir, id string) *Registry {
	t.Helper()
	r := NewRegistry(Options{Dir: dir, ProcessID: id})
	t.Cleanup(func() {
		if err := r.Err(); err != nil {
			t.Errorf("process %s: %v", id, err)
		}
		r.Close()
	})
	return r
}

// use does the same few things with a metric of each type.
func use(r *Registry, times int) {
	c := NewCounterVec(CounterOpts{Namespace: "app", Name: "requests_total", Help: "Requests."}, []string{"path", "code"})
	h := NewHistogram(HistogramOpts{Name: "took", Unit: "seconds", Help: "Time.", Buckets: []float64{0.1, 1}})
	s := NewSummary(SummaryOpts{Name: "size_bytes", Unit: "bytes", Help: "Sizes.", ConstLabels: Labels{"app": "x"}})
	sum := NewGauge(GaugeOpts{Name: "busy", Help: "Busy.", Mode: ModeLiveSum})
	all := NewGaugeVec(GaugeOpts{Name: "level", Help: "Level."}, []string{"l"})
	last := NewGauge(GaugeOpts{Name: "last", Help: "Last.", Mode: ModeMostRecent})
	r.MustRegister(c, h, s, sum, all, last)
	for i := range times {
		c.WithLabelValues("/a \"quoted\"\n", "200").Inc()
		c.With(Labels{"code": "500", "path": "日本"}).Add(2)
		h.Observe(0.05)
		h.Observe(5)
		s.Observe(float64(i))
		sum.Add(3)
		sum.Dec()
		all.WithLabelValues("x").Set(float64(i))
		last.Set(float64(i))
	}
}

func TestMerged(t *testing.T) {
	dir := t.TempDir()
	a, b := process(t, dir, "1"), process(t, dir, "web-2")
	use(a, 3)
	use(b, 2)
	want := map[string]float64{
		`app_requests_total code="200" path="/a \"quoted\"\n"`: 5, `app_requests_total code="500" path="日本"`: 10,
		`took_seconds_bucket le="0.1"`: 5, `took_seconds_bucket le="1"`: 5, `took_seconds_bucket le="+Inf"`: 10,
		"took_seconds_count": 10, "took_seconds_sum": 25.25,
		`size_bytes_count app="x"`: 5, `size_bytes_sum app="x"`: 4,
		"busy": 10, `level l="x" pid="1"`: 2, `level l="x" pid="web-2"`: 1, "last": 1,
	}
	round := func(m map[string]float64) map[string]float64 {
		m["took_seconds_sum"] = math.Round(m["took_seconds_sum"]*100) / 100
		return m
	}
	if diff := cmp.Diff(want, round(merged(t, dir, mmapfile.ProbeAuto))); diff != "" {
		t.Errorf("two processes (-want +got):\n%s", diff)
	}
	// A process that ends takes its live gauges with it and nothing else.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	want["busy"] = 6
	if diff := cmp.Diff(want, round(merged(t, dir, mmapfile.ProbeAuto))); diff != "" {
		t.Errorf("one has ended (-want +got):\n%s", diff)
	}
}

func TestDeleteAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	var vecs [2]*CounterVec
	for i := range vecs {
		vecs[i] = NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"a", "b"})
		process(t, dir, fmt.Sprint(i)).MustRegister(vecs[i])
		vecs[i].WithLabelValues("x", "1").Add(1)
		vecs[i].WithLabelValues("x", "2").Add(2)
		vecs[i].WithLabelValues("y", "1").Add(3)
	}
	held := vecs[0].WithLabelValues("x", "1")
	if !vecs[0].DeleteLabelValues("x", "1") || vecs[0].DeleteLabelValues("x", "1") {
		t.Error("DeleteLabelValues does not tell whether there was one")
	}
	held.Inc() // goes nowhere
	wantMerged(t, "deleted in one process", dir, map[string]float64{`c_total a="x" b="1"`: 1, `c_total a="x" b="2"`: 4, `c_total a="y" b="1"`: 6})
	if n := vecs[1].DeletePartialMatch(Labels{"a": "x"}); n != 2 {
		t.Errorf("DeletePartialMatch deleted %d", n)
	}
	wantMerged(t, "deleted in the other as well", dir, map[string]float64{`c_total a="x" b="2"`: 2, `c_total a="y" b="1"`: 6})
	vecs[0].WithLabelValues("x", "1").Inc()
	wantMerged(t, "made again", dir, map[string]float64{`c_total a="x" b="1"`: 1, `c_total a="x" b="2"`: 2, `c_total a="y" b="1"`: 6})
	curried := vecs[0].MustCurryWith(Labels{"a": "y"})
	curried.WithLabelValues("9").Add(9)
	curried.Reset()
	wantMerged(t, "reset by curry", dir, map[string]float64{`c_total a="x" b="1"`: 1, `c_total a="x" b="2"`: 2, `c_total a="y" b="1"`: 3})
	vecs[0].Reset()
	vecs[1].Reset()
	wantMerged(t, "reset", dir, map[string]float64{})
}

func TestRegistry(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	c := NewCounter(CounterOpts{Name: "c_total", Help: "C."})
	c.Add(5) // before it is registered
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	c.Inc()
	wantMerged(t, "registered", dir, map[string]float64{"c_total": 6})
	var already AlreadyRegisteredError
	if err := r.Register(NewCounter(CounterOpts{Name: "c_total", Help: "C."})); !errors.As(err, &already) || already.ExistingCollector != Collector(c) {
		t.Errorf("a second one of the name: %v", err)
	}
	if err := r.Register(NewCounter(CounterOpts{Name: "c_total", Help: "Other."})); err == nil || errors.As(err, &already) {
		t.Errorf("one of another help text: %v", err)
	}
	if !r.Unregister(c) || r.Unregister(c) {
		t.Error("Unregister does not tell whether it was registered")
	}
	wantMerged(t, "unregistered", dir, map[string]float64{})
	c.Inc()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	wantMerged(t, "registered again", dir, map[string]float64{"c_total": 7})
}

// TestSameID: a process never shares the file of another that lives. A dead
// one's sums go on, its gauges do not.
func TestSameID(t *testing.T) {
	dir := t.TempDir()
	start := func() (*Registry, Counter, Gauge) {
		opts := Options{Dir: dir, ProcessID: "7"}
		r := NewRegistry(opts)
		c, g := NewCounter(CounterOpts{Name: "c_total", Help: "C."}), NewGauge(GaugeOpts{Name: "g", Help: "G."})
		r.MustRegister(c, g)
		return r, c, g
	}
	first, c1, g1 := start()
	second, c2, g2 := start()
	c1.Add(1)
	c2.Add(10)
	g1.Set(1)
	g2.Set(2)
	wantMerged(t, "two live", dir, map[string]float64{"c_total": 11, `g pid="7"`: 1, `g pid="7.1"`: 2})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, c3, _ := start()
	c3.Add(100)
	wantMerged(t, "one dead, one with its id", dir, map[string]float64{"c_total": 111, `g pid="7"`: 0, `g pid="7.1"`: 2})
	second.Close()
	third.Close()
	wantMerged(t, "all dead", dir, map[string]float64{"c_total": 111, `g pid="7"`: 0, `g pid="7.1"`: 2})
}

// TestNoDirectory: whatever is wrong with the directory, the application goes on.
func TestNoDirectory(t *testing.T) {
	for name, dir := range map[string]string{
		"missing":         filepath.Join(t.TempDir(), "missing"),
		"not a directory": os.DevNull,
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			opts := Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)}
			r := NewRegistry(opts)
			use(r, 3)
			if err := r.Err(); err == nil {
				t.Error("Err is nil")
			}
			if got := logOf(r, &log); strings.Count(got, "\n") != 1 {
				t.Errorf("logged:\n%s", got)
			}
		})
	}
}

// logOf returns what a registry has logged to a builder.
func logOf(r *Registry, to fmt.Stringer) string {
	r.store.log.wait()
	return to.String()
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
