package expose

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/testpeer"
)

// linesOfFamilies writes samples as the lines of OpenMetrics.
func linesOfFamilies(s *merge.Snapshot, own []*dto.MetricFamily) (lines []string) {
	for f := range Families(s, own) {
		for sample := range f.Samples {
			labels := string(sample.Labels)
			if sample.Own.Name != "" {
				if labels != "" {
					labels += ","
				}
				labels += sample.Own.Name + `="` + sample.Own.Value + `"`
			}
			e := encoder{om: true}
			e.sample(sample.Name, merge.Labels(labels), sample.Value)
			lines = append(lines, string(e.dst))
		}
	}
	return lines
}

func linesOfText(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestFamiliesAreTheExposition: the samples are those that a scrape shows, in its
// order.
func TestFamiliesAreTheExposition(t *testing.T) {
	random := testpeer.Rand(t)
	for range 300 {
		s := merged(t, randomFiles(random)...)
		want := linesOfText(string(Append(nil, OpenMetrics, s, nil)))
		if diff := cmp.Diff(want, linesOfFamilies(s, nil)); diff != "" {
			t.Fatalf("lines (-exposition +samples):\n%s", diff)
		}
	}
	s := merged(t, golden()...)
	want := linesOfText(string(Append(nil, OpenMetrics, s, nil)))
	if len(want) == 0 {
		t.Fatal("nothing to compare")
	}
	if diff := cmp.Diff(want, linesOfFamilies(s, nil)); diff != "" {
		t.Errorf("lines (-exposition +samples):\n%s", diff)
	}
	seen := 0
	for f := range Families(s, nil) { // who breaks off is left alone
		for range f.Samples {
			seen++
			break
		}
		if f.Help == "" {
			t.Errorf("%s has no help text", f.Name)
		}
		if seen == 2 {
			break
		}
	}
}

// TestOwnFamilies: promagg's own metrics are the lines that the library makes of
// them, and win over those of the snapshot.
func TestOwnFamilies(t *testing.T) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promagg_a_total", Help: "A."}, []string{"z", "b"})
	c.WithLabelValues(`quo"te`, "x").Add(2)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "promagg_g", Help: "G."})
	g.Set(1e9)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "promagg_h_seconds", Help: "H.", Buckets: []float64{.25, 1, 1e6}})
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(.5, prometheus.Labels{"trace_id": "t1"})
	s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "promagg_s", Help: "S.", Objectives: map[float64]float64{.5: .1, 1: 0}})
	s.Observe(4)
	r.MustRegister(c, g, h, s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	snapshot := merged(t, counter("promagg_a", "Not ours.", 7))
	o := own{g: r}
	text, err := o.gather(OpenMetrics, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := linesOfText(string(appendWith(nil, OpenMetrics, snapshot, nil, text)))
	got := linesOfFamilies(snapshot, families)
	for _, lines := range [][]string{want, got} {
		for i, line := range lines {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " # ") // the exemplar
			lines[i] = strings.TrimSuffix(line, ".0")                       // the library writes counts as integers
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-exposition +samples):\n%s", diff)
	}
	var exemplars, created int
	for f := range Families(snapshot, families) {
		for s := range f.Samples {
			if s.Exemplar != nil {
				exemplars++
			}
			if s.Created != 0 {
				created++
			}
		}
	}
	if exemplars != 1 || created == 0 {
		t.Errorf("%d exemplars and %d samples with the time since when they count, want 1 and some", exemplars, created)
	}
}
