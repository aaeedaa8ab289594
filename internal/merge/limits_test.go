package merge

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
)

// addAll adds all entries of a file, whatever becomes of them, and returns the
// reasons for which some were dropped.
func addAll(t *testing.T, x *Index, f *modelFile) map[Reason]int {
	t.Helper()
	dropped := make(map[Reason]int)
	f.part, f.walker = x.Add(f.name), mmapfile.Walker{}
	if err := f.walker.Walk(f.data, func(e mmapfile.Entry) error {
		was, reason, err := f.part.Add(e)
		if was {
			dropped[reason]++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.part.Map(mmapfile.Bytes(f.data), f.walker.Layout())
	return dropped
}

// TestLimits: what is past each limit is dropped and counted for that, and all else
// is served. Entries of series that are there go on being taken in.
func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 1000)
	counters := func(n int, suffix string) (f *modelFile) {
		f = fileOf("counter_1.db", false)
		for i := range n {
			f.put("c", "c_total", 1, "l", fmt.Sprint(i, suffix))
		}
		return f
	}
	buckets := func(n int) *modelFile {
		f := fileOf("histogram_1.db", false)
		for i := range n {
			f.put("h", "h_bucket", 1, "le", fmt.Sprint(i))
		}
		f.put("h", "h_bucket", 1, "le", "+Inf")
		f.put("h", "h_sum", 1)
		return f
	}
	labels := fileOf("counter_1.db", false)
	labels.put("c", "c_total", 1, "a", "1", "b", "2", "c", "3")
	labels.put("c", "c_total", 1, "a", "1", "b", "2", "c", "3", "d", "4")
	longKey := counters(2, "")
	longKey.put("c", "c_total", 1, "l", long)
	for _, c := range []struct {
		name    string
		limits  Limits
		file    *modelFile
		dropped map[Reason]int
		samples int
	}{
		{"key length", Limits{KeyLength: 100}, longKey, map[Reason]int{PastKeyLength: 1}, 2},
		{"labels", Limits{Labels: 3}, labels, map[Reason]int{PastLabels: 1}, 1},
		{"buckets", Limits{Buckets: 5}, buckets(9), map[Reason]int{PastBuckets: 4}, 5 + 3},
		{"entries", Limits{Entries: 20}, counters(15, ""), map[Reason]int{PastEntries: 5}, 10},
		{"series", Limits{Series: 20}, counters(15, ""), map[Reason]int{PastSeries: 5}, 10},
		{"series, of a histogram", Limits{Series: 20}, buckets(15), map[Reason]int{PastSeries: 8}, 10},
		{"series bytes", Limits{SeriesBytes: 19_000}, counters(15, long), map[Reason]int{PastSeriesBytes: 6}, 9},
		{"none", Limits{}, counters(15, long), map[Reason]int{}, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := New()
			x.Limit(c.limits)
			if diff := gocmp.Diff(c.dropped, addAll(t, x, c.file)); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			got := samplesOf(t, x)
			if len(got) != c.samples {
				t.Errorf("%d samples, want %d", len(got), c.samples)
			}
			for r, n := range c.dropped {
				if !r.Limit() || x.Dropped(r) != uint64(n) {
					t.Errorf("%v is counted %d times, want %d", r, x.Dropped(r), n)
				}
			}
			checkCells(t, x)
			// Another part of the same series gets all of those that there are.
			another := *c.file
			another.name.ID = "2"
			addAll(t, x, &another)
			twice := samplesOf(t, x)
			if len(twice) < len(got) {
				t.Errorf("of %d samples %d are left", len(got), len(twice))
			}
			for name, v := range got {
				// Of a histogram the other part may get the next of the buckets.
				exact := c.file.name.Type == Counter && c.limits.Entries == 0
				if twice[name] < v || exact && twice[name] != 2*v {
					t.Errorf("%.40s was %v, and is %v with another part", name, v, twice[name])
				}
			}
			checkCells(t, x)
			x.Remove(c.file.part)
			x.Remove(another.part)
			x.sweep()
			checkCells(t, x)
			if x.entries.taken != 0 || x.lines.taken != 0 || x.text.taken != 0 || len(x.families) != 0 {
				t.Errorf("%d entries, %d lines, %d bytes and %d families are left", x.entries.taken, x.lines.taken, x.text.taken, len(x.families))
			}
		})
	}
}

