package check

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

var lintTypes = map[mmapfile.Type]dto.MetricType{
	mmapfile.Counter: dto.MetricType_COUNTER, mmapfile.Gauge: dto.MetricType_GAUGE,
	mmapfile.Histogram: dto.MetricType_HISTOGRAM, mmapfile.Summary: dto.MetricType_SUMMARY,
}

// lint has promlint look at all families, and puts those together that have the same
// fault.
func lint(m merged) (found []Finding) {
	var families []*dto.MetricFamily
	for i := range m.Families {
		families = append(families, forLint(&m.Families[i]))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		panic("check: bug: promlint fails on families that need no parsing: " + err.Error())
	}
	faults := make(map[string][]string)
	for _, p := range problems {
		if names := faults[p.Text]; len(names) == 0 || names[len(names)-1] != p.Metric { // they come sorted by metric
			faults[p.Text] = append(names, p.Metric)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(faults)) {
		found = append(found, finding("PA601", faults[text], "%s: %s", plural(len(faults[text]), "metric"), text))
	}
	return found
}

// forLint is a family in the form that promlint takes, with one series for each name
// that a label has: it looks at names alone, but for duplicates, which a merge does not
// have and promlint looks for in quadratic time.
func forLint(f *merge.Family) *dto.MetricFamily {
	name, typ := f.Name, lintTypes[f.Type]
	out := &dto.MetricFamily{Name: &name, Type: &typ}
	if f.Help != "" {
		out.Help = &f.Help
	}
	known := make(map[string]bool)
	for _, s := range f.Series {
		for label := range s.Labels.All() {
			if known[label] {
				continue
			}
			known[label] = true
			none := ""
			out.Metric = append(out.Metric, &dto.Metric{Label: []*dto.LabelPair{{Name: &label, Value: &none}}})
		}
	}
	return out
}
