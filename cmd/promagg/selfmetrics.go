package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors/version"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/multiproc"
)

// collector tells of a directory and of what is wrong with it.
type collector struct {
	dir *multiproc.Dir
	prometheus.Collector

	files, frozen, read, corrupt, bytes, entries, series, conflicts, invalid *prometheus.Desc
	dropped, damages, scans, watching                                        *prometheus.Desc
}

func newCollector(dir *multiproc.Dir) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("promagg_"+name, help, labels, nil)
	}
	return &collector{
		dir:       dir,
		Collector: version.NewCollector("promagg"),
		files:     desc("files", "Value files in the directory, by state of their writer.", "state"),
		frozen:    desc("frozen_files", "Value files of dead writers that were read a last time; their values are in memory."),
		read:      desc("unmapped_files", "Value files that every scrape reads, for want of mappings (vm.max_map_count)."),
		corrupt:   desc("corrupt_files", "Value files that can't be read, or not to their end."),
		bytes:     desc("mapped_bytes", "Size of the value files, as mapped."),
		entries:   desc("entries", "Entries of the value files that are merged."),
		series:    desc("series", "Series that the entries are merged into, buckets not counted."),
		conflicts: desc("conflicting_families", "Families on which writers disagree, by what they disagree on.", "kind"),
		invalid:   desc("invalid_histograms", "Histograms with series that are left out because of a negative count."),
		dropped:   desc("dropped_entries_total", "Entries left out because no exposition can hold them, by what is wrong.", "reason"),
		damages:   desc("damages_total", "Times that a value file was found damaged."),
		scans:     desc("directory_scans_total", "Times that the whole directory was listed."),
		watching:  desc("watching", "Whether the kernel tells of new files (1); otherwise rescans find them (0)."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	c.Collector.Describe(ch)
	for _, d := range []*prometheus.Desc{c.files, c.frozen, c.read, c.corrupt, c.bytes, c.entries, c.series, c.conflicts, c.invalid, c.dropped, c.damages, c.scans, c.watching} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.Collector.Collect(ch)
	s := c.dir.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(c.files, float64(s.Alive), "alive")
	gauge(c.files, float64(s.Dead), "dead")
	gauge(c.frozen, float64(s.Frozen))
	gauge(c.read, float64(s.Read))
	gauge(c.corrupt, float64(s.Corrupt))
	gauge(c.bytes, float64(s.Bytes))
	gauge(c.entries, float64(s.Entries))
	gauge(c.series, float64(s.Series))
	for _, k := range merge.ConflictKinds() {
		gauge(c.conflicts, float64(s.Conflicts[k]), k.String())
	}
	gauge(c.invalid, float64(s.Invalid))
	for _, r := range merge.Reasons() {
		counter(c.dropped, s.Dropped[r], r.String())
	}
	counter(c.damages, s.Damages)
	counter(c.scans, s.Scans)
	watching := 0.0
	if s.Watching {
		watching = 1
	}
	gauge(c.watching, watching)
}

// refusals count HTTP requests that are refused or cut off, by reason.
type refusals struct{ *prometheus.CounterVec }

func newRefusals() refusals {
	r := refusals{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promagg_http_requests_refused_total",
		Help: "HTTP requests that were refused, or whose answer was cut off because it was not taken, by reason.",
	}, []string{"reason"})}
	for _, reason := range []string{limit.Busy, limit.URL, limit.Body, string(expose.BadQuery), string(expose.NoMemory), string(expose.TooSlow)} {
		r.WithLabelValues(reason) // there from the start
	}
	return r
}

func (r refusals) count(reason string) { r.WithLabelValues(reason).Inc() }

// connectionMetrics tell of the connections of the server.
func connectionMetrics(c *limit.Listener) (open, evicted prometheus.Collector) {
	open = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promagg_http_connections",
		Help: "Open HTTP connections.",
	}, func() float64 { return float64(c.Open()) })
	evicted = prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "promagg_http_connections_evicted_total",
		Help: "HTTP connections that were closed while they waited for a request, to make room for others.",
	}, func() float64 { return float64(c.Evicted()) })
	return open, evicted
}
