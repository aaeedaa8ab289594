package merge

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
)

// fileOf returns a value+timestamp file, or a Ruby one, in memory.
func fileOf(base string, ruby bool) *modelFile {
	name, ok := mmapfile.ParseName(base)
	if !ok {
		panic("no value file: " + base)
	}
	f := &modelFile{name: name, ruby: ruby, layout: mmapfile.ValueTimestamp, counted: true}
	if ruby {
		f.layout = mmapfile.ValueOnly
	}
	return f
}

// put appends an entry with labels given as name, value, …, and sets it.
func (f *modelFile) put(family, sample string, v float64, labels ...string) *modelEntry {
	e := &modelEntry{family: family, sample: sample}
	for i := 0; i < len(labels); i += 2 {
		e.labels = append(e.labels, mmapfile.Label{Name: labels[i], Value: labels[i+1]})
	}
	f.append(e)
	f.set(e, v, 1)
	return e
}

func samplesOf(t *testing.T, x *Index, files ...*modelFile) map[string]float64 {
	t.Helper()
	for _, f := range files {
		f.index(t, x)
	}
	s, _ := x.Snapshot()
	return flatten(t, s)
}

// TestUnlawful: what no exposition can hold is dropped and counted, and the
// entries beside it are served.
func TestUnlawful(t *testing.T) {
	for _, c := range []struct {
		file, family, sample string
		labels               []string
		want                 Reason
	}{
		{"counter_1.db", "", "", nil, BadName},
		{"counter_1.db", "9lives", "9lives_total", nil, BadName},
		{"counter_1.db", "a-b", "a-b_total", nil, BadName},
		{"counter_1.db", "größe", "größe_total", nil, BadName},
		{"counter_1.db", "a b", "a b_total", nil, BadName},
		{"counter_1.db", "a", "b_total", nil, BadSample},
		{"counter_1.db", "a", "a_created", nil, BadSample},
		{"gauge_all_1.db", "a", "a_total", nil, BadSample},
		{"summary_1.db", "a", "a", []string{"quantile", "0.5"}, BadSample},
		{"summary_1.db", "a", "a_sum", []string{"quantile", "0.5"}, BadLabel},
		{"summary_1.db", "a", "a_bucket", []string{"le", "1"}, BadSample},
		{"histogram_1.db", "a", "a", nil, BadSample},
		{"histogram_1.db", "a", "a_bucket", nil, BadBound},
		{"histogram_1.db", "a", "a_bucket", []string{"le", ""}, BadBound},
		{"histogram_1.db", "a", "a_bucket", []string{"le", "NaN"}, BadBound},
		{"histogram_1.db", "a", "a_bucket", []string{"le", "one"}, BadBound},
		{"histogram_1.db", "a", "a_sum", []string{"le", "1"}, BadBound},
		{"counter_1.db", "a", "a_total", []string{"", "x"}, BadLabel},
		{"counter_1.db", "a", "a_total", []string{"a:b", "x"}, BadLabel},
		{"counter_1.db", "a", "a_total", []string{"__name__", "x"}, BadLabel},
	} {
		f := fileOf(c.file, false)
		f.put(c.family, c.sample, 1, c.labels...)
		x := New()
		p := x.Add(f.name)
		var w mmapfile.Walker
		err := w.Walk(f.data, func(e mmapfile.Entry) error {
			dropped, reason, err := p.Add(e)
			if !dropped || reason != c.want {
				t.Errorf("%s of %s%v in %s: dropped %v for its %v, want %v", c.sample, c.family, c.labels, c.file, dropped, reason, c.want)
			}
			return err
		})
		s, _ := x.Snapshot()
		if err != nil || len(s.Families) > 0 || x.Dropped(c.want) != 1 || x.Series() != 0 {
			t.Errorf("%s of %s: %v, %d families, %d dropped", c.sample, c.family, err, len(s.Families), x.Dropped(c.want))
		}
	}
}

