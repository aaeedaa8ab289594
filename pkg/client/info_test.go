package client

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGroupMethods: what Enum and Info have is what is written for them. The
// methods of a vector of gauges would do the wrong thing.
func TestGroupMethods(t *testing.T) {
	vec := []string{
		"Collect", "CurryWith", "Delete", "DeleteLabelValues", "DeletePartialMatch", "Desc", "Describe", "GetMetricWith",
		"GetMetricWithLabelValues", "MustCurryWith", "Reset", "With", "WithLabelValues",
	}
	for metric, want := range map[any][]string{
		new(Enum): {"Collect", "Desc", "Describe", "State"}, new(Info): {"Collect", "Desc", "Describe", "Set"},
		new(EnumVec): vec, new(InfoVec): vec,
	} {
		var got []string
		for m := range reflect.TypeOf(metric).Methods() {
			got = append(got, m.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", metric, diff)
		}
	}
}

// groupVecs returns a family of each kind that is registered in a directory.
func groupVecs(t *testing.T) (dir string, enums *EnumVec, infos *InfoVec) {
	t.Helper()
	dir = t.TempDir()
	enums = NewEnumVec(EnumOpts{Name: "state", Help: "State.", States: []string{"a", "b"}, Mode: ModeLiveSum}, []string{"host", "queue"})
	infos = NewInfoVec(InfoOpts{Name: "lib", Help: "Lib."}, []string{"host", "name"}, []string{"version"})
	process(t, dir, "1").MustRegister(enums, infos)
	return dir, enums, infos
}

// TestGroupErrors: the GetMetric forms return errors, the others panic with them.
func TestGroupErrors(t *testing.T) {
	dir, enums, _ := groupVecs(t)
	curried := enums.MustCurryWith(Labels{"host": "h"})
	for name, tt := range map[string]struct {
		vec    *EnumVec
		lvs    []string // or else
		labels Labels
		want   string
	}{
		"too few values":  {enums, []string{"h"}, nil, `inconsistent label cardinality: "state" has 2 variable labels named ["host" "queue"] but 1 values ["h"] were provided`},
		"too many values": {enums, []string{"h", "q", "x"}, nil, `inconsistent label cardinality: "state" has 2 variable labels named ["host" "queue"] but 3 values ["h" "q" "x"] were provided`},
		"too many for a curried": {
			curried, []string{"h", "q"}, nil, `inconsistent label cardinality: "state" has 1 variable labels named ["queue"] but 2 values ["h" "q"] were provided`,
		},
		"invalid value":    {enums, []string{"h", "\xff"}, nil, `label value "\xff" is not valid UTF-8`},
		"invalid curried":  {enums.MustCurryWith(Labels{"host": "\xff"}), []string{"q"}, nil, `label value "\xff" is not valid UTF-8`},
		"missing label":    {enums, nil, Labels{"host": "h", "x": "y"}, `label name "queue" missing in label map`},
		"one more label":   {enums, nil, Labels{"host": "h", "queue": "q", "x": "y"}, `inconsistent label cardinality: "state" has 2 variable labels named ["host" "queue"] but labels ["host" "queue" "x"] were provided`},
		"the state's name": {curried, nil, Labels{"queue": "q", "state": "a"}, `inconsistent label cardinality: "state" has 1 variable labels named ["queue"] but labels ["queue" "state"] were provided`},
	} {
		get := func() (*Enum, error) { return tt.vec.GetMetricWithLabelValues(tt.lvs...) }
		with := func() { tt.vec.WithLabelValues(tt.lvs...) }
		if tt.labels != nil {
			get = func() (*Enum, error) { return tt.vec.GetMetricWith(tt.labels) }
			with = func() { tt.vec.With(tt.labels) }
		}
		if e, err := get(); e != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: want %q, got %v, %v", name, tt.want, e, err)
		} else if strings.HasPrefix(tt.want, "inconsistent") && !errors.Is(err, errInconsistentCardinality) {
			t.Errorf("%s: %v is no errInconsistentCardinality", name, err)
		}
		if got := panicked(with); got != tt.want {
			t.Errorf("%s: want a panic with %q, got %q", name, tt.want, got)
		}
		if tt.vec.DeleteLabelValues(tt.lvs...) || tt.vec.Delete(tt.labels) {
			t.Errorf("%s: deleted", name)
		}
	}
	for want, labels := range map[string]Labels{
		`1 unknown label(s) found during currying: "state" is no label of "state"`: {"state": "a"},
		`label name "host" is already curried`:                                     {"host": "i"},
	} {
		if v, err := curried.CurryWith(labels); v != nil || err == nil || err.Error() != want {
			t.Errorf("currying %v: want %q, got %v, %v", labels, want, v, err)
		}
		if got := panicked(func() { curried.MustCurryWith(labels) }); got != want {
			t.Errorf("currying %v: want a panic with %q, got %q", labels, want, got)
		}
	}
	wantMerged(t, "nothing but errors", dir, map[string]float64{})
}

