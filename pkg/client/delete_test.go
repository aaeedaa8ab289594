package client

import (
	"maps"
	"testing"
)

// TestDeleteEachType: what one of two processes deletes is gone from what both
// have, whatever the type and mode, and back when it is made again, from zero.
func TestDeleteEachType(t *testing.T) {
	dir := t.TempDir()
	type metrics struct {
		h    *HistogramVec
		s    *SummaryVec
		g    []*GaugeVec // by mode
		e    *EnumVec
		i    *InfoVec
		make func(v float64)
		drop func()
	}
	var of [2]metrics
	label := []string{"l"}
	for p := range of {
		m := &of[p]
		m.h = NewHistogramVec(HistogramOpts{Name: "h", Help: "H.", Buckets: []float64{1}}, label)
		m.s = NewSummaryVec(SummaryOpts{Name: "s", Help: "S."}, label)
		m.e = NewEnumVec(EnumOpts{Name: "e", Help: "E.", States: []string{"x", "y"}, Mode: ModeLiveSum}, label)
		m.i = NewInfoVec(InfoOpts{Name: "i", Help: "I."}, label, []string{"version"})
		r := process(t, dir, []string{"1", "2"}[p])
		r.MustRegister(m.h, m.s, m.e, m.i)
		for mode := ModeAll; mode <= ModeLiveMostRecent; mode++ {
			g := NewGaugeVec(GaugeOpts{Name: "g_" + mode.String(), Help: "G.", Mode: mode}, label)
			r.MustRegister(g)
			m.g = append(m.g, g)
		}
		m.make = func(v float64) {
			m.h.WithLabelValues("a").Observe(v)
			m.s.WithLabelValues("a").Observe(v)
			m.e.WithLabelValues("a").State("y")
			m.i.WithLabelValues("a").Set(Labels{"version": "1"})
			for _, g := range m.g {
				g.WithLabelValues("a").Set(v)
			}
		}
		m.drop = func() {
			ok := m.h.DeleteLabelValues("a") && m.s.Delete(Labels{"l": "a"}) && m.e.DeleteLabelValues("a") && m.i.DeleteLabelValues("a")
			for _, g := range m.g {
				ok = g.DeletePartialMatch(Labels{"l": "a"}) == 1 && ok
			}
			if !ok {
				t.Errorf("process %d: not all of them were there", p+1)
			}
		}
	}
	// only is what one process has, both what process 1 and then process 2 have.
	only := func(pid string, v float64) map[string]float64 {
		want := map[string]float64{
			`h_bucket l="a" le="1"`: 0, `h_bucket l="a" le="+Inf"`: 1, `h_count l="a"`: 1, `h_sum l="a"`: v, `s_count l="a"`: 1, `s_sum l="a"`: v,
			`e e="x" l="a"`: 0, `e e="y" l="a"`: 1, `i_info l="a" version="1"`: 1,
		}
		for mode := ModeAll; mode <= ModeLiveMostRecent; mode++ {
			labels := ` l="a"`
			if mode == ModeAll || mode == ModeLiveAll {
				labels += ` pid="` + pid + `"`
			}
			want["g_"+mode.String()+labels] = v
		}
		return want
	}
	both := func(v, last float64) map[string]float64 {
		want := only("2", last)
		maps.Copy(want, map[string]float64{
			`h_bucket l="a" le="+Inf"`: 2, `h_count l="a"`: 2, `h_sum l="a"`: v + last, `s_count l="a"`: 2, `s_sum l="a"`: v + last, `e e="y" l="a"`: 2,
			`g_all l="a" pid="1"`: v, `g_liveall l="a" pid="1"`: v, `g_sum l="a"`: v + last, `g_livesum l="a"`: v + last,
			`g_min l="a"`: min(v, last), `g_livemin l="a"`: min(v, last), `g_max l="a"`: max(v, last), `g_livemax l="a"`: max(v, last),
		})
		return want
	}
	of[0].make(10)
	of[1].make(3)
	wantMerged(t, "both", dir, both(10, 3))
	of[1].drop()
	wantMerged(t, "one has deleted it", dir, only("1", 10))
	of[1].make(7)
	wantMerged(t, "and made it again", dir, both(10, 7))
	of[0].drop()
	wantMerged(t, "the other has deleted it", dir, only("2", 7))
	of[1].drop()
	wantMerged(t, "both have", dir, map[string]float64{})
	of[0].make(2)
	wantMerged(t, "and one has made it again", dir, only("1", 2))
}