// TestHalfSurrogate: a label value that UTF-8 has no bytes for is dropped.
func TestHalfSurrogate(t *testing.T) {
	x := New()
	p := x.Add(mmapfile.Name{Type: Counter, ID: "1"})
	dropped, reason, err := p.Add(mmapfile.Entry{Key: []byte(`["a", "a_total", {"l": "\udcff"}]`)})
	if !dropped || reason != BadLabel || err != nil {
		t.Errorf("dropped %v, reason %v, %v", dropped, reason, err)
	}
}

// TestWriterName: a file name that is no text can't be a label.
func TestWriterName(t *testing.T) {
	for base, dropped := range map[string]bool{"gauge_all_\xff.db": true, "gauge_sum_\xff.db": false, "gauge_liveall_ü.db": false} {
		f := fileOf(base, false)
		f.put("g", "g", 1)
		p := New().Add(f.name)
		var w mmapfile.Walker
		err := w.Walk(f.data, func(e mmapfile.Entry) error {
			if got, reason, err := p.Add(e); got != dropped || got && reason != BadLabel || err != nil {
				t.Errorf("%q: dropped %v for its %v, %v", base, got, reason, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestWideHistogram: the buckets of a file that is removed cost no more than
// they are, even if another file keeps their series.
func TestWideHistogram(t *testing.T) {
	wide, narrow := fileOf("histogram_1.db", false), fileOf("histogram_2.db", false)
	const buckets = 20000
	for i := range buckets {
		wide.put("h", "h_bucket", 1, "le", fmt.Sprint(i))
	}
	narrow.put("h", "h_bucket", 1, "le", "7")
	x := New()
	if got := samplesOf(t, x, wide, narrow); got["h_count"] != buckets+1 {
		t.Fatalf("count %v", got["h_count"])
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x.Remove(wide.part)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 200*buckets {
		t.Errorf("removing %d buckets allocates %d bytes", buckets, n)
	}
	if got := samplesOf(t, x, narrow); len(got) != 3 || got["h_bucket le=7"] != 1 {
		t.Errorf("left: %v", got)
	}
	checkCells(t, x)
}

// TestGivesBack: what a huge file took is free again once it is gone.
func TestGivesBack(t *testing.T) {
	small, huge := fileOf("counter_1.db", false), fileOf("counter_2.db", false)
	small.put("c", "c_total", 1)
	for i := range 50000 {
		huge.put(fmt.Sprint("n", i), fmt.Sprint("n", i, "_total"), 1)
	}
	x := New()
	samplesOf(t, x, small, huge)
	x.Remove(huge.part)
	if got := samplesOf(t, x, small); len(got) != 1 {
		t.Errorf("left: %d samples", len(got))
	}
	if n := cap(x.acc) + cap(x.refs) + cap(x.owner) + cap(x.free); n > 1000 || len(x.families) > 1 {
		t.Errorf("room for %d cells and %d families is left", n, len(x.families))
	}
	checkCells(t, x)
}

// TestGaugePID: as in the Python client, a gauge's own label "pid" gives way.
func TestGaugePID(t *testing.T) {
	all, sum := fileOf("gauge_liveall_7.db", false), fileOf("gauge_sum_7.db", false)
	all.put("a", "a", 1, "pid", "own", "z", "1")
	sum.put("s", "s", 1, "pid", "own")
	sum.put("s", "s", 2, "pid", "other")
	got := samplesOf(t, New(), all, sum)
	if len(got) != 2 || got[`a pid="7" z="1"`] != 1 || got["s"] != 3 {
		t.Errorf("got %v", got)
	}
}

// TestConflicts: each kind is reported and served as its constant says.
func TestConflicts(t *testing.T) {
	h, g, two := fileOf("histogram_1.db", false), fileOf("gauge_max_1.db", false), fileOf("histogram_2.db", false)
	h.put("a", "a_bucket", 1, "le", "1.0")
	h.put("a", "a_bucket", 1, "le", "2.0")
	g.put("a_count", "a_count", 5)
	g.put("b", "b", 5)
	two.put("a", "a_bucket", 1, "le", "1.0")
	two.put("a", "a_bucket", 10, "le", "3.0")
	x := New()
	got := samplesOf(t, x, h, g, two)
	want := map[string]float64{"a_bucket le=1": 2, "a_bucket le=2": 3, "a_bucket le=3": 13, "a_bucket le=+Inf": 13, "a_count": 13, "b": 5}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s, _ := x.Snapshot()
	if fmt.Sprint(s.Conflicts) != fmt.Sprint([]Conflict{{"a_count", NameConflict}, {"a", BoundsConflict}}) {
		t.Errorf("conflicts %v", s.Conflicts)
	}
}

// TestHelp: the first in byte order is served, whoever comes first.
func TestHelp(t *testing.T) {
	for _, order := range [][]string{{"b", "", "a"}, {"a", "b", ""}, {"", "b", "a"}} {
		x := New()
		for i, help := range order {
			p := x.Add(mmapfile.Name{Type: Counter, ID: fmt.Sprint(i)})
			if _, _, err := p.Add(mmapfile.Entry{Key: fmt.Appendf(nil, `["f", "f_total", {"i": "%d"}, %q]`, i, help)}); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := x.Snapshot()
		if s.Families[0].Help != "a" || fmt.Sprint(s.Conflicts) != fmt.Sprint([]Conflict{{"f_total", HelpConflict}}) {
			t.Errorf("order %q: help %q, conflicts %v", order, s.Families[0].Help, s.Conflicts)
		}
	}
}

// TestBoundSpelling: bounds are served as their writers spell them, canonically
// once two writers differ; snapshots made before do not change.
func TestBoundSpelling(t *testing.T) {
	ruby, python := fileOf("histogram_r-0.db", true), fileOf("histogram_1.db", false)
	ruby.put("a", "a_bucket", 3, "le", "1")
	x := New()
	samplesOf(t, x, ruby)
	before, _ := x.Snapshot()
	python.put("a", "a_bucket", 4, "le", "1.0")
	samplesOf(t, x, python)
	after, _ := x.Snapshot()
	text := func(s *Snapshot) string {
		f := s.Families[0]
		return f.Bounds[f.Series[0].Buckets[0].Bound].Text
	}
	if text(before) != "1" || text(after) != "1.0" {
		t.Errorf("spelt %q before, %q after", text(before), text(after))
	}
}

// TestSnapshotsAreImmutable keeps snapshots while series and buckets come and go.
func TestSnapshotsAreImmutable(t *testing.T) {
	x := New()
	a, b := fileOf("histogram_1.db", false), fileOf("histogram_2.db", false)
	a.put("h", "h_bucket", 1, "le", "1.0")
	samplesOf(t, x, a)
	first, _ := x.Snapshot()
	want := fmt.Sprint(flatten(t, first))
	b.put("h", "h_bucket", 5, "le", "0.5")
	b.put("h", "h_bucket", 5, "le", "0.5", "x", "y")
	samplesOf(t, x, b)
	second, _ := x.Snapshot()
	want2 := fmt.Sprint(flatten(t, second))
	x.Remove(a.part)
	if _, faulted := x.Snapshot(); faulted != nil {
		t.Fatal(faulted)
	}
	if got := fmt.Sprint(flatten(t, first)); got != want {
		t.Errorf("the first snapshot became %s, was %s", got, want)
	}
	if got := fmt.Sprint(flatten(t, second)); got != want2 {
		t.Errorf("the second snapshot became %s, was %s", got, want2)
	}
}

// TestFallingValue: a counter that is lower than before is believed in the end,
// and so is one that is no number.
func TestFallingValue(t *testing.T) {
	f := fileOf("counter_1.db", false)
	e := f.put("c", "c_total", 1000)
	x := New()
	if got := samplesOf(t, x, f); got["c_total"] != 1000 {
		t.Fatal(got)
	}
	f.set(e, 10, 0)
	if got := samplesOf(t, x, f); got["c_total"] != 10 {
		t.Errorf("a value that fell for good: %v", got)
	}
	if low := f.part.low[0]; low != 10 {
		t.Errorf("the lowest value believed is %v", low)
	}
	f.set(e, math.NaN(), 0)
	if got := samplesOf(t, x, f); !math.IsNaN(got["c_total"]) {
		t.Errorf("NaN: %v", got)
	}
	f.set(e, 11, 0)
	if got := samplesOf(t, x, f); got["c_total"] != 11 {
		t.Errorf("after NaN: %v", got)
	}
}

// TestChurn: writers with label sets of their own come and go, and nothing of
// them stays.
func TestChurn(t *testing.T) {
	x := New()
	stay := fileOf("counter_stay.db", false)
	stay.put("c", "c_total", 1)
	for i := range 20000 {
		f := fileOf("gauge_liveall_1.db", false)
		f.name.ID = fmt.Sprint(i)
		if i%2 == 0 {
			f.name.Type, f.name.Mode = Histogram, mmapfile.NoMode
			f.put(fmt.Sprint("h", i), fmt.Sprint("h", i, "_bucket"), 1, "le", "1.0")
		} else {
			f.put("g", "g", 1, "i", fmt.Sprint(i))
		}
		f.index(t, x)
		if i%1000 == 0 {
			samplesOf(t, x, stay)
		}
		x.Remove(f.part)
	}
	if got := samplesOf(t, x, stay); len(got) != 1 || got["c_total"] != 1 {
		t.Errorf("left over: %v", got)
	}
	keys := len(x.keys.nodes)
	if len(x.acc) > 100 || keys > 5000 || len(x.families) > 5000 || x.Series() != 1 {
		t.Errorf("left over: %d cells, %d keys, %d families, %d series", len(x.acc), keys, len(x.families), x.Series())
	}
}

// snapshotAllocs returns how many allocations a steady snapshot of that many
// writers and series makes.
func snapshotAllocs(t *testing.T, writers, series int) float64 {
	t.Helper()
	x := New()
	for w := range writers {
		for _, base := range []string{"counter_%d.db", "gauge_max_%d.db", "histogram_%d.db"} {
			f := fileOf(fmt.Sprintf(base, w), false)
			for i := range series {
				switch f.name.Type {
				case Counter:
					f.put("c", "c_total", 1, "i", fmt.Sprint(i))
				case Gauge:
					f.put("g", "g", 1, "i", fmt.Sprint(i))
				default:
					f.put("h", "h_bucket", 1, "i", fmt.Sprint(i), "le", "1.0")
				}
			}
			f.index(t, x)
		}
	}
	x.Snapshot()
	return testing.AllocsPerRun(20, func() { x.Snapshot() })
}

// TestSnapshotAllocations: a steady snapshot allocates the same few objects,
// however much it merges.
func TestSnapshotAllocations(t *testing.T) {
	small, large := snapshotAllocs(t, 1, 1), snapshotAllocs(t, 40, 200)
	t.Logf("%v allocations", large)
	if small != large || large > 10 {
		t.Errorf("%v allocations for a small directory, %v for a large one", small, large)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, size := range []struct{ writers, entries int }{{8, 500}, {64, 2500}, {1000, 1000}} {
		b.Run(fmt.Sprintf("writers=%d/entries=%d", size.writers, size.entries), func(b *testing.B) {
			x := New()
			for w := range size.writers {
				f := fileOf(fmt.Sprintf("counter_%d.db", w), false)
				for i := range size.entries {
					f.put("c", "c_total", float64(i), "i", fmt.Sprint(i))
				}
				p := x.Add(f.name)
				var walk mmapfile.Walker
				if err := walk.Walk(f.data, func(e mmapfile.Entry) error { _, _, err := p.Add(e); return err }); err != nil {
					b.Fatal(err)
				}
				p.Map(f.data, walk.Layout())
			}
			b.ResetTimer()
			for b.Loop() {
				x.Snapshot()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size.writers*size.entries), "ns/entry")
		})
	}
}

// TestInfiniteBuckets: a count that has been below nothing is none, even if
// infinities make no number of it afterwards.
func TestInfiniteBuckets(t *testing.T) {
	x := New()
	f := fileOf("histogram_1.db", false)
	f.put("h", "h_bucket", math.Inf(-1), "le", "1.0")
	f.put("h", "h_bucket", math.Inf(1), "le", "+Inf")
	f.put("other", "other_bucket", 1, "le", "+Inf")
	f.index(t, x)
	s, _ := x.Snapshot()
	if got := flatten(t, s); len(s.Invalid) != 1 || got["other_count"] != 1 || len(got) != 2 {
		t.Errorf("invalid: %v, got %v", s.Invalid, got)
	}
}

// TestPending: what a part that is pending has does not count, nor against a limit,
// until it is started; and then it is as if it had been added.
func TestPending(t *testing.T) {
	x := New()
	x.Limit(Limits{Entries: 8})
	old := fileOf("histogram_1.db", false)
	old.put("h", "h_bucket", 1, "le", "1.0")
	old.put("h", "h_bucket", 2, "le", "+Inf")
	old.put("h", "h_sum", 5)
	before := samplesOf(t, x, old)

	archive := fileOf("histogram_archived.db", false)
	archive.put("h", "h_bucket", 1, "le", "1.0")
	archive.put("h", "h_bucket", 2, "le", "+Inf")
	archive.put("h", "h_sum", 5)
	archive.put("h", "h_sum", 7, "only", "here")
	archive.put("h", "h_bucket", 7, "only", "here", "le", "+Inf")
	archive.part = x.AddPending(archive.name)
	if diff := gocmp.Diff(before, samplesOf(t, x, archive)); diff != "" {
		t.Errorf("with a pending part (-before +now):\n%s", diff)
	}
	s, _ := x.Select(func(find func(string) *Family) []*Family { return []*Family{find("h")} })
	if diff := gocmp.Diff(before, flatten(t, s)); diff != "" {
		t.Errorf("selected, with a pending part (-before +now):\n%s", diff)
	}
	if len(s.Conflicts) != 0 {
		t.Errorf("conflicts with a pending part: %v", s.Conflicts)
	}
	if x.entries.taken != 3 {
		t.Errorf("%d entries count with a pending part, want 3", x.entries.taken)
	}

	// One that is given up leaves nothing.
	x.Remove(archive.part)
	if diff := gocmp.Diff(before, samplesOf(t, x)); diff != "" || x.Series() != 1 || x.entries.taken != 3 {
		t.Errorf("after a pending part was removed: %d series, %d entries (-before +now):\n%s", x.Series(), x.entries.taken, diff)
	}

	archive.part, archive.walker = x.AddPending(archive.name), mmapfile.Walker{}
	archive.index(t, x)
	archive.part.Start()
	x.Remove(old.part)
	before[`h_sum only="here"`], before[`h_count only="here"`] = 7, 7
	before[`h_bucket only="here" le=+Inf`] = 7
	if diff := gocmp.Diff(before, samplesOf(t, x)); diff != "" || x.entries.taken != 5 {
		t.Errorf("started, with %d entries (-want +got):\n%s", x.entries.taken, diff)
	}
	if !archive.part.Freeze() {
		t.Fatal("not frozen")
	}
	if diff := gocmp.Diff(before, samplesOf(t, x)); diff != "" {
		t.Errorf("frozen (-want +got):\n%s", diff)
	}
}
