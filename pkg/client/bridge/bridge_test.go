package bridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/bridge"
)

// logged is a log that a test reads while others write to it.
type logged struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.text.String(), "\n"), "\n")
}

// process returns a registry as a process of its own has it, which asks its
// collectors all the time.
func process(t *testing.T, dir, id string, log *logged) *client.Registry {
	t.Helper()
	r := client.NewRegistry(client.Options{Dir: dir, ProcessID: id, Interval: time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(func() {
		if err := r.Err(); err != nil {
			t.Errorf("process %s: %v", id, err)
		}
		r.Close()
	})
	return r
}

// served returns what promagg serves of a directory, but for the client's own.
func served(t *testing.T, dir string) (values map[string]float64, helps map[string]string) {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeAuto})
	defer d.Close()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values, helps = fixture.Parse(t, expose.Append(nil, expose.Text, s, nil))
	maps.DeleteFunc(values, func(sample string, _ float64) bool { return strings.HasPrefix(sample, "promagg_client_") })
	maps.DeleteFunc(helps, func(family, _ string) bool { return strings.HasPrefix(family, "promagg_client_") })
	return values, helps
}

// becomes waits until promagg serves what is wanted.
func becomes(t *testing.T, what, dir string, want map[string]float64) {
	t.Helper()
	var diff string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		got, _ := served(t, dir)
		if diff = gocmp.Diff(want, got); diff == "" {
			return
		}
	}
	t.Fatalf("%s (-want +got):\n%s", what, diff)
}

// frozen gathers once, for two readers to see the same.
func frozen(t *testing.T, g prometheus.Gatherer) prometheus.Gatherer {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })
}

// scraped returns what promhttp serves.
func scraped(t *testing.T, g prometheus.Gatherer) (values map[string]float64, helps map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return fixture.Parse(t, w.Body.Bytes())
}

// thirdParty is instrumentation as some library has it.
func thirdParty(n float64) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
	f := promauto.With(reg)
	c := f.NewCounterVec(prometheus.CounterOpts{Name: "lib_calls_total", Help: "Calls.", ConstLabels: prometheus.Labels{"lib": "x"}}, []string{"op"})
	c.WithLabelValues("read").Add(n)
	c.WithLabelValues("wri\"te\n\\ 日本").Add(2 * n)
	f.NewCounter(prometheus.CounterOpts{Name: "lib_odd", Help: "A counter without _total, \\ and \n a line."}).Add(n)
	g := f.NewGaugeVec(prometheus.GaugeOpts{Name: "lib_level", Help: "Level."}, []string{"tank"})
	g.WithLabelValues("a").Set(-n)
	g.WithLabelValues("b").Set(math.Inf(1))
	f.NewUntypedFunc(prometheus.UntypedOpts{Name: "lib_untyped", Help: "Untyped."}, func() float64 { return n })
	h := f.NewHistogramVec(prometheus.HistogramOpts{Name: "lib_seconds", Help: "Time.", Buckets: []float64{0.1, 1, 2.5e6}}, []string{"op"})
	native := f.NewHistogram(prometheus.HistogramOpts{Name: "lib_native", Help: "Native.", NativeHistogramBucketFactor: 1.1})
	s := f.NewSummary(prometheus.SummaryOpts{Name: "lib_bytes", Help: "Sizes.", Objectives: map[float64]float64{0.5: 0.05}})
	for i := range 100 {
		h.WithLabelValues("read").Observe(float64(i) * n / 20)
		native.Observe(float64(i) / 4)
		s.Observe(float64(i))
	}
	h.WithLabelValues("none")
	return reg
}

// TestSum: two processes are served as the sum of what each would have served.
func TestSum(t *testing.T) {
	dir := t.TempDir()
	want, wantHelps := make(map[string]float64), make(map[string]string)
	types := make(map[string]dto.MetricType)
	for i, id := range []string{"1", "web-2"} {
		g := frozen(t, thirdParty(float64(i+1)))
		families, _ := g.Gather()
		for _, f := range families {
			types[f.GetName()] = f.GetType()
		}
		values, helps := scraped(t, g)
		for key, v := range values {
			name, labels, _ := strings.Cut(key, " ")
			switch types[name] {
			case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
				if name == "lib_untyped" {
					break // its mode is a sum
				}
				// Labels are sorted; none of the gauges' is behind pid but these.
				if i := strings.Index(labels, `tank=`); i >= 0 {
					key = fmt.Sprintf("%s %spid=%q %s", name, labels[:i], id, labels[i:])
				} else if strings.HasPrefix(labels, "version=") {
					key = fmt.Sprintf("%s pid=%q %s", name, id, labels)
				} else {
					key += fmt.Sprintf(" pid=%q", id)
				}
			}
			want[key] += v
		}
		maps.Copy(wantHelps, helps)

		var log logged
		r := process(t, dir, id, &log)
		b := bridge.New(g, bridge.Options{
			Mode: func(name string) client.Mode {
				if name == "lib_untyped" {
					return client.ModeLiveSum
				}
				return client.ModeLiveAll
			},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		r.MustRegister(b)
		if got := log.lines(); b.Err() != nil || got[0] != "" {
			t.Errorf("process %s: %v, logged %q", id, b.Err(), got)
		}
	}
	got, gotHelps := served(t, dir)
	if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b float64) bool { return a == b || math.Abs(a-b) < 1e-9*math.Abs(a) })); diff != "" {
		t.Errorf("values (-sum of promhttp +promagg):\n%s", diff)
	}
	if diff := gocmp.Diff(wantHelps, gotHelps); diff != "" {
		t.Errorf("help texts (-promhttp +promagg):\n%s", diff)
	}
	if got[`lib_native_count`] != 200 || got[`lib_native_bucket le="+Inf"`] != 200 {
		t.Errorf("a native histogram has no count: %v", got)
	}
}

