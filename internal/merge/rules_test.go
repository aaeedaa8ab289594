package merge

import (
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
)

func expression(t *testing.T, s string) *regexp.Regexp {
	t.Helper()
	e, err := Expression(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRules: what each rule does, beside the model's random ones.
func TestRules(t *testing.T) {
	gauge := func(base string, v float64) *modelFile {
		f := fileOf(base, false)
		f.put("mem", "mem", v, "kind", "rss")
		f.put("mem", "mem", 2*v, "kind", "swap")
		return f
	}
	for name, c := range map[string]struct {
		rules Rules
		want  map[string]float64
	}{
		"none": {Rules{}, map[string]float64{
			`mem kind="rss" pid="1"`: 3, `mem kind="swap" pid="1"`: 6, `mem kind="rss" pid="2"`: 4, `mem kind="swap" pid="2"`: 8}},
		"mode": {Rules{Modes: []ModeRule{{expression(t, "me."), mmapfile.Max}, {expression(t, "mem"), mmapfile.Min}}},
			map[string]float64{`mem kind="rss"`: 4, `mem kind="swap"`: 8}},
		"mode and label": {Rules{Modes: []ModeRule{{expression(t, "mem"), mmapfile.Sum}}, DropLabels: []LabelRule{{expression(t, ".*"), "kind"}}},
			map[string]float64{`mem`: 21}},
		"label": {Rules{DropLabels: []LabelRule{{expression(t, ".*"), "kind"}}}, map[string]float64{`mem pid="1"`: 9, `mem pid="2"`: 12}},
		"drop":  {Rules{Drop: []*regexp.Regexp{expression(t, "x|mem")}}, map[string]float64{}},
		"part of a name": {Rules{Drop: []*regexp.Regexp{expression(t, "me")}, Modes: []ModeRule{{expression(t, "em"), mmapfile.Max}}},
			map[string]float64{`mem kind="rss" pid="1"`: 3, `mem kind="swap" pid="1"`: 6, `mem kind="rss" pid="2"`: 4, `mem kind="swap" pid="2"`: 8}},
		"labels": {Rules{Modes: []ModeRule{{expression(t, "mem"), mmapfile.Max}}, Labels: []mmapfile.Label{{Name: "app", Value: "web"}, {Name: "kind", Value: "all"}}},
			map[string]float64{`mem app="web" exported_kind="rss" kind="all"`: 4, `mem app="web" exported_kind="swap" kind="all"`: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			x := New()
			x.Rule(c.rules)
			if diff := gocmp.Diff(c.want, samplesOf(t, x, gauge("gauge_all_1.db", 3), gauge("gauge_all_2.db", 4))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRuleLive: a gauge that a rule makes a live one counts as long as its writer lives.
func TestRuleLive(t *testing.T) {
	x := New()
	x.Rule(Rules{Modes: []ModeRule{{expression(t, "conns"), mmapfile.LiveSum}}})
	files := []*modelFile{fileOf("gauge_all_1.db", false), fileOf("gauge_all_2.db", false)}
	for _, f := range files {
		f.put("conns", "conns", 5)
		f.put("other", "other", 1)
	}
	both := samplesOf(t, x, files...)
	if both["conns"] != 10 {
		t.Fatalf("of two living: %v", both)
	}
	p := files[0].part
	if !p.Live() || p.Lost() || !p.Overruled() {
		t.Errorf("the part of a living writer: live %v, lost %v, overruled %v", p.Live(), p.Lost(), p.Overruled())
	}
	p.Ended(true)
	if got := samplesOf(t, x); got["conns"] != 5 || got[`other pid="1"`] != 1 {
		t.Errorf("when one has died: %v", got)
	}
	files[1].part.Ended(true)
	if got := samplesOf(t, x); len(got) != 2 || x.Series() != 2 {
		t.Errorf("when both have died: %v, %d series", got, x.Series())
	}
	// What is indexed only when its writer is dead does not count either.
	late := fileOf("gauge_all_3.db", false)
	late.put("conns", "conns", 5)
	late.ended = true
	if got := samplesOf(t, x, late); len(got) != 2 || x.Series() != 2 || !late.part.Lost() {
		t.Errorf("one that was dead when it was found: %v, %d series, lost %v", got, x.Series(), late.part.Lost())
	}
}

// TestDropped: keys without number of a family that is left out leave nothing.
func TestDropped(t *testing.T) {
	x := New()
	x.Rule(Rules{Drop: []*regexp.Regexp{expression(t, "c_total")}})
	for range 3 {
		f := fileOf("counter_1.db", false)
		for i := range 100_000 {
			f.put("c", "c_total", 1, "i", strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i%1000))
		}
		f.index(t, x)
		if n := len(x.keys.nodes); n > 1<<16+1 || x.Series() != 0 || f.part.Entries() != 0 {
			t.Fatalf("%d keys are known, %d series, %d entries", n, x.Series(), f.part.Entries())
		}
		x.Remove(f.part)
	}
}
