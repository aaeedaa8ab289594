package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestLongKey: a label value that is too long costs its own series.
func TestLongKey(t *testing.T) {
	for name, dir := range map[string]string{"files": t.TempDir(), "in process": ""} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			r := NewRegistry(Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)})
			defer r.Close()
			v := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
			r.MustRegister(v)
			for _, l := range []string{"before", strings.Repeat("x", 70000), "after", "before"} {
				v.WithLabelValues(l).Inc()
			}
			want := map[string]float64{`c_total l="before"`: 2, `c_total l="after"`: 1}
			if dir == "" {
				dir = imagesIn(t, r)
			}
			wantMerged(t, "one is too long", dir, want)
			if got := logOf(r, &log); r.Err() == nil || strings.Count(got, "\n") != 1 || len(got) > 1000 {
				t.Errorf("Err() is %v, logged:\n%s", r.Err(), got)
			}
		})
	}
}

// imagesIn writes the value files that a process without a directory would have
// to one.
func imagesIn(t *testing.T, r *Registry) string {
	t.Helper()
	dir := t.TempDir()
	for name, image := range r.Images() {
		if err := os.WriteFile(filepath.Join(dir, name), image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCloseWhileAsked: an unchecked collector that answers takes the registry's
// lock, which Close has too.
func TestCloseWhileAsked(t *testing.T) {
	for i := range 300 {
		r := NewRegistry(Options{Interval: time.Microsecond})
		d := NewDesc(fmt.Sprintf("c%d_total", i), "C.", nil, nil)
		r.MustRegister(several{send: []*Desc{d}})
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() { r.Images() })
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		asking.Wait()
	}
}

// countingHandler is a log handler that counts its lines with our metrics.
type countingHandler struct {
	slog.Handler
	lines *CounterVec
}

func (h countingHandler) Handle(_ context.Context, rec slog.Record) error {
	h.lines.WithLabelValues(rec.Level.String()).Inc()
	return nil
}

// TestLogHandlerCounts: a log handler may use the metrics whose fault it is told.
func TestLogHandlerCounts(t *testing.T) {
	lines := NewCounterVec(CounterOpts{Name: "log_messages_total", Help: "L."}, []string{"level"})
	r := NewRegistry(Options{Dir: filepath.Join(t.TempDir(), "missing"), Logger: slog.New(countingHandler{slog.NewTextHandler(io.Discard, nil), lines})})
	r.MustRegister(lines)
	lines.WithLabelValues("INFO").Inc()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestRegisteredAgainAfterClose: what a metric had counted stays where it was.
func TestRegisteredAgainAfterClose(t *testing.T) {
	dir := t.TempDir()
	c := NewCounter(CounterOpts{Name: "c_total", Help: "C."})
	for range 3 {
		r := NewRegistry(Options{Dir: dir, ProcessID: "1"})
		r.MustRegister(c)
		c.Inc()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantMerged(t, "three times", dir, map[string]float64{"c_total": 3})
}

// TestFilesDeleted: files that are deleted under the process are missed, at the
// latest after an interval.
func TestFilesDeleted(t *testing.T) {
	for name, use := range map[string]func(v *CounterVec){
		"a new series": func(v *CounterVec) { v.WithLabelValues("late").Inc() },
		"nothing new":  func(*CounterVec) {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var log lockedBuilder
			r := NewRegistry(Options{Dir: dir, ProcessID: "1", Interval: time.Millisecond, Logger: textLogger(&log)})
			defer r.Close()
			v := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
			r.MustRegister(v)
			v.WithLabelValues("early").Inc()
			if err := os.Remove(filepath.Join(dir, "counter_1.db")); err != nil {
				t.Fatal(err)
			}
			use(v)
			testpeer.WaitFor(t, "the loss to be noticed", 10*time.Second, func() error {
				if r.Err() == nil {
					return errors.New("Err() is nil")
				}
				return nil
			})
			if got := logOf(r, &log); strings.Count(got, "\n") != 1 || !strings.Contains(got, "was deleted or replaced") {
				t.Errorf("logged:\n%s", got)
			}
		})
	}
}

// TestPythonLives: a process of the Python client, which takes no lock, keeps its
// files although we go by the same id.
func TestPythonLives(t *testing.T) {
	dir := t.TempDir()
	pid, end := testpeer.PythonWriter(t, dir, `
from prometheus_client import Counter, Gauge
Counter("c", "C.").inc(50)
Gauge("g", "G.", multiprocess_mode="livesum").set(5)
`)
	id := fmt.Sprint(pid)
	count := func() {
		r := NewRegistry(Options{Dir: dir, ProcessID: id, ValueOnly: true})
		defer r.Close()
		c, g := NewCounter(CounterOpts{Name: "c_total", Help: "C."}), NewGauge(GaugeOpts{Name: "g", Help: "G.", Mode: ModeLiveSum})
		r.MustRegister(c, g)
		c.Add(4)
		g.Set(2)
		wantMerged(t, "beside a live Python process", dir, map[string]float64{"c_total": 54, "g": 7})
	}
	count()
	end()
	// It has gone: this time its file is ours.
	r := NewRegistry(Options{Dir: dir, ProcessID: id, ValueOnly: true})
	defer r.Close()
	c := NewCounter(CounterOpts{Name: "c_total", Help: "C."})
	r.MustRegister(c)
	c.Add(1)
	wantMerged(t, "after a dead one", dir, map[string]float64{"c_total": 55})
	if names, err := filepath.Glob(filepath.Join(dir, "counter_*")); err != nil || len(names) != 2 {
		t.Errorf("files: %q, %v; want the first id to go on", names, err)
	}
}

// TestDeletionGivesBack: in a process without a directory, what is deleted leaves
// nothing.
func TestDeletionGivesBack(t *testing.T) {
	r := NewRegistry(Options{})
	defer r.Close()
	v := NewGaugeVec(GaugeOpts{Name: "g", Help: "G."}, []string{"l"})
	r.MustRegister(v)
	for i := range 10000 {
		v.WithLabelValues(fmt.Sprint(i)).Set(1)
		v.DeleteLabelValues(fmt.Sprint(i))
	}
	for _, image := range r.Images() {
		if len(image) > 1000 {
			t.Errorf("a value file of %d bytes is left", len(image))
		}
	}
	if n := len(v.table.Load().slots); n > 1000 {
		t.Errorf("a table of %d slots is left", n)
	}
}

// TestContentionInProcess: a process without a directory spreads its counters as
// well.
func TestContentionInProcess(t *testing.T) {
	r := NewRegistry(Options{})
	defer r.Close()
	c := NewCounter(CounterOpts{Name: "c_total", Help: "C."}).(*counter)
	r.MustRegister(c)
	c.stripe(&c.cell)
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			for range 1000 {
				c.Inc()
			}
		})
	}
	adding.Wait()
	if n := len(c.current()); n != stripes {
		t.Errorf("%d places, want %d", n, stripes)
	}
	wantMerged(t, "added up", imagesIn(t, r), map[string]float64{"c_total": 8000})
}