// TestLimitFair: a part gets no more than it leaves to others, so that one that
// floods the index leaves room for the next ones, but an archive gets all.
func TestLimitFair(t *testing.T) {
	flood := func(base string) *modelFile {
		f := fileOf(base, false)
		for i := range 2000 {
			f.put("c", "c_total", 1, "l", fmt.Sprint(f.name.ID[:1], i))
		}
		return f
	}
	for _, limits := range []Limits{{Series: 1000}, {Entries: 1000}, {SeriesBytes: 20_000}} {
		x := New()
		x.Limit(limits)
		taken := 0
		for i, base := range []string{"counter_1.db", "counter_2.db", "counter_3.db"} {
			f := flood(base)
			addAll(t, x, f)
			n := f.part.Entries()
			taken += n
			if n == 0 || !f.part.Refused() || f.part.Roomy() {
				t.Errorf("%+v: flood %d got %d, refused %v, roomy %v", limits, i, n, f.part.Refused(), f.part.Roomy())
			}
		}
		modest := fileOf("counter_4.db", false)
		for i := range 10 {
			modest.put("m", "m_total", 1, "l", fmt.Sprint(i))
		}
		if dropped := addAll(t, x, modest); len(dropped) > 0 || modest.part.Refused() {
			t.Errorf("%+v: behind %d of floods, of 10 dropped: %v", limits, taken, dropped)
		}
		checkCells(t, x)
		y := New()
		y.Limit(limits)
		f := flood("counter_archived.db")
		addAll(t, y, f)
		first := fileOf("counter_1.db", false)
		first.put("m", "m_total", 1)
		if n := f.part.Entries(); n < taken || len(addAll(t, y, first)) != 1 {
			t.Errorf("%+v: an archive got %d, where floods got %d", limits, n, taken)
		}
	}
}

// TestLimitRoomy: a part to which some was refused hears when there is room.
func TestLimitRoomy(t *testing.T) {
	x := New()
	x.Limit(Limits{Series: 100})
	first, second := fileOf("counter_1.db", false), fileOf("counter_2.db", false)
	for i := range 100 {
		first.put("a", "a_total", 1, "l", fmt.Sprint(i))
	}
	for i := range 40 {
		second.put("b", "b_total", 1, "l", fmt.Sprint(i))
	}
	addAll(t, x, first)
	addAll(t, x, second)
	if first.part.Entries() != 50 || second.part.Entries() != 25 || !second.part.Refused() || second.part.Roomy() {
		t.Fatalf("%d and %d entries, refused %v, roomy %v", first.part.Entries(), second.part.Entries(), second.part.Refused(), second.part.Roomy())
	}
	x.Remove(first.part)
	if !second.part.Roomy() {
		t.Error("there is no room for the second though the first has gone")
	}
}

// TestLimitHelpOfFull: a family that has got all series that there was room for has its help.
func TestLimitHelpOfFull(t *testing.T) {
	x := New()
	x.Limit(Limits{Series: 1})
	p := x.Add(mmapfile.Name{Type: mmapfile.Counter, ID: "1"})
	if dropped, reason, err := p.Add(mmapfile.Entry{Key: []byte(`["f", "f_total", {}, "Help."]`), Value: 8}); dropped || err != nil {
		t.Fatalf("dropped %v for %v, %v", dropped, reason, err)
	}
	if s, _ := x.Snapshot(); len(s.Families) != 1 || s.Families[0].Help != "Help." {
		t.Errorf("got %+v, want the help", s.Families)
	}
	if p.Refused() {
		t.Error("the part counts as refused something")
	}
}

// TestLimitHelp: a help text for which there is no room is not served, and takes
// nothing away from its family.
func TestLimitHelp(t *testing.T) {
	x := New()
	x.Limit(Limits{SeriesBytes: 1000})
	p, q := x.Add(mmapfile.Name{Type: Counter, ID: "1"}), x.Add(mmapfile.Name{Type: Counter, ID: "2"})
	for i, help := range []string{"short", strings.Repeat("a", 2000), ""} {
		for _, p := range []*Part{p, q} {
			key := fmt.Appendf(nil, `["f", "f_total", {"i": "%d"}, %q]`, i, help)
			if dropped, reason, err := p.Add(mmapfile.Entry{Key: key, Value: uint32(8 + 8*i)}); dropped || err != nil {
				t.Errorf("dropped for its %v, %v", reason, err)
			}
		}
	}
	s, _ := x.Snapshot()
	if len(s.Families) != 1 || s.Families[0].Help != "short" || len(s.Families[0].Series) != 3 {
		t.Errorf("families %+v", s.Families)
	}
	checkCells(t, x)
}

