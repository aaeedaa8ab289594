package remotewrite

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/merge"
)

// family is the metadata of a family. But for round it does not change.
type family struct {
	name, help, unit string
	typ              dto.MetricType
	round            uint64 // the last one that had it; of who collects
}

// series is a series that is sent. Batches share it, so it does not change, but for
// round.
type series struct {
	labels  []merge.Label // sorted by name
	family  *family
	created int64
	round   uint64 // the last one that had it; of who collects
}

// point is a sample of a series.
type point struct {
	series   *series
	value    float64
	exemplar *exemplar
}

type exemplar struct {
	labels []merge.Label
	value  float64
	at     int64
}

func newExemplar(e *dto.Exemplar, at int64) *exemplar {
	if e == nil {
		return nil
	}
	x := &exemplar{value: e.GetValue(), at: at}
	if e.Timestamp != nil {
		x.at = e.Timestamp.AsTime().UnixMilli()
	}
	for _, l := range e.Label {
		x.labels = append(x.labels, merge.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	sortLabels(x.labels)
	return x
}

func sortLabels(labels []merge.Label) {
	slices.SortFunc(labels, func(a, b merge.Label) int { return strings.Compare(a.Name, b.Name) })
}

// family returns the metadata of a family as it is now.
func (e *Exporter) family(f *expose.Family) *family {
	known := e.families[f.Name]
	if known == nil || known.help != f.Help || known.unit != f.Unit || known.typ != f.Type {
		known = &family{name: f.Name, help: f.Help, unit: f.Unit, typ: f.Type}
		e.families[f.Name] = known
	}
	known.round = e.round
	return known
}

// lookUp returns the series of a sample. It is not fresh if this round has had it
// already: labels without a value are none, and label sets that differ only in those
// are one series.
func (e *Exporter) lookUp(f *family, s *expose.Sample) (known *series, fresh bool) {
	labels := s.Labels
	if strings.Contains(string(labels), emptyValue) {
		labels = withoutEmpty(labels)
	}
	e.key = append(e.key[:0], s.Name...)
	e.key = append(e.key, '{')
	e.key = append(e.key, labels...)
	e.key = append(e.key, '}') // a value may hold one, but not behind its closing quote
	e.key = append(e.key, s.Own.Name...)
	e.key = append(e.key, s.Own.Value...)
	known = e.series[string(e.key)]
	if known != nil && known.round == e.round {
		return known, false
	}
	if known == nil || known.family != f || known.created != s.Created {
		next := &series{family: f, created: s.Created}
		if known != nil {
			next.labels = known.labels
		} else {
			next.labels = e.labeler.labels(s.Name, labels, s.Own)
		}
		known = next
		e.series[string(e.key)] = known
	}
	known.round = e.round
	return known, true
}

// emptyValue is in a label set's text where a label has no value: quotes inside of
// values are escaped.
const emptyValue = `=""`

func withoutEmpty(labels merge.Labels) merge.Labels {
	var kept []merge.Label
	for name, value := range labels.All() {
		if value != "" {
			kept = append(kept, merge.Label{Name: name, Value: value})
		}
	}
	return merge.NewLabels(kept)
}

// labeler gives series their labels.
type labeler struct {
	target   []merge.Label // job and instance
	external []merge.Label
}

func newLabeler(job, instance string, external map[string]string) (l labeler, err error) {
	for _, t := range []merge.Label{{Name: "instance", Value: instance}, {Name: "job", Value: job}} {
		if t.Value != "" {
			l.target = append(l.target, t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(external)) {
		switch {
		case name == "job" || name == "instance":
			return l, fmt.Errorf("external label %s: it has a setting of its own", name)
		case name == "le" || name == "quantile":
			return l, fmt.Errorf("external label %s: histograms and summaries need it for themselves", name)
		case external[name] != "":
			l.external = append(l.external, merge.Label{Name: name, Value: external[name]})
		}
	}
	return l, nil
}

// labels returns all labels of a series.
func (l *labeler) labels(name string, labels merge.Labels, own merge.Label) []merge.Label {
	all := make([]merge.Label, 0, 8+len(l.target)+len(l.external))
	all = append(all, merge.Label{Name: "__name__", Value: name})
	for name, value := range labels.All() {
		all = append(all, merge.Label{Name: name, Value: value})
	}
	if own.Name != "" {
		all = append(all, own)
	}
	has := func(name string) int {
		return slices.IndexFunc(all, func(l merge.Label) bool { return l.Name == name })
	}
	for _, t := range l.target {
		if i := has(t.Name); i >= 0 {
			renamed := "exported_" + t.Name
			for has(renamed) >= 0 {
				renamed = "exported_" + renamed
			}
			all[i].Name = renamed
		}
		all = append(all, t)
	}
	for _, x := range l.external {
		if has(x.Name) < 0 {
			all = append(all, x)
		}
	}
	sortLabels(all)
	return slices.Clip(all)
}