// TestGroupValues: values that look alike when they are put together are several
// metrics.
func TestGroupValues(t *testing.T) {
	_, enums, _ := groupVecs(t)
	seen := make(map[*Enum]bool)
	for _, lvs := range [][]string{
		{"ab", ""}, {"", "ab"}, {"a", "b"}, {"a:b", "c"}, {"a", "b:c"}, {"a0:b", "c"}, {"a", "b0:c"}, {"a1:b", "c"}, {"a", "b1:c"}, {"a\x00b", "c"}, {"a", "b\x00c"},
	} {
		e := enums.WithLabelValues(lvs...)
		if seen[e] {
			t.Errorf("%q is another's", lvs)
		}
		if seen[e] = true; enums.With(Labels{"queue": lvs[1], "host": lvs[0]}) != e {
			t.Errorf("%q is not found again", lvs)
		}
	}
}

// TestGroupCurry: a curried vector has the metrics of the original, and reaches
// no others.
func TestGroupCurry(t *testing.T) {
	dir, enums, infos := groupVecs(t)
	h := enums.MustCurryWith(Labels{"host": "h"})
	if h.WithLabelValues("q") != enums.WithLabelValues("h", "q") || h.MustCurryWith(Labels{"queue": "q"}).WithLabelValues() != h.With(Labels{"queue": "q"}) {
		t.Error("the vectors do not share their enums")
	}
	if i := infos.MustCurryWith(Labels{"name": "n"}); i.With(Labels{"host": "h"}) != infos.WithLabelValues("h", "n") {
		t.Error("the vectors do not share their infos")
	}
	enums.WithLabelValues("i", "q").State("b")
	if n := h.DeletePartialMatch(Labels{"host": "i"}); n != 0 {
		t.Errorf("%d of another's enums deleted", n)
	}
	h.Reset()
	wantMerged(t, "reset by the curried", dir, map[string]float64{`state host="i" queue="q" state="a"`: 0, `state host="i" queue="q" state="b"`: 1})
	if enums.Delete(Labels{"host": "h", "queue": "q"}) || !enums.MustCurryWith(Labels{"host": "i"}).DeleteLabelValues("q") {
		t.Error("the vectors do not share what is deleted")
	}
	wantMerged(t, "deleted by the curried", dir, map[string]float64{})
}