// TestChanges: values, label sets and families come and go with the registry's.
func TestChanges(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	c := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
	c.WithLabelValues("a").Add(1)
	c.WithLabelValues("b").Add(2)
	r := process(t, dir, "1", new(logged))
	r.MustRegister(bridge.New(reg, bridge.Options{}))
	want := map[string]float64{`c_total l="a"`: 1, `c_total l="b"`: 2}
	if got, _ := served(t, dir); !maps.Equal(got, want) {
		t.Errorf("mirrored at once: want %v, got %v", want, got)
	}
	c.WithLabelValues("a").Inc()
	c.DeleteLabelValues("b")
	g := promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "g", Help: "G."})
	g.Set(5)
	becomes(t, "changed", dir, map[string]float64{`c_total l="a"`: 2, `g pid="1"`: 5})
	c.WithLabelValues("b").Add(7)
	reg.Unregister(g)
	becomes(t, "changed back", dir, map[string]float64{`c_total l="a"`: 2, `c_total l="b"`: 7})
	c.WithLabelValues("b").Add(1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := served(t, dir); got[`c_total l="b"`] != 8 {
		t.Errorf("Close did not mirror: %v", got)
	}
}

// switchable is a gatherer whose result a test changes.
type switchable struct {
	mu       sync.Mutex // protects the rest
	families []*dto.MetricFamily
	err      error
	calls    int
}

func (s *switchable) Gather() ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.families, s.err
}

// set changes the result, and waits until the bridge has seen it for sure: the
// second call from now on begins after the first one's result is mirrored.
func (s *switchable) set(t *testing.T, families []*dto.MetricFamily, err error) {
	t.Helper()
	s.mu.Lock()
	s.families, s.err = families, err
	from := s.calls
	s.mu.Unlock()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		calls := s.calls
		s.mu.Unlock()
		if calls >= from+2 {
			return
		}
	}
	t.Fatal("the gatherer is not asked")
}

func family(typ dto.MetricType, name string, m *dto.Metric) *dto.MetricFamily {
	help := "Help."
	return &dto.MetricFamily{Name: &name, Help: &help, Type: &typ, Metric: []*dto.Metric{m}}
}

func ptr[T any](v T) *T { return &v }

