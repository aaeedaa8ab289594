package client

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// ValueType says what a metric of a [Collector] is.
type ValueType int

// The value types.
const (
	CounterValue ValueType = iota + 1
	GaugeValue
)

// constMetric is what a collector says of one series at one moment.
type constMetric struct {
	desc    *Desc
	kind    kind
	values  []string
	samples []constSample
}

type constSample struct {
	suffix string
	extra  []mmapfile.Label
	value  float64
}

func (m *constMetric) Desc() *Desc { return m.desc }

// NewConstMetric returns a metric with a fixed value, for a collector to send.
// A gauge has the mode of its description, see [Desc.WithMode].
func NewConstMetric(desc *Desc, t ValueType, v float64, labelValues ...string) (Metric, error) {
	k := kind{typ: mmapfile.Counter}
	switch t {
	case GaugeValue:
		k = kind{mmapfile.Gauge, desc.mode}
	case CounterValue:
		if !(v >= 0) {
			return nil, fmt.Errorf("counter %q: want at least 0, got %v", desc.name, v)
		}
	default:
		return nil, fmt.Errorf("metric %q: value type %d is neither CounterValue nor GaugeValue", desc.name, t)
	}
	return newConst(desc, k, labelValues, constSample{value: v})
}

// MustNewConstMetric is NewConstMetric that panics where that returns an error.
func MustNewConstMetric(desc *Desc, t ValueType, v float64, labelValues ...string) Metric {
	return must(NewConstMetric(desc, t, v, labelValues...))
}

// NewConstHistogram returns a histogram with fixed values. buckets has the
// cumulative counts by upper bound; +Inf is count.
func NewConstHistogram(desc *Desc, count uint64, sum float64, buckets map[float64]uint64, labelValues ...string) (Metric, error) {
	samples := []constSample{{suffix: "_sum", value: sum}}
	below := uint64(0)
	bounds := slices.DeleteFunc(slices.Sorted(maps.Keys(buckets)), func(b float64) bool { return math.IsInf(b, 1) })
	for _, bound := range append(bounds, math.Inf(1)) {
		upTo := count
		if !math.IsInf(bound, 1) {
			upTo = buckets[bound]
		}
		if upTo < below || math.IsNaN(bound) {
			return nil, fmt.Errorf("histogram %q: want cumulative buckets up to the count, %d, got %v", desc.name, count, buckets)
		}
		le := mmapfile.Label{Name: "le", Value: mmapfile.FormatBound(bound)}
		samples = append(samples, constSample{"_bucket", []mmapfile.Label{le}, float64(upTo - below)})
		below = upTo
	}
	return newConst(desc, kind{typ: mmapfile.Histogram}, labelValues, samples...)
}

// MustNewConstHistogram is NewConstHistogram that panics where that returns an
// error.
func MustNewConstHistogram(desc *Desc, count uint64, sum float64, buckets map[float64]uint64, labelValues ...string) Metric {
	return must(NewConstHistogram(desc, count, sum, buckets, labelValues...))
}

// NewConstSummary returns a summary with a fixed count and sum. Its quantiles,
// which can't be merged with those of other processes, are left out.
func NewConstSummary(desc *Desc, count uint64, sum float64, quantiles map[float64]float64, labelValues ...string) (Metric, error) {
	return newConst(desc, kind{typ: mmapfile.Summary}, labelValues,
		constSample{suffix: "_count", value: float64(count)}, constSample{suffix: "_sum", value: sum})
}

// MustNewConstSummary is NewConstSummary that panics where that returns an error.
func MustNewConstSummary(desc *Desc, count uint64, sum float64, quantiles map[float64]float64, labelValues ...string) Metric {
	return must(NewConstSummary(desc, count, sum, quantiles, labelValues...))
}

func must(m Metric, err error) Metric {
	if err != nil {
		panic(err)
	}
	return m
}

func newConst(desc *Desc, k kind, labelValues []string, samples ...constSample) (Metric, error) {
	if desc.err != nil {
		return nil, desc.err
	}
	if err := desc.checkValues(labelValues); err != nil {
		return nil, err
	}
	return &constMetric{desc, k, slices.Clone(labelValues), samples}, nil
}

