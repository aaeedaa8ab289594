package client

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestTwoRegistries: two of one process are as two processes.
func TestTwoRegistries(t *testing.T) {
	dir := t.TempDir()
	var log [2]strings.Builder
	var rs [2]*Registry
	var counters [2]Counter
	for i := range rs {
		rs[i] = NewRegistry(Options{Dir: dir, ProcessID: "7", Interval: time.Hour, Logger: textLogger(&log[i])})
		counters[i] = NewCounter(CounterOpts{Name: "c_total", Help: "C."})
		g := NewGauge(GaugeOpts{Name: "g", Help: "G.", Mode: ModeLiveAll})
		rs[i].MustRegister(counters[i], g, NewCounterFunc(CounterOpts{Name: "f_total", Help: "F."}, func() float64 { return 5 }))
		counters[i].Add(float64(i + 1))
		g.Set(float64(i))
	}
	for range 3 {
		rs[0].mirror()
		rs[1].mirror()
	}
	want := map[string]float64{"c_total": 3, "f_total": 10, "other_total": 0, `g pid="7"`: 0, `g pid="7.1"`: 1}
	other := NewCounter(CounterOpts{Name: "other_total", Help: "O."})
	rs[1].MustRegister(other)
	wantMerged(t, "both", dir, want)
	if err := rs[0].Register(other); err == nil || !strings.Contains(err.Error(), "registered with another registry") {
		t.Errorf("a metric of another registry: %v", err)
	}
	if err := rs[0].Close(); err != nil {
		t.Error(err)
	}
	counters[0].Inc() // goes nowhere
	counters[1].Inc()
	delete(want, `g pid="7"`)
	want["c_total"]++
	wantMerged(t, "one closed", dir, want)
	if rs[0].Err() != nil || rs[1].Err() != nil || logOf(rs[0], &log[0])+logOf(rs[1], &log[1]) != "" {
		t.Errorf("Err() is %v and %v, log:\n%s%s", rs[0].Err(), rs[1].Err(), &log[0], &log[1])
	}
	if err := rs[0].Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	rs[0].MustRegister(NewGaugeFunc(GaugeOpts{Name: "late", Help: "L."}, func() float64 { return 1 }), NewCounter(CounterOpts{Name: "late_total", Help: "L."}))
	if err := rs[1].Close(); err != nil {
		t.Error(err)
	}
	delete(want, `g pid="7.1"`)
	wantMerged(t, "both closed, and registered with after that", dir, want)
}

// TestConstLabels: metrics of one name that differ in their constant labels are
// one family, and nothing else is.
func TestConstLabels(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	desc := func(shard, help string) CounterOpts {
		return CounterOpts{Name: "c_total", Help: help, ConstLabels: Labels{"shard": shard}}
	}
	one := func() float64 { return 1 }
	r.MustRegister(NewCounter(desc("1", "C.")), NewCounterFunc(desc("2", "C."), one))
	for what, c := range map[string]Collector{
		"other help":   NewCounter(desc("3", "Other.")),
		"other labels": NewCounterVec(desc("3", "C."), []string{"l"}),
		"no labels":    NewCounter(CounterOpts{Name: "c_total", Help: "C."}),
	} {
		err := r.Register(c)
		if want := "has different label names or a different help string"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want that it %q", what, err, want)
		}
	}
	var already AlreadyRegisteredError
	if err := r.Register(NewCounterFunc(desc("1", "C."), one)); !errors.As(err, &already) {
		t.Errorf("the same again: %v", err)
	}
	if r.Unregister(NewCounter(desc("3", "C."))) || !r.Unregister(NewCounterFunc(desc("2", "C."), one)) {
		t.Error("Unregister does not tell collectors by what they describe")
	}
	wantMerged(t, "one is left", dir, map[string]float64{`c_total shard="1"`: 0})
}

// several is a collector that describes some of what it sends. It can't be
// compared.
type several struct {
	descs, send []*Desc
	during      func()
}

