package expose

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/merge"
)

// Family is a family of an exposition, for who sends it in another form.
type Family struct {
	// Name stands under # TYPE in the text format.
	Name string
	Help string // as it is served, the default where writers gave none
	Unit string // empty where it is not known
	Type dto.MetricType
	// Samples are the lines of the exposition, in its order.
	Samples iter.Seq[Sample]
}

// Sample is one line of an exposition.
type Sample struct {
	Name   string
	Labels merge.Labels // without Own
	// Own is the label that the family's type adds: le or quantile, spelled as in
	// OpenMetrics, whose spelling Prometheus stores. Most samples have none.
	Own      merge.Label
	Value    float64
	Exemplar *dto.Exemplar // nil for none
	Created  int64         // since when it counts, in Unix milliseconds; 0 where not known
}

// Families yields what a scrape shows: the families of a snapshot, and before
// them those of own, which win where names are equal.
func Families(s *merge.Snapshot, own []*dto.MetricFamily) iter.Seq[Family] {
	return func(yield func(Family) bool) {
		taken := make(map[string]bool, len(own))
		for _, f := range own {
			taken[base(f.GetName())] = true
			if !yield(ownAsFamily(f)) {
				return
			}
		}
		for i := range s.Families {
			f := &s.Families[i]
			if taken[base(f.Name)] {
				continue
			}
			if !yield(Family{Name: f.Name, Help: cmp.Or(f.Help, defaultHelp), Type: metricTypes[f.Type], Samples: samplesOf(f, s.Values(f))}) {
				return
			}
		}
	}
}

var metricTypes = map[merge.Type]dto.MetricType{
	merge.Counter:   dto.MetricType_COUNTER,
	merge.Gauge:     dto.MetricType_GAUGE,
	merge.Histogram: dto.MetricType_HISTOGRAM,
	merge.Summary:   dto.MetricType_SUMMARY,
}

// samplesOf yields the samples of a family: those that the encoder writes, in its
// order, which a test holds it to. The encoder does not use it, for it would cost
// a scrape a call for each line.
func samplesOf(f *merge.Family, values []float64) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		give := func(s Sample) bool { return merge.Absent(s.Value) || yield(s) }
		bucket, count, sum := f.Name+"_bucket", f.Name+"_count", f.Name+"_sum"
		for _, s := range f.Series {
			v := values[:f.Width(s)]
			values = values[len(v):]
			more := true
			switch f.Type {
			case merge.Histogram:
				if merge.Absent(v[0]) {
					continue
				}
				for i, b := range s.Buckets {
					le := merge.Label{Name: "le", Value: f.Bounds[b.Bound].Canonical}
					if !give(Sample{Name: bucket, Labels: s.Labels, Own: le, Value: v[2+i]}) {
						return
					}
				}
				more = give(Sample{Name: sum, Labels: s.Labels, Value: v[1]}) && give(Sample{Name: count, Labels: s.Labels, Value: v[0]})
			case merge.Summary:
				more = give(Sample{Name: count, Labels: s.Labels, Value: v[0]}) && give(Sample{Name: sum, Labels: s.Labels, Value: v[1]})
			default:
				more = give(Sample{Name: f.Name, Labels: s.Labels, Value: v[0]})
			}
			if !more {
				return
			}
		}
	}
}

// ownAsFamily is a family of promagg's own metrics. Native histograms are left
// out: the text formats have none either.
func ownAsFamily(f *dto.MetricFamily) Family {
	return Family{
		Name: f.GetName(), Help: f.GetHelp(), Unit: f.GetUnit(), Type: f.GetType(),
		Samples: func(yield func(Sample) bool) {
			for _, m := range f.Metric {
				for _, s := range ownSamples(f.GetName(), m) {
					if !yield(s) {
						return
					}
				}
			}
		},
	}
}

// ownSamples are the samples of one metric.
func ownSamples(name string, m *dto.Metric) []Sample {
	var labels []merge.Label
	for _, l := range m.Label {
		labels = append(labels, merge.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	slices.SortFunc(labels, func(a, b merge.Label) int { return strings.Compare(a.Name, b.Name) })
	s := Sample{Name: name, Labels: merge.NewLabels(labels)}
	var all []Sample
	add := func(suffix string, own merge.Label, v float64, e *dto.Exemplar) {
		next := s
		next.Name, next.Own, next.Value, next.Exemplar = name+suffix, own, v, e
		all = append(all, next)
	}
	none := merge.Label{}
	switch {
	case m.Counter != nil:
		s.Created = m.Counter.GetCreatedTimestamp().AsTime().UnixMilli()
		add("", none, m.Counter.GetValue(), m.Counter.Exemplar)
	case m.Gauge != nil:
		add("", none, m.Gauge.GetValue(), nil)
	case m.Untyped != nil:
		add("", none, m.Untyped.GetValue(), nil)
	case m.Summary != nil:
		s.Created = m.Summary.GetCreatedTimestamp().AsTime().UnixMilli()
		for _, q := range m.Summary.Quantile {
			add("", merge.Label{Name: "quantile", Value: number(q.GetQuantile())}, q.GetValue(), nil)
		}
		add("_sum", none, m.Summary.GetSampleSum(), nil)
		add("_count", none, float64(m.Summary.GetSampleCount()), nil)
	case m.Histogram != nil:
		h := m.Histogram
		s.Created = h.GetCreatedTimestamp().AsTime().UnixMilli()
		infinity := false
		for _, b := range h.Bucket {
			le := number(b.GetUpperBound())
			infinity = infinity || le == plusInf
			add("_bucket", merge.Label{Name: "le", Value: le}, float64(b.GetCumulativeCount()), b.Exemplar)
		}
		if !infinity {
			add("_bucket", merge.Label{Name: "le", Value: plusInf}, float64(h.GetSampleCount()), nil)
		}
		add("_sum", none, h.GetSampleSum(), nil)
		add("_count", none, float64(h.GetSampleCount()), nil)
	}
	return all
}

const plusInf = "+Inf"

// number is a number as OpenMetrics has it.
func number(v float64) string {
	e := encoder{om: true}
	return strings.TrimSuffix(string(e.value(nil, v)), "\n")
}
