package web

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/pkg/client"
)

// scrape returns what a handler serves.
func scrape(t testing.TB, h http.Handler) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	values, _ := fixture.Parse(t, w.Body.Bytes())
	return values
}

func wantServed(t *testing.T, what string, h http.Handler, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, scrape(t, h)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// inProcess returns a registry without a directory.
func inProcess(t *testing.T) *client.Registry {
	t.Helper()
	t.Setenv("PROMETHEUS_MULTIPROC_DIR", "")
	t.Setenv("prometheus_multiproc_dir", "")
	return client.NewRegistry(client.Options{})
}

func TestInProcess(t *testing.T) {
	r := inProcess(t)
	h := HandlerFor(r)
	wantServed(t, "nothing", h, map[string]float64{})

	c := client.NewCounterVec(client.CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
	hist := client.NewHistogram(client.HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1}})
	s := client.NewSummary(client.SummaryOpts{Name: "s", Help: "S."})
	level := 0.0
	r.MustRegister(c, hist, s, client.NewGaugeFunc(client.GaugeOpts{Name: "level", Help: "L."}, func() float64 { level++; return level }))
	c.WithLabelValues("a").Inc()
	c.WithLabelValues("b").Inc()
	hist.Observe(0.5)
	s.Observe(2)
	want := map[string]float64{
		`c_total l="a"`: 1, `c_total l="b"`: 1, `h_bucket le="1"`: 1, `h_bucket le="+Inf"`: 1, "h_count": 1, "h_sum": 0.5,
		"s_count": 1, "s_sum": 2, "level": 2,
	}
	wantServed(t, "registered", h, want)

	c.DeleteLabelValues("a")
	hist.Observe(5)
	delete(want, `c_total l="a"`)
	want[`h_bucket le="+Inf"`], want["h_count"], want["h_sum"], want["level"] = 2, 2, 5.5, 3
	wantServed(t, "changed", h, want)
}

// TestInProcessModes: of one process a gauge is what it was set to, in any mode,
// and 0 before.
func TestInProcessModes(t *testing.T) {
	r := inProcess(t)
	h := HandlerFor(r)
	set, want := []func(){}, map[string]float64{}
	for mode := client.ModeAll; mode <= client.ModeLiveMostRecent; mode++ {
		g := client.NewGauge(client.GaugeOpts{Name: "g_" + mode.String(), Help: "G.", Mode: mode})
		r.MustRegister(g)
		want["g_"+mode.String()] = 0
		set = append(set, func() { g.Set(-float64(mode) - 1); want["g_"+mode.String()] = -float64(mode) - 1 })
	}
	wantServed(t, "unset", h, want)
	for _, f := range set {
		f()
	}
	wantServed(t, "set", h, want)
}

// unplaced is what each process has by itself.
const unplaced = "promagg_client_unplaced_values_total"

// TestDirectory: one process serves what all of them wrote.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	var registries []*client.Registry
	for _, id := range []string{"1", "2"} {
		r := client.NewRegistry(client.Options{Dir: dir, ProcessID: id})
		defer r.Close()
		c, g := client.NewCounter(client.CounterOpts{Name: "c_total", Help: "C."}), client.NewGauge(client.GaugeOpts{Name: "g", Help: "G.", Mode: client.ModeLiveAll})
		r.MustRegister(c, g)
		c.Inc()
		g.Set(3)
		registries = append(registries, r)
	}
	h := HandlerFor(registries[0])
	wantServed(t, "two processes", h, map[string]float64{"c_total": 2, `g pid="1"`: 3, `g pid="2"`: 3, unplaced: 0})
	if err := registries[1].Close(); err != nil {
		t.Fatal(err)
	}
	wantServed(t, "one has ended", h, map[string]float64{"c_total": 2, `g pid="1"`: 3, unplaced: 0})
}

// TestDirectoryUnreadable: what can't be read is not served as empty.
func TestDirectoryUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	HandlerFor(client.NewRegistry(client.Options{Dir: path})).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}