func (s several) Describe(ch chan<- *Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

func (s several) Collect(ch chan<- Metric) {
	if s.during != nil {
		s.during()
	}
	for _, d := range s.send {
		ch <- MustNewConstMetric(d, CounterValue, 1)
	}
}

func TestCollectorSendsUndescribed(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	r := NewRegistry(Options{Dir: dir, ProcessID: "1", Interval: time.Hour, Logger: textLogger(&log)})
	defer r.Close()
	a, b := NewDesc("a_total", "A.", nil, nil), NewDesc("b_total", "B.", nil, nil)
	mine := NewCounter(CounterOpts{Name: "b_total", Help: "B."})
	r.MustRegister(mine, several{descs: []*Desc{a}, send: []*Desc{a, b}})
	r.mirror()
	wantMerged(t, "a name that is another's", dir, map[string]float64{"a_total": 1, "b_total": 0})
	if got := logOf(r, &log); strings.Count(got, "\n") != 1 || !strings.Contains(got, "b_total") {
		t.Errorf("logged:\n%s", got)
	}
	if c := (several{descs: []*Desc{a, b}}); r.Unregister(c) {
		t.Error("a collector that describes more was taken for the one that is registered")
	}
	if c := (several{descs: []*Desc{a}}); !r.Unregister(c) || r.Unregister(c) {
		t.Error("Unregister does not tell whether it was registered")
	}
	wantMerged(t, "unregistered", dir, map[string]float64{"b_total": 0})
}

// TestCollectorHangs: it costs itself only, and Close ends all the same.
func TestCollectorHangs(t *testing.T) {
	dir := t.TempDir()
	var log lockedBuilder
	r := NewRegistry(Options{Dir: dir, ProcessID: "1", Interval: time.Millisecond, Logger: textLogger(&log)})
	r.patience = 20 * time.Millisecond
	d := NewDesc("slow_total", "S.", nil, nil)
	release := make(chan struct{})
	r.MustRegister(several{descs: []*Desc{d}, send: []*Desc{d}, during: func() { <-release }})
	asked := make(chan struct{})
	r.MustRegister(NewGaugeFunc(GaugeOpts{Name: "fast", Help: "F.", Mode: ModeSum}, func() float64 {
		select {
		case asked <- struct{}{}:
		default:
		}
		return 1
	}))
	for range 3 {
		<-asked
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	close(release) // what it says now goes nowhere
	wantMerged(t, "closed", dir, map[string]float64{"fast": 1})
	if got := logOf(r, &log); strings.Count(got, "has not answered") != 1 {
		t.Errorf("logged:\n%s", got)
	}
}

// TestCollectorUnregistersItself while it is asked.
func TestCollectorUnregistersItself(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	d := NewDesc("once_total", "O.", nil, nil)
	var c several
	c = several{descs: []*Desc{d}, send: []*Desc{d}, during: func() { r.Unregister(c) }}
	r.MustRegister(c)
	wantMerged(t, "unregistered", dir, map[string]float64{})
}

func TestCollectorFaults(t *testing.T) {
	var log strings.Builder
	r := NewRegistry(Options{Dir: t.TempDir(), Interval: time.Hour, Logger: textLogger(&log)})
	defer r.Close()
	r.MustRegister(NewCounterFunc(CounterOpts{Name: "falls_total", Help: "F."}, func() float64 { return -1 }))
	r.mirror()
	if got := logOf(r, &log); strings.Count(got, "\n") != 1 || !strings.Contains(got, "want at least 0, got -1") {
		t.Errorf("logged:\n%s", got)
	}
	le, quantile := NewDesc("h", "H.", []string{"le"}, nil), NewDesc("s", "S.", nil, Labels{"quantile": "1"})
	if _, err := NewConstHistogram(le, 0, 0, nil, "1"); err == nil {
		t.Error("a histogram with a label le was made")
	}
	if _, err := NewConstSummary(quantile, 0, 0, nil); err == nil {
		t.Error("a summary with a label quantile was made")
	}
}

// TestSetWhileDeleting: a Set that is under way when its series is deleted does
// not bring it back.
func TestSetWhileDeleting(t *testing.T) {
	dir := t.TempDir()
	v := NewGaugeVec(GaugeOpts{Name: "g", Help: "G.", Mode: ModeMostRecent}, []string{"l"})
	r := process(t, dir, "1")
	r.MustRegister(v)
	for range 2000 {
		held := v.WithLabelValues("x")
		var setting sync.WaitGroup
		for range 2 {
			setting.Go(func() {
				for range 20 {
					held.Set(1)
				}
			})
		}
		v.DeleteLabelValues("x")
		setting.Wait()
	}
	wantMerged(t, "deleted", dir, map[string]float64{})
	// The moment is hard to meet, so once more by hand.
	held := v.WithLabelValues("x").(*recentGauge)
	at := held.at.Load()
	v.DeleteLabelValues("x")
	at.Set(1)
	held.set(&held.cell, at, 1)
	wantMerged(t, "deleted between the two halves of a Set", dir, map[string]float64{})
	v.WithLabelValues("x").Set(2)
	held.Set(3)
	at.Set(2)
	held.set(&held.cell, at, 3)
	wantMerged(t, "made again", dir, map[string]float64{`g l="x"`: 2})
}

// TestStripesOfTheDead: what a dead process had spread over several entries goes
// on under its id, and goes as one.
func TestStripesOfTheDead(t *testing.T) {
	dir := t.TempDir()
	start := func() (*Registry, *CounterVec) {
		r := NewRegistry(Options{Dir: dir, ProcessID: "1"})
		v := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
		r.MustRegister(v)
		return r, v
	}
	add := func(c Counter) {
		var adding sync.WaitGroup
		for range 50 {
			adding.Go(func() { c.Add(1) })
		}
		adding.Wait()
	}
	r, v := start()
	c := v.WithLabelValues("x").(*counter)
	c.stripe(&c.cell)
	add(c)
	spread := len(c.current())
	if spread < stripes {
		t.Errorf("spread over %d entries, want at least %d", spread, stripes)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, v = start()
	defer r.Close()
	add(v.WithLabelValues("x"))
	wantMerged(t, "gone on", dir, map[string]float64{`c_total l="x"`: 100})
	c = v.WithLabelValues("x").(*counter)
	c.stripe(&c.cell)
	add(c)
	if n := len(c.current()); n != spread {
		t.Errorf("spread over %d entries, want the %d that there are", n, spread)
	}
	wantMerged(t, "spread again", dir, map[string]float64{`c_total l="x"`: 150})
	v.DeleteLabelValues("x")
	wantMerged(t, "deleted", dir, map[string]float64{})
	// A collector that goes on with the name.
	if !r.Unregister(v) {
		t.Error("not unregistered")
	}
	r.MustRegister(NewCounterFunc(CounterOpts{Name: "c_total", Help: "C.", ConstLabels: Labels{"l": "x"}}, func() float64 { return 1 }))
	wantMerged(t, "told by a collector", dir, map[string]float64{`c_total l="x"`: 1})
}

// TestCloseLeavesOthersFiles: a file that stands where a live gauge's was is
// somebody else's.
func TestCloseLeavesOthersFiles(t *testing.T) {
	dir := t.TempDir()
	first := NewRegistry(Options{Dir: dir, ProcessID: "1"})
	g := NewGauge(GaugeOpts{Name: "g", Help: "G.", Mode: ModeLiveSum})
	first.MustRegister(g)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	second := NewRegistry(Options{Dir: dir, ProcessID: "1"})
	g2 := NewGauge(GaugeOpts{Name: "g", Help: "G.", Mode: ModeLiveSum})
	second.MustRegister(g2)
	g2.Set(2)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	wantMerged(t, "the first is closed", dir, map[string]float64{"g": 2})
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	wantMerged(t, "both are closed", dir, map[string]float64{})
}

// lockedBuilder is a strings.Builder for several goroutines.
type lockedBuilder struct {
	mu sync.Mutex // protects b
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