// TestGathererFails: the rest is mirrored, sums stay, gauges do not, and it is
// logged once.
func TestGathererFails(t *testing.T) {
	dir := t.TempDir()
	counter := func(v float64, labels ...*dto.LabelPair) *dto.Metric {
		return &dto.Metric{Counter: &dto.Counter{Value: &v}, Label: labels}
	}
	c1, c2 := family(dto.MetricType_COUNTER, "c1_total", counter(1)), family(dto.MetricType_COUNTER, "c2_total", counter(2))
	c2.Metric = append(c2.Metric, counter(3, &dto.LabelPair{Name: ptr("l"), Value: ptr("x")}))
	g1 := family(dto.MetricType_GAUGE, "g1", &dto.Metric{Gauge: &dto.Gauge{Value: ptr(4.0)}})
	source := &switchable{families: []*dto.MetricFamily{c1, c2, g1}}
	var log logged
	r := process(t, dir, "1", &log)
	b := bridge.New(source, bridge.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r.MustRegister(b)
	becomes(t, "whole", dir, map[string]float64{"c1_total": 1, "c2_total": 2, `c2_total l="x"`: 3, `g1 pid="1"`: 4})

	fault := errors.New("disk on fire")
	part := family(dto.MetricType_COUNTER, "c2_total", counter(20))
	for range 2 { // what stays, stays for longer than a round
		source.set(t, []*dto.MetricFamily{part}, fault)
		becomes(t, "failing", dir, map[string]float64{"c1_total": 1, "c2_total": 20, `c2_total l="x"`: 3})
	}
	if err := b.Err(); !errors.Is(err, fault) {
		t.Errorf("Err: %v", err)
	}
	if got := log.lines(); len(got) != 1 || !strings.Contains(got[0], "disk on fire") {
		t.Errorf("logged %q", got)
	}
	source.set(t, []*dto.MetricFamily{part}, nil)
	becomes(t, "well again", dir, map[string]float64{"c2_total": 20})
	if err := b.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
}

// TestNotMirrored: what can't be mirrored is logged once and costs only itself.
func TestNotMirrored(t *testing.T) {
	dir := t.TempDir()
	gauge := func(v float64) *dto.Metric { return &dto.Metric{Gauge: &dto.Gauge{Value: &v}} }
	source := &switchable{families: []*dto.MetricFamily{
		family(dto.MetricType_GAUGE, "http.server.duration", gauge(1)),
		family(dto.MetricType_COUNTER, "falling_total", &dto.Metric{Counter: &dto.Counter{Value: ptr(-1.0)}}),
		family(dto.MetricType_GAUGE_HISTOGRAM, "gh", &dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(1))}}),
		family(dto.MetricType_HISTOGRAM, "fh", &dto.Metric{Histogram: &dto.Histogram{SampleCountFloat: ptr(1.5)}}),
		family(dto.MetricType_HISTOGRAM, "odd", &dto.Metric{Histogram: &dto.Histogram{SampleCount: ptr(uint64(1)),
			Bucket: []*dto.Bucket{{UpperBound: ptr(1.0), CumulativeCount: ptr(uint64(2))}}}}),
		family(dto.MetricType_GAUGE, "good", gauge(7)),
	}}
	var log logged
	b := bridge.New(source, bridge.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	process(t, dir, "1", &log).MustRegister(b)
	source.set(t, source.families, nil)
	becomes(t, "the rest", dir, map[string]float64{`good pid="1"`: 7})
	got := log.lines()
	if len(got) != 5 || b.Err() == nil {
		t.Errorf("Err %v, %d lines logged: %q", b.Err(), len(got), got)
	}
	for i, name := range []string{"http.server.duration", "falling_total", "gh", "fh", "odd"} {
		if i >= len(got) || !strings.Contains(got[i], "metric="+name+" ") {
			t.Errorf("nothing logged of %s: %q", name, got)
		}
	}
}

// TestClash: who has a name keeps it.
func TestClash(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	f := promauto.With(reg)
	f.NewCounter(prometheus.CounterOpts{Name: "taken_total", Help: "Theirs."}).Add(100)
	f.NewCounter(prometheus.CounterOpts{Name: "theirs_total", Help: "Theirs."}).Add(5)
	var log logged
	r := process(t, dir, "1", &log)
	ours := client.NewCounter(client.CounterOpts{Name: "taken_total", Help: "Ours."})
	r.MustRegister(ours)
	ours.Inc()
	first, second := bridge.New(reg, bridge.Options{}), bridge.New(reg, bridge.Options{})
	r.MustRegister(first, second)
	later := promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "later", Help: "Later."})
	later.Set(3)
	becomes(t, "clash", dir, map[string]float64{"taken_total": 1, "theirs_total": 5, `later pid="1"`: 3})

	var already client.AlreadyRegisteredError
	err := r.Register(client.NewCounter(client.CounterOpts{Name: "theirs_total", Help: "Late."}))
	if !errors.As(err, &already) || already.ExistingCollector != client.Collector(first) {
		t.Errorf("registered under a name that a bridge has: %v", err)
	}
	if err := r.Close(); err != nil { // so that nothing is logged any more
		t.Fatal(err)
	}
	// The first bridge: taken_total. The second: all three.
	count := make(map[string]int)
	for _, line := range log.lines() {
		for _, name := range []string{"taken_total", "theirs_total", "later"} {
			if strings.Contains(line, `sent \"`+name+`\", which is left out`) {
				count[name]++
			}
		}
	}
	if diff := gocmp.Diff(map[string]int{"taken_total": 2, "theirs_total": 1, "later": 1}, count); diff != "" {
		t.Errorf("clashes logged (-want +got):\n%s\n%s", diff, strings.Join(log.lines(), "\n"))
	}
}

// TestRestart: a process that takes up a dead one's id goes on from its sums.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []float64{3, 6} {
		reg := prometheus.NewRegistry()
		promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "C."}).Add(3)
		h := promauto.With(reg).NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1}})
		for range 3 {
			h.Observe(0.5)
		}
		r := process(t, dir, "1", new(logged))
		r.MustRegister(bridge.New(reg, bridge.Options{}))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		got, _ := served(t, dir)
		if got["c_total"] != want || got["h_count"] != want || got[`h_bucket le="1"`] != want {
			t.Errorf("want %v, got %v", want, got)
		}
	}
}
