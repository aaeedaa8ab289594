package client

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Observer takes observations; histograms and summaries do.
type Observer interface {
	// Observe adds one observation.
	Observe(v float64)
}

// DefBuckets are the default bounds of histograms, in seconds: those that suit
// the response times of a network service.
var DefBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Histogram counts observations in buckets, summed over all processes. It is
// safe for concurrent use. Observe is two atomic operations; a crash between
// them loses the observation's share of the sum, not its count.
type Histogram interface {
	Metric
	Collector
	placed
	Observer
}

// HistogramVec is a family of histograms.
type HistogramVec = MetricVec[Histogram]

type histogram struct {
	*family[Histogram]
	bounds []float64 // without +Inf; shared by the family
	sum    cell
	counts []cell // one more than bounds
}

// NewHistogram returns a histogram. Register it before use.
func NewHistogram(opts HistogramOpts) Histogram {
	return NewHistogramVec(opts, nil).WithLabelValues()
}

// NewHistogramVec returns a family of histograms with these labels. It panics if
// the buckets are not in increasing order or a label is called "le".
func NewHistogramVec(opts HistogramOpts, labelNames []string) *HistogramVec {
	desc := Opts{opts.Namespace, opts.Subsystem, opts.Name, opts.Unit, opts.Help, opts.ConstLabels}.desc(labelNames)
	if _, ok := opts.ConstLabels["le"]; ok || slices.Contains(labelNames, "le") {
		panic(fmt.Errorf("histogram %q: \"le\" is not allowed as label name in histograms", desc.name))
	}
	bounds := slices.Clone(opts.Buckets)
	if len(bounds) == 0 {
		bounds = slices.Clone(DefBuckets)
	}
	for i, b := range bounds {
		if math.IsNaN(b) || i > 0 && b <= bounds[i-1] {
			panic(fmt.Errorf("histogram %q: buckets must be in increasing order, got %v", desc.name, bounds))
		}
	}
	if math.IsInf(bounds[len(bounds)-1], 1) {
		bounds = bounds[:len(bounds)-1]
	}
	var f *family[Histogram]
	f = newFamily(desc, kind{typ: mmapfile.Histogram}, true, func([]string) Histogram {
		h := &histogram{family: f, bounds: bounds, counts: make([]cell, len(bounds)+1)}
		h.sum.init()
		for i := range h.counts {
			h.counts[i].init()
		}
		return h
	})
	return &HistogramVec{family: f}
}

func (h *histogram) Observe(v float64) {
	h.counts[h.bucket(v)].add(1, h)
	h.sum.add(v, h)
}

// bucket returns the index of the first bucket whose bound is at least v; NaN
// counts in the last one.
func (h *histogram) bucket(v float64) int {
	if len(h.bounds) > 35 {
		return sort.SearchFloat64s(h.bounds, v)
	}
	for i, b := range h.bounds {
		if v <= b {
			return i
		}
	}
	return len(h.bounds)
}

func (h *histogram) places() []place {
	// The sum comes first, as in the Python client's files.
	places := []place{{suffix: "_sum", cell: &h.sum}}
	for i := range h.counts {
		le := math.Inf(1)
		if i < len(h.bounds) {
			le = h.bounds[i]
		}
		places = append(places, place{suffix: "_bucket", extra: []mmapfile.Label{{Name: "le", Value: mmapfile.FormatBound(le)}}, cell: &h.counts[i]})
	}
	return places
}

func (h *histogram) holds(one *cell) bool {
	for i := range h.counts {
		if one == &h.counts[i] {
			return true
		}
	}
	return one == &h.sum
}

// Summary counts observations and sums them up, over all processes. It has no
// quantiles: those of several processes can't be merged. It is safe for
// concurrent use.
type Summary interface {
	Metric
	Collector
	placed
	Observer
}

// SummaryVec is a family of summaries.
type SummaryVec = MetricVec[Summary]

type summary struct {
	*family[Summary]
	count, sum cell
}

// NewSummary returns a summary. Register it before use.
func NewSummary(opts SummaryOpts) Summary {
	return NewSummaryVec(opts, nil).WithLabelValues()
}

// NewSummaryVec returns a family of summaries with these labels. It panics if
// one is called "quantile".
func NewSummaryVec(opts SummaryOpts, labelNames []string) *SummaryVec {
	desc := Opts(opts).desc(labelNames)
	if _, ok := opts.ConstLabels["quantile"]; ok || slices.Contains(labelNames, "quantile") {
		panic(fmt.Errorf("summary %q: \"quantile\" is not allowed as label name in summaries", desc.name))
	}
	var f *family[Summary]
	f = newFamily(desc, kind{typ: mmapfile.Summary}, true, func([]string) Summary {
		s := &summary{family: f}
		s.count.init()
		s.sum.init()
		return s
	})
	return &SummaryVec{family: f}
}

func (s *summary) Observe(v float64) {
	s.count.add(1, s)
	s.sum.add(v, s)
}

func (s *summary) places() []place {
	return []place{{suffix: "_count", cell: &s.count}, {suffix: "_sum", cell: &s.sum}}
}

func (s *summary) holds(one *cell) bool { return one == &s.count || one == &s.sum }
