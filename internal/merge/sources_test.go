package merge

import (
	"fmt"
	gocmp "github.com/google/go-cmp/cmp"
	"testing"
)

// TestSources: label sets that have become one are forgotten with the files that had them.
func TestSources(t *testing.T) {
	x := New()
	x.Rule(Rules{DropLabels: []LabelRule{{expression(t, "h"), "path"}}})
	put := func(f *modelFile, path string) {
		f.put("h", "h_bucket", 1, "le", "1", "path", path)
		f.put("h", "h_bucket", 2, "le", "+Inf", "path", path)
	}
	// One of which a bucket is yet to come.
	keeps := fileOf("histogram_1.db", true)
	keeps.put("h", "h_bucket", 1, "le", "1", "path", "p")
	keeps.index(t, x)
	for n := range 100 {
		f := fileOf("histogram_2.db", true)
		for i := range 1000 {
			put(f, fmt.Sprintf("/%d/%d", n, i))
		}
		f.index(t, x)
		x.Remove(f.part)
	}
	if n := len(x.sources); n > 1<<16 {
		t.Errorf("%d label sets are known, of which one is there", n)
	}
	keeps.put("h", "h_bucket", 3, "le", "+Inf", "path", "p")
	keeps.put("h", "h_bucket", 4, "le", "1", "path", "q")
	keeps.put("h", "h_bucket", 4, "le", "+Inf", "path", "q")
	want := map[string]float64{"h_bucket le=1": 5, "h_bucket le=+Inf": 7, "h_count": 7}
	if diff := gocmp.Diff(want, samplesOf(t, x, keeps)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRuleOthers: a rule about one family is none about another one.
func TestRuleOthers(t *testing.T) {
	old, now := fileOf("gauge_all_1-0.db", true), fileOf("gauge_all_1-1.db", true)
	for i, f := range []*modelFile{old, now} {
		f.put("mem", "mem", float64(2+i), "kind", "rss")
	}
	x := New()
	before := samplesOf(t, x, old, now)
	old.part, now.part = nil, nil
	x = New()
	x.Rule(Rules{DropLabels: []LabelRule{{expression(t, "other"), "kind"}}})
	if diff := gocmp.Diff(before, samplesOf(t, x, old, now)); diff != "" {
		t.Errorf("(-without +with a rule):\n%s", diff)
	}
}
