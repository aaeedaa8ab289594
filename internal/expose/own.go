package expose

import (
	"bytes"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// ownFamily is an encoded family of promagg's own metrics.
type ownFamily struct {
	name string
	text []byte
}

// base returns a family's name without _total, under which a counter has its
// header in OpenMetrics.
func base(name string) string { return strings.TrimSuffix(name, "_total") }

var ownFormats = [...]expfmt.Format{
	Text:            expfmt.NewFormat(expfmt.TypeTextPlain),
	OpenMetrics:     expfmt.NewFormat(expfmt.TypeOpenMetrics),
	openMetricsBeta: expfmt.NewFormat(expfmt.TypeOpenMetrics),
}

// gather encodes the families of g that pass the filter, sorted by name.
func gather(g prometheus.Gatherer, format Format, filter Filter) ([]ownFamily, error) {
	if g == nil {
		return nil, nil
	}
	families, err := g.Gather()
	if err != nil {
		return nil, err
	}
	var own []ownFamily
	for _, mf := range families {
		if !filter.all() && !slices.Contains(filter, mf.GetName()) && !slices.Contains(filter, base(mf.GetName())) {
			continue
		}
		var b bytes.Buffer
		if err := expfmt.NewEncoder(&b, ownFormats[format]).Encode(mf); err != nil {
			return nil, err
		}
		own = append(own, ownFamily{mf.GetName(), b.Bytes()})
	}
	return own, nil
}
