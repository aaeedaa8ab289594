package expose

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// ownFamily is an encoded family of promagg's own metrics.
type ownFamily struct {
	name     string
	text     []byte
	from, to int // where the text is in the buffer it was written to
}

// base returns a family's name without _total, under which a counter has its
// header in OpenMetrics.
func base(name string) string { return strings.TrimSuffix(name, "_total") }

var ownFormats = [...]expfmt.Format{
	Text:            expfmt.NewFormat(expfmt.TypeTextPlain),
	OpenMetrics:     expfmt.NewFormat(expfmt.TypeOpenMetrics),
	openMetricsBeta: expfmt.NewFormat(expfmt.TypeOpenMetrics),
}

// own are promagg's own metrics. It is safe for concurrent use.
type own struct {
	g prometheus.Gatherer // nil for none
	// names are those of the families that there were the last time. To look at
	// them spares a scrape of something else the gathering.
	names atomic.Pointer[map[string]bool]
	until atomic.Int64 // when they are out of date, in Unix seconds
}

// namesFor is how many seconds the names are good for.
const namesFor = 60

// wanted reports whether any of the families may pass the filter.
func (o *own) wanted(filter Filter) bool {
	if o.g == nil {
		return false
	}
	names := o.names.Load()
	return filter.all() || names == nil || time.Now().Unix() > o.until.Load() || slices.ContainsFunc(filter, func(name string) bool { return (*names)[name] })
}

// learn takes note of the names, if those that are known are out of date.
func (o *own) learn(families []*dto.MetricFamily) {
	now := time.Now().Unix()
	if o.names.Load() != nil && now <= o.until.Load() {
		return
	}
	names := make(map[string]bool, 2*len(families))
	for _, mf := range families {
		names[mf.GetName()], names[base(mf.GetName())] = true, true
	}
	o.names.Store(&names)
	o.until.Store(now + namesFor)
}

// gather encodes the families that pass the filter, sorted by name.
func (o *own) gather(format Format, filter Filter) ([]ownFamily, error) {
	if !o.wanted(filter) {
		return nil, nil
	}
	families, err := o.g.Gather()
	if err != nil {
		return nil, err
	}
	o.learn(families)
	found := make([]ownFamily, 0, len(families))
	var b bytes.Buffer
	encoder := expfmt.NewEncoder(&b, ownFormats[format])
	for _, mf := range families {
		name := mf.GetName()
		if !filter.all() && !slices.Contains(filter, name) && !slices.Contains(filter, base(name)) {
			continue
		}
		from := b.Len()
		if err := encoder.Encode(mf); err != nil {
			return nil, err
		}
		found = append(found, ownFamily{name: name, from: from, to: b.Len()})
	}
	for i := range found {
		found[i].text = b.Bytes()[found[i].from:found[i].to]
	}
	return found, nil
}
