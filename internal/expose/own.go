package expose

import (
	"bytes"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// ownFamily is an encoded family of promagg's own metrics.
type ownFamily struct {
	name string
	text []byte
}

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
		if !filter.all() && !slices.Contains(filter, mf.GetName()) {
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