func TestCollectorPanics(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	r := NewRegistry(Options{Dir: dir, ProcessID: "1", Interval: time.Hour, Logger: textLogger(&log)})
	defer r.Close()
	var db *struct{ open float64 }
	r.MustRegister(NewGaugeFunc(GaugeOpts{Name: "open", Help: "O.", Mode: ModeSum}, func() float64 { return db.open }))
	wantMerged(t, "while it panics", dir, map[string]float64{})
	db = &struct{ open float64 }{3}
	r.mirror()
	wantMerged(t, "once it does not", dir, map[string]float64{"open": 3})
	if got := logOf(r, &log); strings.Count(got, "\n") != 1 || !strings.Contains(got, "panicked") {
		t.Errorf("logged:\n%s", got)
	}
}

// TestCollectorIsNotSlow: one that answers is not said to be slow, however long it
// has not been asked.
func TestCollectorIsNotSlow(t *testing.T) {
	var log lockedBuilder
	r := NewRegistry(Options{Logger: textLogger(&log)})
	d := NewDesc("c_total", "C.", nil, nil)
	ask := make(chan struct{})
	m := newCollected(several{descs: []*Desc{d}, send: []*Desc{d}, during: func() { <-ask }}, r.store, time.Hour, func(*Desc) error { return nil })
	m.ask()
	m.ask() // while it owes an answer: not for an hour yet
	ask <- struct{}{}
	m.asking <- struct{}{} // it has answered
	m.patience = 0
	m.ask() // has answered, and is not about to
	if got := logOf(r, &log); got != "" {
		t.Errorf("logged:\n%s", got)
	}
}

// wrapper embeds a metric, forwarder passes on those that it holds. Both are what
// people do with client_golang.
type (
	wrapper   struct{ Counter }
	forwarder struct {
		requests *CounterVec
		busy     Gauge
	}
)

func (f *forwarder) Describe(ch chan<- *Desc) {
	f.requests.Describe(ch)
	f.busy.Describe(ch)
}

func (f *forwarder) Collect(ch chan<- Metric) {
	f.requests.Collect(ch)
	f.busy.Collect(ch)
}

func TestCollectorPassesOn(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	w := wrapper{NewCounter(CounterOpts{Name: "w_total", Help: "W."})}
	f := &forwarder{NewCounterVec(CounterOpts{Name: "requests_total", Help: "R."}, []string{"l"}), NewGauge(GaugeOpts{Name: "busy", Help: "B.", Mode: ModeSum})}
	f.requests.WithLabelValues("before").Inc()
	r.MustRegister(w, f)
	w.Inc()
	f.requests.WithLabelValues("after").Add(2)
	f.busy.Set(3)
	wantMerged(t, "passed on", dir, map[string]float64{"w_total": 1, `requests_total l="before"`: 1, `requests_total l="after"`: 2, "busy": 3})
	if !r.Unregister(f) || !r.Unregister(w) {
		t.Error("not unregistered")
	}
	wantMerged(t, "unregistered", dir, map[string]float64{})
}

