// Package bridge mirrors the metrics of a client_golang registry into those of
// pkg/client, so that what third-party code counts there is merged over all
// processes as well:
//
//	client.MustRegister(bridge.New(prometheus.DefaultGatherer, bridge.Options{}))
//
// The registry asks the gatherer at its interval and at Close; in between the
// mirror is as old as the last time, and a crash loses what has been counted
// since.
//
// Counters, and the counts and sums of summaries, are summed over processes, as
// are the buckets of histograms. Gauges get the mode that [Options] choose, and
// untyped metrics are gauges here. Whatever disappears from the gatherer is
// deleted from the mirror.
//
// Not mirrored: quantiles, which can't be merged; exemplars, timestamps and
// native buckets, for which value files have no room (a histogram with native
// buckets only is its count and sum); gauge histograms, and histograms whose
// counts are no integers; and names that are valid only where any UTF-8 is.
//
// Only this package makes a worker link client_golang. Its default registry has
// the Go and process collectors in it: to have those metrics once, and in sums,
// take pkg/client/collectors for them and bridge a registry without, or choose
// sums here by [Options.Mode].
package bridge

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/pkg/client"
)

// Options are the settings of a bridge.
type Options struct {
	// Mode chooses the mode of a gauge by its name. Default: ModeLiveAll, a series
	// for each living process, for all of them.
	Mode func(name string) client.Mode
	// Logger is told once of each family that can't be mirrored, and once that the
	// gatherer fails. Default: slog.Default().
	Logger *slog.Logger
}

// Bridge is a collector of what a gatherer has. Its families are known only once
// they are gathered, so it is an unchecked collector: a family whose name is
// taken in the registry is left out and logged. It is for one registry.
type Bridge struct {
	g    prometheus.Gatherer
	mode func(string) client.Mode
	log  *slog.Logger

	mu   sync.Mutex          // protects all below; not held while gathering or sending
	err  error               // of the last time
	told map[string]bool     // the families whose fault has been logged, "" for the gatherer's
	last []*dto.MetricFamily // what was mirrored last
}

// New returns a bridge to what g gathers. g must not use the registry that the
// bridge is registered with.
func New(g prometheus.Gatherer, opts Options) *Bridge {
	b := &Bridge{g: g, mode: opts.Mode, log: cmp.Or(opts.Logger, slog.Default()), told: make(map[string]bool)}
	if b.mode == nil {
		b.mode = func(string) client.Mode { return client.ModeLiveAll }
	}
	return b
}

// Err returns what was wrong the last time the gatherer was asked: its own
// error, or that of a metric that can't be mirrored.
func (b *Bridge) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Describe implements client.Collector. It describes nothing.
func (b *Bridge) Describe(chan<- *client.Desc) {}

// Collect implements client.Collector.
func (b *Bridge) Collect(ch chan<- client.Metric) {
	families, err := b.g.Gather() // with an error there may still be families
	families = b.remember(families, err)
	first := b.report("", err)
	for _, f := range families {
		var desc description
		for _, m := range f.GetMetric() {
			if out, err := b.metric(&desc, f, m); err == nil {
				ch <- out
			} else {
				first = cmp.Or(first, b.report(f.GetName(), err))
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = first
}

// remember returns the families to mirror. What a failing gatherer does not have
// has not gone: without a value from this process the sum over all would fall,
// as if all had started again. So sums stay where they were, until the gatherer
// has them again or no error. Gauges are left out: an old one is a wrong one.
func (b *Bridge) remember(families []*dto.MetricFamily, err error) []*dto.MetricFamily {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		seen := make(map[string]bool)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				seen[seriesKey(f, m)] = true
			}
		}
		for _, f := range b.last {
			missing := slices.DeleteFunc(slices.Clone(f.GetMetric()), func(m *dto.Metric) bool { return seen[seriesKey(f, m)] })
			if cumulative(f.GetType()) && len(missing) > 0 {
				families = append(slices.Clip(families), &dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type, Metric: missing})
			}
		}
	}
	b.last = families
	return families
}

// report notes an error of a family, "" for the gatherer, and logs the first.
func (b *Bridge) report(family string, err error) error {
	if err == nil {
		return nil
	}
	b.mu.Lock()
	told := b.told[family]
	b.told[family] = true
	b.mu.Unlock()
	if told {
		return err
	}
	if family == "" {
		b.log.Error("gatherer fails; what it still gathers is mirrored", "err", err)
	} else {
		b.log.Error("metric can't be mirrored", "metric", family, "err", err)
	}
	return err
}

func cumulative(t dto.MetricType) bool {
	return t == dto.MetricType_COUNTER || t == dto.MetricType_SUMMARY || t == dto.MetricType_HISTOGRAM
}

func seriesKey(f *dto.MetricFamily, m *dto.Metric) string {
	var key strings.Builder
	fmt.Fprintf(&key, "%v %s", f.GetType(), f.GetName())
	for _, l := range m.GetLabel() {
		fmt.Fprintf(&key, " %q=%q", l.GetName(), l.GetValue())
	}
	return key.String()
}

// description makes the descriptions of one family: mostly one, but its metrics
// need not have the same label names.
type description struct {
	desc   *client.Desc
	labels []string
}

func (d *description) of(f *dto.MetricFamily, labels []string, mode func(string) client.Mode) *client.Desc {
	if d.desc == nil || !slices.Equal(d.labels, labels) {
		d.labels = labels
		d.desc = client.NewDesc(f.GetName(), f.GetHelp(), labels, nil)
		if !cumulative(f.GetType()) {
			d.desc = d.desc.WithMode(mode(f.GetName()))
		}
	}
	return d.desc
}

// metric returns a gathered metric as one of pkg/client.
func (b *Bridge) metric(d *description, f *dto.MetricFamily, m *dto.Metric) (client.Metric, error) {
	labels, values := make([]string, len(m.GetLabel())), make([]string, len(m.GetLabel()))
	for i, l := range m.GetLabel() {
		labels[i], values[i] = l.GetName(), l.GetValue()
	}
	desc := d.of(f, labels, b.mode)
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		return client.NewConstMetric(desc, client.CounterValue, m.GetCounter().GetValue(), values...)
	case dto.MetricType_GAUGE:
		return client.NewConstMetric(desc, client.GaugeValue, m.GetGauge().GetValue(), values...)
	case dto.MetricType_UNTYPED:
		return client.NewConstMetric(desc, client.GaugeValue, m.GetUntyped().GetValue(), values...)
	case dto.MetricType_SUMMARY:
		return client.NewConstSummary(desc, m.GetSummary().GetSampleCount(), m.GetSummary().GetSampleSum(), nil, values...)
	case dto.MetricType_HISTOGRAM:
		h := m.GetHistogram()
		if h.GetSampleCountFloat() > 0 {
			return nil, fmt.Errorf("histogram %q: want integer counts, got %v observations", f.GetName(), h.GetSampleCountFloat())
		}
		buckets := make(map[float64]uint64, len(h.GetBucket()))
		for _, bucket := range h.GetBucket() {
			if !math.IsInf(bucket.GetUpperBound(), 1) { // that is the count
				buckets[bucket.GetUpperBound()] = bucket.GetCumulativeCount()
			}
		}
		return client.NewConstHistogram(desc, h.GetSampleCount(), h.GetSampleSum(), buckets, values...)
	}
	return nil, fmt.Errorf("metric %q: a %v has no place in a value file", f.GetName(), f.GetType())
}
