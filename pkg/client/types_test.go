package client

import (
	"errors"
	"testing"
)

// TestInfo: served once, whatever the number of processes.
func TestInfo(t *testing.T) {
	dir := t.TempDir()
	var infos []*Info
	for _, id := range []string{"1", "2", "3"} {
		i := NewInfo(InfoOpts{Name: "app", Help: "App."}, []string{"version"})
		process(t, dir, id).MustRegister(i)
		i.Set(Labels{"version": "1.0"})
		infos = append(infos, i)
	}
	wantMerged(t, "three processes", dir, map[string]float64{`app_info version="1.0"`: 1})
	if err := NewRegistry(Options{}).Register(NewInfo(InfoOpts{Namespace: "app"}, nil)); err == nil {
		t.Error("an info without a name was registered")
	}
	infos[0].Set(Labels{"version": "2.0"})
	wantMerged(t, "one is upgraded", dir, map[string]float64{`app_info version="1.0"`: 1, `app_info version="2.0"`: 1})
}

// TestEnum: each process's state, or how many are in which.
func TestEnum(t *testing.T) {
	dir := t.TempDir()
	for _, id := range []string{"1", "2", "3"} {
		each := NewEnum(EnumOpts{Name: "state", Help: "State.", States: []string{"idle", "busy"}, Mode: ModeLiveAll})
		sum := NewEnum(EnumOpts{Name: "states", Help: "States.", States: []string{"idle", "busy"}, Mode: ModeLiveSum})
		process(t, dir, id).MustRegister(each, sum)
		if id != "3" {
			each.State("busy")
			sum.State("busy")
		}
	}
	wantMerged(t, "three processes", dir, map[string]float64{
		`states states="idle"`: 1, `states states="busy"`: 2,
		`state pid="1" state="idle"`: 0, `state pid="1" state="busy"`: 1,
		`state pid="2" state="idle"`: 0, `state pid="2" state="busy"`: 1,
		`state pid="3" state="idle"`: 1, `state pid="3" state="busy"`: 0,
	})
}

// TestEnumAndInfoVec: families of both, and what goes when one is deleted.
func TestEnumAndInfoVec(t *testing.T) {
	dir := t.TempDir()
	enums := NewEnumVec(EnumOpts{Name: "state", Help: "State.", States: []string{"a", "b"}, Mode: ModeLiveSum}, []string{"queue"})
	infos := NewInfoVec(InfoOpts{Name: "lib", Help: "Lib."}, []string{"name"}, []string{"version"})
	process(t, dir, "1").MustRegister(enums, infos)
	enums.WithLabelValues("mail").State("b")
	enums.With(Labels{"queue": "web"})
	infos.WithLabelValues("x").Set(Labels{"version": "1"})
	infos.WithLabelValues("x").Set(Labels{"version": "2"})
	infos.WithLabelValues("y").Set(Labels{"version": "1"})
	want := map[string]float64{
		`state queue="mail" state="a"`: 0, `state queue="mail" state="b"`: 1, `state queue="web" state="a"`: 1, `state queue="web" state="b"`: 0,
		`lib_info name="x" version="2"`: 1, `lib_info name="y" version="1"`: 1,
	}
	wantMerged(t, "families", dir, want)
	if !enums.Delete(Labels{"queue": "web"}) || enums.Delete(Labels{"queue": "web"}) {
		t.Error("Delete does not tell whether there was one")
	}
	delete(want, `state queue="web" state="a"`)
	delete(want, `state queue="web" state="b"`)
	if enums.WithLabelValues("mail") == nil {
		t.Error("no enum")
	}
	wantMerged(t, "one deleted", dir, want)
	if _, err := enums.GetMetricWithLabelValues("a", "b"); !errors.Is(err, errInconsistentCardinality) {
		t.Errorf("two values for one label: %v", err)
	}
}

// levels is a collector of one's own.
type levels struct {
	desc *Desc
	now  map[string]float64
}

func (l *levels) Describe(ch chan<- *Desc) { ch <- l.desc }
func (l *levels) Collect(ch chan<- Metric) {
	for name, v := range l.now {
		ch <- MustNewConstMetric(l.desc, GaugeValue, v, name)
	}
}