// TestRefusedLabels: labels that would make two series one.
func TestRefusedLabels(t *testing.T) {
	r := NewRegistry(Options{})
	defer r.Close()
	if err := r.Register(NewGaugeVec(GaugeOpts{Name: "g", Help: "G."}, []string{"pid"})); err == nil {
		t.Error("a gauge with a label pid was registered")
	}
	if _, err := NewConstMetric(NewDesc("g", "G.", []string{"pid"}, nil), GaugeValue, 1, "7"); err == nil {
		t.Error("a constant gauge with a label pid was made")
	}
	r.MustRegister(NewCounter(CounterOpts{Name: "c_total", Help: "C.", ConstLabels: Labels{"l": "x"}}))
	if err := r.Register(NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})); err == nil {
		t.Error("a label that is constant elsewhere was registered as a variable one")
	}
}

// TestProcessID: an id that can't be part of a file name, or that would be taken
// for something else there, is refused like any other fault of the files.
func TestProcessID(t *testing.T) {
	long := strings.Repeat("x", maxID+1)
	for id, want := range map[string]string{
		"../7":     `want UTF-8 text without slashes and NULs, got "../7"`,
		"\xff":     `want UTF-8 text without slashes and NULs, got "\xff"`,
		long:       `want at most 200 bytes, got 201: "xxx`,
		"archived": `want a name that is not promagg's own, as "archived" and those that end in "~" and a number are, got "archived"`,
		"12~1":     `are, got "12~1"`,
		"web~a~42": `are, got "web~a~42"`,
		// These are not.
		"archived1": "", "archived.1": "", "12~": "", "12~1a": "", "a~b": "", "12": "", "web_0": "", "7-0": "",
	} {
		for _, from := range []string{"Options.ProcessID", "PROMAGG_PROCESS_ID"} {
			var log strings.Builder
			dir := t.TempDir()
			opts := Options{Dir: dir, ProcessID: id, Logger: textLogger(&log)}
			if from == "PROMAGG_PROCESS_ID" {
				opts.ProcessID = ""
				t.Setenv(from, id)
			}
			r := NewRegistry(opts)
			if err := r.Err(); (err != nil) != (want != "") {
				t.Errorf("%s %.20q: Err() is %v before there is a metric", from, id, err)
			}
			c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
			r.MustRegister(c)
			c.WithLabelValues("x").Inc()
			c.WithLabelValues("x").Inc()
			if v := c.WithLabelValues("x").(*counter).at.Load().Load(); v != 2 {
				t.Errorf("%s %.20q: the counter is %v, want 2", from, id, v)
			}
			if want == "" {
				if _, err := os.Stat(filepath.Join(dir, "counter_"+id+".db")); err != nil || r.Err() != nil || logOf(r, &log) != "" {
					t.Errorf("%s %q: %v, Err() is %v, logged:\n%s", from, id, err, r.Err(), &log)
				}
			} else {
				files, err := os.ReadDir(dir)
				if err != nil || len(files) != 0 {
					t.Errorf("%s %.20q: files %v, %v", from, id, files, err)
				}
				if err := r.Err(); err == nil || !strings.Contains(err.Error(), from+": want") || !strings.Contains(err.Error(), want) || strings.Count(logOf(r, &log), "\n") != 1 {
					t.Errorf("%s %.20q: Err() is %v, want %s; logged:\n%s", from, id, err, want, &log)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestProcessIDInProcess: without a directory no file is to have the id, so any
// will do.
func TestProcessIDInProcess(t *testing.T) {
	r := NewRegistry(Options{ProcessID: "a/b"})
	defer r.Close()
	c := NewCounter(CounterOpts{Name: "c_total", Help: "C."})
	r.MustRegister(c)
	c.Inc()
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	wantMerged(t, "served", imagesIn(t, r), map[string]float64{"c_total": 1})
}

// TestClaimDamaged: of several processes that find a damaged gauge file, one has
// the name, and none deletes another's.
func TestClaimDamaged(t *testing.T) {
	for range 200 {
		path := filepath.Join(t.TempDir(), "gauge_all_1.db")
		if err := os.WriteFile(path, []byte("\x10\x00\x00\x00damaged!"), 0o600); err != nil {
			t.Fatal(err)
		}
		var claiming sync.WaitGroup
		var mu sync.Mutex // protects owners
		var owners []*mmapfile.Writer
		for range 4 {
			claiming.Go(func() {
				w, err := mmapfile.ClaimAnew(path, mmapfile.ValueTimestamp, 0)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					owners = append(owners, w)
				}
			})
		}
		claiming.Wait()
		if len(owners) != 1 || !owners[0].Named() {
			t.Fatalf("%d own it", len(owners))
		}
		owners[0].Close()
	}
}