// collected mirrors what one collector says into a store.
type collected struct {
	c     Collector
	store *store

	mu    sync.Mutex // protects all below; held while the collector is asked
	cells map[cellKey]*collectedCell
	round int
	gone  bool // it has been unregistered
}

type cellKey struct {
	kind kind
	key  string
}

type collectedCell struct {
	value *mmapfile.Value
	stamp *mmapfile.Value // of a mostrecent gauge, else nil
	// base is what a dead process of the same id had counted.
	base float64
	seen int // the last round in which the collector had it
}

// mirror asks the collector and stores what it says. What it no longer says is
// deleted.
func (m *collected) mirror() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return
	}
	m.round++
	for metric := range collect(m.c) {
		cm, ok := metric.(*constMetric)
		if !ok {
			m.store.fail(fmt.Errorf("collector %T sent a %T: want what NewConstMetric and its like return", m.c, metric))
			continue
		}
		for _, s := range cm.samples {
			m.put(cm, s)
		}
	}
	for k, cell := range m.cells {
		if cell.seen != m.round {
			cell.value.Delete()
			delete(m.cells, k)
		}
	}
}

func (m *collected) put(cm *constMetric, s constSample) {
	k := cellKey{cm.kind, string(cm.desc.key(cm.desc.family(cm.kind), cm.desc.name+s.suffix, cm.values, s.extra...))}
	cell := m.cells[k]
	if cell == nil {
		cell = new(collectedCell)
		cell.value, cell.stamp = m.store.place(k.kind, []byte(k.key))
		if cm.kind.mode.Base() != mmapfile.MostRecent {
			cell.stamp = nil
		}
		if k.kind.typ != mmapfile.Gauge && !cell.value.Deleted() {
			cell.base = cell.value.Load()
		}
		m.cells[k] = cell
	}
	cell.seen = m.round
	if cell.stamp != nil && (cell.stamp.Load() == 0 || cell.value.Load() != s.value) {
		// As new as its change: else whoever is asked last would always win.
		cell.stamp.Set(unixSeconds(time.Now()))
	}
	cell.value.Set(cell.base + s.value)
}

// forget deletes all that the collector has said.
func (m *collected) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	for _, cell := range m.cells {
		cell.value.Delete()
	}
}

// collect yields what a collector sends.
func collect(c Collector) func(yield func(Metric) bool) {
	return func(yield func(Metric) bool) {
		ch := make(chan Metric)
		var sending sync.WaitGroup
		sending.Go(func() { c.Collect(ch); close(ch) })
		defer sending.Wait()
		more := true
		for m := range ch {
			more = more && yield(m)
		}
	}
}

// describe returns what a collector describes.
func describe(c Collector) (descs []*Desc) {
	ch := make(chan *Desc)
	go func() { c.Describe(ch); close(ch) }()
	for d := range ch {
		descs = append(descs, d)
	}
	return descs
}

// funcCollector is a metric whose value a function tells.
type funcCollector struct {
	desc *Desc
	t    ValueType
	f    func() float64
}

// CounterFunc is a counter whose value a function tells. The function is called
// at the registry's interval and at Close.
type CounterFunc interface{ Collector }

// GaugeFunc is a gauge whose value a function tells.
type GaugeFunc interface{ Collector }

// NewCounterFunc returns a counter whose value is f's, which must not fall and
// must be safe for concurrent use.
func NewCounterFunc(opts CounterOpts, f func() float64) CounterFunc {
	return &funcCollector{Opts(opts).desc(nil), CounterValue, f}
}

// NewGaugeFunc returns a gauge whose value is f's, which must be safe for
// concurrent use.
func NewGaugeFunc(opts GaugeOpts, f func() float64) GaugeFunc {
	return &funcCollector{opts.named().desc(nil).WithMode(opts.Mode), GaugeValue, f}
}

// Describe implements Collector.
func (c *funcCollector) Describe(ch chan<- *Desc) { ch <- c.desc }

// Collect implements Collector.
func (c *funcCollector) Collect(ch chan<- Metric) {
	if m, err := NewConstMetric(c.desc, c.t, c.f()); err == nil {
		ch <- m
	}
}