func TestCollectors(t *testing.T) {
	dir := t.TempDir()
	calls := 0.0
	start := func() (*Registry, *levels) {
		opts := Options{Dir: dir, ProcessID: "1"}
		r := NewRegistry(opts)
		l := &levels{NewDesc("level", "Level.", []string{"l"}, nil).WithMode(ModeLiveSum), map[string]float64{"a": 1, "b": 2}}
		r.MustRegister(l,
			NewCounterFunc(CounterOpts{Name: "calls_total", Help: "Calls."}, func() float64 { calls++; return calls }),
			NewGaugeFunc(GaugeOpts{Name: "answer", Help: "Answer.", Mode: ModeMax}, func() float64 { return 42 }),
			NewGaugeFunc(GaugeOpts{Name: "queue", Help: "Queue."}, func() float64 { return 5 }))
		return r, l
	}
	r, l := start()
	wantMerged(t, "registered", dir, map[string]float64{`level l="a"`: 1, `level l="b"`: 2, "calls_total": 1, "answer": 42, `queue pid="1"`: 5})
	l.now = map[string]float64{"b": 3, "c": 4}
	r.mirror()
	wantMerged(t, "asked again", dir, map[string]float64{`level l="b"`: 3, `level l="c"`: 4, "calls_total": 2, "answer": 42, `queue pid="1"`: 5})
	if err := r.Close(); err != nil { // asks once more
		t.Fatal(err)
	}
	wantMerged(t, "closed", dir, map[string]float64{"calls_total": 3, "answer": 42})
	// The next process of that id: its function begins at 0 again.
	calls = 0
	r, _ = start()
	defer r.Close()
	wantMerged(t, "a new process", dir, map[string]float64{`level l="a"`: 1, `level l="b"`: 2, "calls_total": 4, "answer": 42, `queue pid="1"`: 5})
}

// described is a collector that leaves its description to what it sends.
type described struct{ levels }

func (d *described) Describe(ch chan<- *Desc) { DescribeByCollect(&d.levels, ch) }

func TestDescribeByCollect(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	c := &described{levels{NewDesc("level", "Level.", []string{"l"}, nil).WithMode(ModeSum), map[string]float64{"a": 1}}}
	r.MustRegister(c)
	wantMerged(t, "registered", dir, map[string]float64{`level l="a"`: 1})
	if err := r.Register(c); !errors.As(err, new(AlreadyRegisteredError)) {
		t.Errorf("registered again: %v", err)
	}
	if !r.Unregister(c) {
		t.Error("not unregistered")
	}
	fault := errors.New("fault")
	if err := r.Register(several{descs: []*Desc{NewInvalidDesc(fault)}}); !errors.Is(err, fault) {
		t.Errorf("an invalid description: %v", err)
	}
	if _, err := NewConstMetric(NewInvalidDesc(fault), GaugeValue, 1); err != fault {
		t.Errorf("a metric of an invalid description: %v", err)
	}
}

func TestHelpers(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	c, g, h := NewCounter(CounterOpts{Name: "errors_total", Help: "E."}), NewGauge(GaugeOpts{Name: "busy", Help: "B.", Mode: ModeSum}), NewSummary(SummaryOpts{Name: "took", Help: "T."})
	r.MustRegister(c, g, h)
	fault := errors.New("fault")
	if err := CountErrors(c, func() error { return fault }); err != fault {
		t.Error(err)
	}
	if err := CountErrors(c, func() error { return nil }); err != nil {
		t.Error(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = CountErrors(c, func() error { panic("p") })
	}()
	InProgress(g, func() {
		if got := merged(t, dir, 0)["busy"]; got != 1 {
			t.Errorf("in progress: %v", got)
		}
	})
	Time(h, func() {})
	got := merged(t, dir, 0)
	if got["errors_total"] != 2 || got["busy"] != 0 || got["took_count"] != 1 || got["took_sum"] <= 0 {
		t.Errorf("got %v", got)
	}
}

// TestCollectorMayRegister: a collector is asked without a lock held that it
// could want.
func TestCollectorMayRegister(t *testing.T) {
	dir := t.TempDir()
	r := process(t, dir, "1")
	late := NewCounter(CounterOpts{Name: "late_total", Help: "L."})
	r.MustRegister(NewGaugeFunc(GaugeOpts{Name: "g", Help: "G.", Mode: ModeSum}, func() float64 {
		_ = r.Register(late)
		return 1
	}))
	wantMerged(t, "registered while asked", dir, map[string]float64{"g": 1, "late_total": 0})
}