// TestGroupDelete: Delete wants all labels, DeletePartialMatch some of them, and
// what is deleted stays so, whoever still holds it.
func TestGroupDelete(t *testing.T) {
	dir, enums, infos := groupVecs(t)
	all := func() []*Info {
		var is []*Info
		for _, lvs := range [][]string{{"h", "x"}, {"h", "y"}, {"i", "x"}} {
			i := infos.WithLabelValues(lvs...)
			i.Set(Labels{"version": "1"})
			is = append(is, i)
		}
		return is
	}
	series := func(lvs ...string) map[string]float64 {
		m := make(map[string]float64)
		for i := 0; i < len(lvs); i += 2 {
			m[fmt.Sprintf("lib_info host=%q name=%q version=\"1\"", lvs[i], lvs[i+1])] = 1
		}
		return m
	}
	for name, tt := range map[string]struct {
		do   func() int
		n    int
		want map[string]float64
	}{
		"some labels only":     {func() int { return number(infos.Delete(Labels{"host": "h"})) }, 0, series("h", "x", "h", "y", "i", "x")},
		"no labels":            {func() int { return number(infos.Delete(nil)) }, 0, series("h", "x", "h", "y", "i", "x")},
		"an info's label":      {func() int { return infos.DeletePartialMatch(Labels{"version": "1"}) }, 0, series("h", "x", "h", "y", "i", "x")},
		"all labels":           {func() int { return number(infos.Delete(Labels{"name": "x", "host": "h"})) }, 1, series("h", "y", "i", "x")},
		"all values":           {func() int { return number(infos.DeleteLabelValues("i", "x")) }, 1, series("h", "x", "h", "y")},
		"values of none":       {func() int { return number(infos.DeleteLabelValues("x", "i")) }, 0, series("h", "x", "h", "y", "i", "x")},
		"partial match":        {func() int { return infos.DeletePartialMatch(Labels{"host": "h"}) }, 2, series("i", "x")},
		"partial match of all": {func() int { return infos.DeletePartialMatch(nil) }, 3, series()},
		"reset":                {func() int { infos.Reset(); return 3 }, 3, series()},
	} {
		held := all()
		if n := tt.do(); n != tt.n {
			t.Errorf("%s: want %d deleted, got %d", name, tt.n, n)
		}
		wantMerged(t, name, dir, tt.want)
		for _, i := range held {
			i.Set(Labels{"version": "2"})
			i.Set(Labels{"version": "1"})
		}
		wantMerged(t, name+", and set by who holds them", dir, tt.want)
		wantMerged(t, name+", made again", dir, func() map[string]float64 { all(); return series("h", "x", "h", "y", "i", "x") }())
	}
	infos.Reset()

	held := enums.WithLabelValues("h", "q")
	if !enums.DeleteLabelValues("h", "q") || enums.DeleteLabelValues("h", "q") {
		t.Error("DeleteLabelValues does not tell whether there was one")
	}
	held.State("b")
	wantMerged(t, "a deleted enum", dir, map[string]float64{})
	again := enums.WithLabelValues("h", "q")
	held.State("b")
	want := map[string]float64{`state host="h" queue="q" state="a"`: 1, `state host="h" queue="q" state="b"`: 0}
	wantMerged(t, "made again", dir, want)
	again.State("b")
	held.State("a")
	want[`state host="h" queue="q" state="a"`], want[`state host="h" queue="q" state="b"`] = 0, 1
	wantMerged(t, "made again, and changed", dir, want)
}

// number returns how many were deleted.
func number(one bool) int {
	if one {
		return 1
	}
	return 0
}

// TestInfoBadLabels: labels that can't be set leave those that are.
func TestInfoBadLabels(t *testing.T) {
	dir := t.TempDir()
	i := NewInfo(InfoOpts{Name: "app", Help: "App."}, []string{"version"})
	process(t, dir, "1").MustRegister(i)
	labels := Labels{"version": "1"}
	i.Set(labels)
	for _, bad := range []Labels{nil, {"x": "2"}, {"version": "2", "x": "2"}, {"version": "\xff"}} {
		if got := panicked(func() { i.Set(bad) }); got == "<nil>" {
			t.Errorf("%q is set", bad)
		}
		wantMerged(t, fmt.Sprintf("%q", bad), dir, map[string]float64{`app_info version="1"`: 1})
	}
	labels["version"] = "2" // the caller's own map
	i.Set(labels)
	wantMerged(t, "set again", dir, map[string]float64{`app_info version="2"`: 1})
}

