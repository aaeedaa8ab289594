package client

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRefused: what client_golang refuses is refused here, in its words as far as
// they go, and with what was wanted and what came.
func TestRefused(t *testing.T) {
	ours, theirs := NewRegistry(Options{}), prometheus.NewRegistry()
	defer ours.Close()
	ours.MustRegister(NewCounter(CounterOpts{Name: "taken_total", Help: "T."}))
	theirs.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "taken_total", Help: "T."}))
	vec := func(labels ...string) *CounterVec { return NewCounterVec(CounterOpts{Name: "c_total"}, labels) }
	theirVec := func(labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total"}, labels)
	}
	for name, c := range map[string]struct {
		ours, theirs func()
		words        string // in both
		more         string // in ours
	}{
		"negative amount": {
			func() { NewCounter(CounterOpts{Name: "c_total"}).Add(-1) },
			func() { prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"}).Add(-1) },
			"cannot decrease in value", `"c_total" cannot decrease in value: want at least 0, got -1`,
		},
		"NaN amount": { // client_golang takes it
			func() { NewCounter(CounterOpts{Name: "c_total"}).Add(math.NaN()) }, nil, "", "want at least 0, got NaN",
		},
		"no name": {
			func() { ours.MustRegister(NewGauge(GaugeOpts{Namespace: "app"})) },
			func() { theirs.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "app"})) },
			`is invalid: "" is not a valid metric name`, "",
		},
		"a name of any UTF-8": { // client_golang takes it by now
			func() { ours.MustRegister(NewGauge(GaugeOpts{Name: "größe"})) }, nil, "", `"größe" is not a valid metric name`,
		},
		"a name that is no UTF-8": {
			func() { ours.MustRegister(NewSummary(SummaryOpts{Name: "a\xff"})) },
			func() { theirs.MustRegister(prometheus.NewSummary(prometheus.SummaryOpts{Name: "a\xff"})) },
			`"a\xff" is not a valid metric name`, "",
		},
		"a reserved label": {
			func() { ours.MustRegister(vec("__name__")) }, func() { theirs.MustRegister(theirVec("__name__")) },
			`"__name__" is not a valid label name for metric "c_total"`, "",
		},
		"a label twice": {
			func() { ours.MustRegister(vec("a", "a")) }, func() { theirs.MustRegister(theirVec("a", "a")) },
			`duplicate label names in constant and variable labels for metric "c_total"`, "",
		},
		"a constant label's value": {
			func() { ours.MustRegister(NewCounter(CounterOpts{Name: "c_total", ConstLabels: Labels{"a": "\xff"}})) },
			func() {
				theirs.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", ConstLabels: prometheus.Labels{"a": "\xff"}}))
			},
			`value "\xff" is not valid UTF-8`, "label a",
		},
		"buckets": {
			func() { NewHistogram(HistogramOpts{Name: "h", Buckets: []float64{1, 2, 2}}) },
			func() { prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2, 2}}) },
			"buckets must be in increasing order", `histogram "h": buckets must be in increasing order, got [1 2 2]`,
		},
		"a NaN bucket": { // client_golang takes it
			func() { NewHistogram(HistogramOpts{Name: "h", Buckets: []float64{math.NaN()}}) }, nil, "", "got [NaN]",
		},
		"le": {
			func() { NewHistogramVec(HistogramOpts{Name: "h"}, []string{"le"}) },
			func() {
				prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "h"}, []string{"le"}).WithLabelValues("1")
			},
			`"le" is not allowed as label name in histograms`, "",
		},
		"quantile": {
			func() { NewSummary(SummaryOpts{Name: "s", ConstLabels: Labels{"quantile": "1"}}) },
			func() {
				prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", ConstLabels: prometheus.Labels{"quantile": "1"}})
			},
			`"quantile" is not allowed as label name in summaries`, "",
		},
		"too few values": {
			func() { vec("a", "b").WithLabelValues("x") }, func() { theirVec("a", "b").WithLabelValues("x") },
			"inconsistent label cardinality", `"c_total" has 2 variable labels named ["a" "b"] but 1 values ["x"] were provided`,
		},
		"another label": {
			func() { vec("a").With(Labels{"b": "x"}) }, func() { theirVec("a").With(prometheus.Labels{"b": "x"}) },
			`label name "a" missing in label map`, "",
		},
		"one more label": {
			func() { vec("a").With(Labels{"a": "x", "b": "x"}) }, func() { theirVec("a").With(prometheus.Labels{"a": "x", "b": "x"}) },
			"inconsistent label cardinality", `has 1 variable labels named ["a"] but labels ["a" "b"] were provided`,
		},
		"a value": {
			func() { vec("a").WithLabelValues("\xff") }, func() { theirVec("a").WithLabelValues("\xff") },
			`label value "\xff" is not valid UTF-8`, "",
		},
		"a label to curry": {
			func() { vec("a").MustCurryWith(Labels{"b": "x"}) }, func() { theirVec("a").MustCurryWith(prometheus.Labels{"b": "x"}) },
			"1 unknown label(s) found during currying", `"b" is no label of "c_total"`,
		},
		"a label that is curried": {
			func() { vec("a").MustCurryWith(Labels{"a": "x"}).MustCurryWith(Labels{"a": "y"}) },
			func() {
				theirVec("a").MustCurryWith(prometheus.Labels{"a": "x"}).MustCurryWith(prometheus.Labels{"a": "y"})
			},
			`label name "a" is already curried`, "",
		},
		"a name that is taken": {
			func() { ours.MustRegister(NewGauge(GaugeOpts{Name: "taken_total", Help: "T."})) },
			func() {
				theirs.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "taken_total", Help: "T."}))
			},
			"duplicate metrics collector registration attempted", "",
		},
		"another help text": {
			func() { ours.MustRegister(NewCounter(CounterOpts{Name: "taken_total", Help: "Other."})) },
			func() {
				theirs.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "taken_total", Help: "Other."}))
			},
			"has different label names or a different help string", `help: "T."`,
		},
	} {
		got := panicked(c.ours)
		if !strings.Contains(got, c.words) || !strings.Contains(got, c.more) || c.words+c.more == "" {
			t.Errorf("%s: panicked with %q, want %q and %q in it", name, got, c.words, c.more)
		}
		if c.theirs != nil {
			if got := panicked(c.theirs); !strings.Contains(got, c.words) {
				t.Errorf("%s: client_golang panicked with %q, want %q in it", name, got, c.words)
			}
		}
	}
	if _, err := vec("a").GetMetricWithLabelValues(); !errors.Is(err, errInconsistentCardinality) {
		t.Errorf("GetMetricWithLabelValues: %v", err)
	}
}

// TestNames: how a metric's name is put together.
func TestNames(t *testing.T) {
	for want, o := range map[string]Opts{
		"a_b_c_seconds":   {Namespace: "a", Subsystem: "b", Name: "c", Unit: "seconds"},
		"a_c":             {Namespace: "a", Name: "c"},
		"b_c":             {Subsystem: "b", Name: "c"},
		"c_seconds":       {Name: "c_seconds", Unit: "seconds"},
		"c_bytes_total":   {Name: "c_total", Unit: "bytes"},
		"d_bytes_total":   {Name: "d_bytes_total", Unit: "bytes"},
		"c_milliseconds":  {Name: "c", Unit: "milliseconds"},
		"bytes_c_seconds": {Name: "bytes_c", Unit: "seconds"},
		"":                {Namespace: "a", Unit: "bytes"},
	} {
		if got := o.desc(nil).name; got != want {
			t.Errorf("%+v: got %q, want %q", o, got, want)
		}
	}
}