// TestSpellings: keys that are spelt differently each time, of series that stay, do
// not pile up, and no part loses track of its own.
func TestSpellings(t *testing.T) {
	x := New()
	stay := fileOf("counter_stay.db", false)
	for i := range 10 {
		stay.put("c", "c_total", 1, "l", fmt.Sprint(i))
	}
	gauges := fileOf("gauge_all_stay.db", false)
	gauges.put("g", "g", 1, "pad", strings.Repeat("x", 10000))
	samplesOf(t, x, stay, gauges)
	for i := range 100 {
		other, gauge := x.Add(mmapfile.Name{Type: Counter, ID: fmt.Sprint(i)}), x.Add(mmapfile.Name{Type: Gauge, Mode: mmapfile.All, ID: "1"})
		for k := range 1000 {
			key := fmt.Appendf(nil, `["c", "c_total", {"l": "%d"}, "help of %d"]`, k%10, i*1000+k)
			if dropped, _, err := other.Add(mmapfile.Entry{Key: key, Value: uint32(8 + 8*k)}); dropped || err != nil {
				t.Fatal(dropped, err)
			}
		}
		for k := range 10 {
			key := fmt.Appendf(nil, `["g", "g", {"pad": "%s"}, "help of %d"]`, strings.Repeat("y", 10000), i*10+k)
			if dropped, _, err := gauge.Add(mmapfile.Entry{Key: key, Value: uint32(8 + 8*k)}); dropped || err != nil {
				t.Fatal(dropped, err)
			}
		}
		x.Remove(other)
		x.Remove(gauge)
		if n := len(x.keys.nodes); n > 70_000 {
			t.Fatalf("%d keys are known after %d files", n, i)
		}
		if n := x.keys.text; n > 2<<20 {
			t.Fatalf("%d bytes of labels are known after %d files", n, i)
		}
	}
	stay.put("c", "c_total", 1, "l", "new")
	want := map[string]float64{"c_total l=new": 1}
	for i := range 10 {
		want[fmt.Sprintf("c_total l=%d", i)] = 1
	}
	got := samplesOf(t, x, stay)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.HasPrefix(name, "g ") })
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	checkCells(t, x)
}

// TestUnscraped: what comes and goes does not pile up where nobody takes a snapshot.
func TestUnscraped(t *testing.T) {
	x := New()
	stay := fileOf("histogram_stay.db", false)
	stay.put("h", "h_bucket", 1, "le", "1.0")
	stay.put("h", "h_bucket", 1, "le", "7.0")
	stay.index(t, x)
	for i := range 100 {
		p := x.Add(mmapfile.Name{Type: Histogram, ID: fmt.Sprint(i)})
		for k := range 200 {
			key := fmt.Appendf(nil, `["h", "h_bucket", {"le": "%d.5"}]`, i*200+k)
			if k%2 == 0 {
				key = fmt.Appendf(nil, `["h", "h_bucket", {"le": "1.0", "l": "%d"}]`, i*200+k)
			}
			if dropped, _, err := p.Add(mmapfile.Entry{Key: key, Value: uint32(8 + 8*k)}); dropped || err != nil {
				t.Fatal(dropped, err)
			}
		}
		x.Remove(p)
	}
	fam := x.families[familyKey{"h", Histogram, 0}]
	if len(fam.bounds) > 2000 || len(fam.boundAt) != len(fam.bounds) || len(fam.added) > 2000 {
		t.Errorf("%d bounds and %d new series are known", len(fam.bounds), len(fam.added))
	}
	x.sweep()
	if len(fam.bounds) > 20 || len(fam.added) > 2 {
		t.Errorf("swept, %d bounds and %d new series are known", len(fam.bounds), len(fam.added))
	}
	late := fileOf("histogram_late.db", false)
	late.put("h", "h_bucket", 1, "le", "3.0")
	late.put("h", "h_bucket", 1, "le", "7.0")
	got := samplesOf(t, x, stay, late)
	want := map[string]float64{"h_bucket le=1": 1, "h_bucket le=3": 2, "h_bucket le=7": 4, "h_bucket le=+Inf": 4, "h_count": 4}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
	checkCells(t, x)
}

// TestLongBound: a bound is served in few bytes, however it was written.
func TestLongBound(t *testing.T) {
	x := New()
	f := fileOf("histogram_1.db", false)
	f.put("h", "h_bucket", 3, "le", "1."+strings.Repeat("0", 5000))
	f.index(t, x)
	s, _ := x.Snapshot()
	if text := s.Families[0].Bounds[s.Families[0].Series[0].Buckets[0].Bound].Text; text != "1.0" {
		t.Errorf("spelt %.40q", text)
	}
}