// TestEnumMostRecent: the state that was set last is the only one, whatever the
// states were from which the processes came to theirs.
func TestEnumMostRecent(t *testing.T) {
	dir := t.TempDir()
	var enums []*Enum
	for _, id := range []string{"1", "2"} {
		e := NewEnum(EnumOpts{Name: "state", Help: "State.", States: []string{"a", "b", "c"}, Mode: ModeMostRecent})
		process(t, dir, id).MustRegister(e)
		enums = append(enums, e)
	}
	for _, step := range []struct {
		process int
		state   string
	}{{0, "b"}, {1, "c"}, {0, "a"}, {0, "a"}, {1, "c"}} {
		time.Sleep(time.Millisecond) // the time in the file is no finer than that of a float64
		enums[step.process].State(step.state)
		want := map[string]float64{`state state="a"`: 0, `state state="b"`: 0, `state state="c"`: 0}
		want[fmt.Sprintf("state state=%q", step.state)] = 1
		wantMerged(t, fmt.Sprint(step), dir, want)
	}
}

// TestEnumPanics: states that can't be.
func TestEnumPanics(t *testing.T) {
	for want, states := range map[string][]string{
		`enum "s": want at least one state, and each once, got []`:        nil,
		`enum "s": want at least one state, and each once, got ["a" "a"]`: {"a", "a"},
		`enum "s": state "\xff" is not valid UTF-8`:                       {"a", "\xff"},
	} {
		if got := panicked(func() { NewEnum(EnumOpts{Name: "s", Help: "S.", States: states}) }); got != want {
			t.Errorf("want a panic with %q, got %q", want, got)
		}
		if got := panicked(func() { NewEnumVec(EnumOpts{Name: "s", Help: "S.", States: states}, []string{"l"}) }); got != want {
			t.Errorf("vector: want a panic with %q, got %q", want, got)
		}
	}
	states := []string{"a", "b"}
	e := NewEnumVec(EnumOpts{Name: "s", Help: "S.", States: states}, []string{"l"})
	states[1] = "c" // the caller's own slice
	if got := panicked(func() { e.WithLabelValues("x").State("c") }); got != `enum "s": want one of ["a" "b"], got "c"` {
		t.Errorf("a state that is none: %s", got)
	}
}

// TestGroupConcurrent: at the end there is one state of each enum and one series
// of each info, and nothing of what was deleted last.
func TestGroupConcurrent(t *testing.T) {
	dir, enums, infos := groupVecs(t)
	var busy sync.WaitGroup
	for g := range 4 {
		busy.Go(func() {
			for n := range 300 {
				queue := fmt.Sprint(n % 3)
				enums.WithLabelValues("h", queue).State([]string{"a", "b"}[(n+g)%2])
				infos.WithLabelValues("h", queue).Set(Labels{"version": fmt.Sprint(n)})
				switch n % 10 {
				case g:
					enums.DeleteLabelValues("h", queue)
				case g + 4:
					infos.DeletePartialMatch(Labels{"name": queue})
				}
			}
		})
	}
	busy.Wait()
	sums := make(map[string]float64)
	for sample, v := range merged(t, dir, 0) {
		fields := strings.Fields(sample)
		sums[strings.Join(fields[:3], " ")] += v
		if fields[0] == "lib_info" && v != 1 {
			t.Errorf("%s is %v", sample, v)
		}
	}
	for metric, sum := range sums {
		if sum != 1 {
			t.Errorf("%s: want one that is 1, got %v", metric, sum)
		}
	}
	enums.Reset()
	infos.Reset()
	wantMerged(t, "reset", dir, map[string]float64{})
	left, _ := collect(enums)
	if more, _ := collect(infos); len(slices.Concat(left, more)) != 0 {
		t.Errorf("left: %v %v", left, more)
	}
}
