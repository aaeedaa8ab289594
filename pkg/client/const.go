package client

import (
	"fmt"
	"maps"
	"math"
	"slices"

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
	suffix string           // of the sample's name
	extra  []mmapfile.Label // labels beyond those of the family
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
		if err := desc.checkPID(); err != nil {
			return nil, err
		}
	case CounterValue:
		if !(v >= 0) {
			return nil, fmt.Errorf("counter %q: want at least 0, got %v", desc.name, v)
		}
	default:
		return nil, fmt.Errorf("metric %q: value type %d is neither CounterValue nor GaugeValue", desc.name, t)
	}
	return newConst(desc, k, labelValues, constSample{value: v})
}

// NewInvalidMetric returns a metric that says why a collector can't tell one. The
// error is logged once, and what the collector said of the series before is
// deleted.
func NewInvalidMetric(desc *Desc, err error) Metric { return &invalidMetric{desc, err} }

type invalidMetric struct {
	desc *Desc
	err  error
}

func (m *invalidMetric) Desc() *Desc { return m.desc }

// MustNewConstMetric is NewConstMetric that panics where that returns an error.
func MustNewConstMetric(desc *Desc, t ValueType, v float64, labelValues ...string) Metric {
	return must(NewConstMetric(desc, t, v, labelValues...))
}

// NewConstHistogram returns a histogram with fixed values. buckets has the
// cumulative counts by upper bound; +Inf is count.
func NewConstHistogram(desc *Desc, count uint64, sum float64, buckets map[float64]uint64, labelValues ...string) (Metric, error) {
	if desc.err == nil && slices.Contains(desc.labelNames(), "le") {
		return nil, fmt.Errorf("histogram %q: \"le\" is not allowed as label name in histograms", desc.name)
	}
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
	if desc.err == nil && slices.Contains(desc.labelNames(), "quantile") {
		return nil, fmt.Errorf("summary %q: \"quantile\" is not allowed as label name in summaries", desc.name)
	}
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
