package merge

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// samples flattens a joined snapshot, in which each series must be there once.
func samples(t *testing.T, s *Snapshot) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	for i := range s.Families {
		// A family of each series, for flatten wants them in order.
		f := s.Families[i]
		if s.Find(f.Name) != &s.Families[i] {
			t.Fatalf("%s is not found", f.Name)
		}
		values := s.Values(&f)
		for _, series := range f.Series {
			one := f
			one.Series, one.first = []*Series{series}, 0
			for k, v := range flatten(t, &Snapshot{catalog: &catalog{Families: []Family{one}}, values: values[:f.Width(series)]}) {
				if _, twice := all[k]; twice {
					t.Fatalf("%s twice", k)
				}
				all[k] = v
			}
			values = values[f.Width(series):]
		}
	}
	return all
}

// TestJoinModel: what several indexes have, joined, is what each has by itself.
func TestJoinModel(t *testing.T) {
	rnd := testpeer.Rand(t)
	for round := range 20 {
		var worlds []*world
		var indexes []*Index
		for i := range 3 {
			w := &world{rnd: rnd, rules: &modelRules{label: map[string]string{"app": fmt.Sprint(i)}}}
			x := New()
			x.Rule(w.rules.rules(t))
			worlds, indexes = append(worlds, w), append(indexes, x)
		}
		var j Joiner
		for range 10 {
			var all []*Snapshot
			want := make(map[string]float64)
			types := make(map[string]Type)
			for i, w := range worlds {
				for range rnd.IntN(60) {
					w.step(t, indexes[i])
				}
				for _, f := range w.files {
					f.index(t, indexes[i])
				}
				s, _ := indexes[i].Snapshot()
				all = append(all, s)
				for _, f := range s.Families {
					for _, name := range namesOf(f.Name, f.Type) {
						if was, ok := types[name]; !ok || precedence(f.Type) < precedence(was) {
							types[name] = f.Type
						}
					}
				}
			}
			joined := j.Join(all)
			conflicting := make(map[string]bool)
			for _, c := range joined.Conflicts {
				conflicting[c.Family] = true
			}
			for _, s := range all {
				for k := range s.Families {
					f := &s.Families[k]
					if conflicting[f.Name] && joined.Find(f.Name) == nil || joined.Find(f.Name) != nil && joined.Find(f.Name).Type != f.Type {
						continue // another one has its name, which the test below is about
					}
					one := &Snapshot{catalog: &catalog{Families: []Family{*f}}, values: s.values}
					for k, v := range flatten(t, one) {
						want[k] = v
					}
				}
			}
			if diff := gocmp.Diff(want, samples(t, joined), equalFloats); diff != "" {
				t.Fatalf("round %d (-each +joined):\n%s", round, diff)
			}
			for name, typ := range types {
				if f := joined.Find(name); f != nil && f.Type != typ && !conflicting[name] {
					t.Fatalf("%s is a %v, want %v", name, f.Type, typ)
				}
			}
			again := j.Join(all)
			if again.catalog != joined.catalog {
				t.Fatal("the catalog was made anew without need")
			}
			for i, x := range indexes { // a selection of one joins like the whole
				part, _ := x.Select(func(find func(string) *Family) []*Family { return []*Family{find("a"), find("b")} })
				all[i] = part
			}
			selected := new(Joiner).Join(all)
			for _, f := range joined.Families {
				if !selected.Has(f.Name) {
					t.Fatalf("%s is not there for a selection", f.Name)
				}
			}
		}
	}
}

// TestJoinConflicts: of families of one name the one of the first type is served, and
// what loses does not come in by another index that has it, too.
func TestJoinConflicts(t *testing.T) {
	var all []*Snapshot
	add := func(app, base, family, sample string, labels ...string) {
		x := New()
		x.Rule(Rules{Labels: []mmapfile.Label{{Name: "app", Value: app}}})
		f := fileOf(base, false)
		f.put(family, sample, 1, labels...)
		f.index(t, x)
		s, _ := x.Snapshot()
		all = append(all, s)
	}
	add("1", "counter_1.db", "foo", "foo")
	add("2", "histogram_1.db", "foo", "foo_bucket", "le", "1")
	add("3", "counter_1.db", "foo", "foo")
	add("4", "gauge_max_1.db", "foo_count", "foo_count")
	add("5", "histogram_1.db", "foo", "foo_bucket", "le", "2")
	add("6", "gauge_max_1.db", "g", "g")
	add("7", "gauge_all_1.db", "g", "g")
	var j Joiner
	s := j.Join(all)
	if diff := gocmp.Diff([]int{1, 0, 1, 1, 0, 0, 0}, j.LeftOut()); diff != "" {
		t.Errorf("left out of each (-want +got):\n%s", diff)
	}
	want := map[string]float64{
		`foo_bucket app="2" le=1`: 1, `foo_bucket app="2" le=+Inf`: 1, `foo_count app="2"`: 1,
		`foo_bucket app="5" le=2`: 1, `foo_bucket app="5" le=+Inf`: 1, `foo_count app="5"`: 1,
		`g app="6"`: 1, `g app="7" pid="1"`: 1,
	}
	if diff := gocmp.Diff(want, samples(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]Conflict{{"foo", NameConflict}, {"foo_count", NameConflict}}, s.Conflicts); diff != "" {
		t.Errorf("conflicts (-want +got):\n%s", diff)
	}
}

// TestJoinSpelling: a bound that is spelled in two ways is served in one, so that series
// of several directories can be added up by it; what each has by itself remains.
func TestJoinSpelling(t *testing.T) {
	var all []*Snapshot
	for i, le := range []string{"1", "1.0", "1"} {
		x := New()
		x.Rule(Rules{Labels: []mmapfile.Label{{Name: "app", Value: fmt.Sprint(i)}}})
		f := fileOf("histogram_1.db", false)
		f.put("h", "h_bucket", 1, "le", le)
		f.put("h", "h_bucket", 1, "le", "+Inf")
		f.index(t, x)
		s, _ := x.Snapshot()
		all = append(all, s)
	}
	texts := func(f *Family) (texts []string) {
		for _, s := range f.Series {
			for _, b := range s.Buckets {
				texts = append(texts, f.Bounds[b.Bound].Text)
			}
		}
		return texts
	}
	if diff := gocmp.Diff([]string{"1.0", "+Inf", "1.0", "+Inf", "1.0", "+Inf"}, texts(new(Joiner).Join(all).Find("h"))); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]string{"1", "+Inf"}, texts(all[0].Find("h"))); diff != "" {
		t.Errorf("by itself (-want +got):\n%s", diff)
	}
}
