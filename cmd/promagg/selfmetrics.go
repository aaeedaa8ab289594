package main

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/duration"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/remotewrite"
)

// self gathers the metrics of promagg itself, which tell of a directory and of
// what is wrong with it. It makes the families as they are: a [prometheus.Registry]
// asks collectors in goroutines of their own and checks whatever they say, and that
// at each scrape takes as long as all else about a small directory. A test has them
// checked instead.
type self struct {
	dirs   *multiproc.Group
	label  string                // that tells named directories apart
	web    *webMetrics           // nil for who serves nothing
	remote *remotewrite.Exporter // nil for who sends nothing
	procs  *procMetrics          // nil for who looks at no processes
	fixed  []*dto.MetricFamily   // that never change
}

func newSelf(dirs *multiproc.Group, label string, web *webMetrics, procs *procMetrics) *self {
	registry := prometheus.NewRegistry()
	registry.MustRegister(version.NewCollector("promagg"))
	return &self{dirs: dirs, label: label, web: web, procs: procs, fixed: registry.MustGather()} // which can't fail for a constant
}

// Gather implements [prometheus.Gatherer].
func (s *self) Gather() ([]*dto.MetricFamily, error) {
	g := gathered{families: slices.Grow(slices.Clone(s.fixed), 80)}
	leftOut := s.dirs.LeftOut()
	for i, dir := range s.dirs.Dirs() {
		if name := dir.Name(); name != "" {
			g.extra = []string{s.label, name}
		}
		g.again = i > 0
		g.directory(dir.Stats(), leftOut[i])
		g.space(dir.Path())
		s.procs.gatherWorkers(&g, i)
	}
	g.extra, g.again = nil, false
	if s.web != nil {
		s.web.gather(&g)
	}
	if s.remote != nil {
		g.remoteWrite(s.remote.Stats())
	}
	s.procs.gather(&g)

	slices.SortFunc(g.families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, f := range g.families {
		if len(f.Metric) > 1 {
			slices.SortFunc(f.Metric, func(a, b *dto.Metric) int {
				return slices.CompareFunc(a.Label, b.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetValue(), b.GetValue()) })
			})
		}
	}
	return g.families, nil
}

// directory tells of one directory, of which so many families are left out for those of
// others.
func (g *gathered) directory(stats multiproc.Stats, leftOut int) {
	files := g.gauge("files", "Value files in the directory, by type and by state of their writer; one that is not known to be dead counts as alive.")
	bytes := g.gauge("file_bytes", "Size of the value files in the directory, by type and by state of their writer.")
	for i, of := range stats.ByType {
		typ := mmapfile.Type(i).String()
		files.add(float64(of.Alive.Files), "state", "alive", "type", typ)
		files.add(float64(of.Dead.Files), "state", "dead", "type", typ)
		bytes.add(float64(of.Alive.Bytes), "state", "alive", "type", typ)
		bytes.add(float64(of.Dead.Bytes), "state", "dead", "type", typ)
	}
	probed := g.gauge("probed_files", "Value files by what is known of their writer, and by which probe it is.")
	for _, p := range mmapfile.Probes() {
		for _, state := range mmapfile.States() {
			if p != mmapfile.ProbeOff || state == mmapfile.Alive {
				probed.add(float64(stats.Probed[multiproc.Probed{By: p, State: state}]), "probe", p.String(), "state", state.String())
			}
		}
	}
	g.gauge("frozen_files", "Value files of dead writers that were read a last time; their values are in memory.").add(float64(stats.Frozen))
	g.gauge("unmapped_files", "Value files that every scrape reads, for want of mappings (vm.max_map_count).").add(float64(stats.Read))
	g.gauge("corrupt_files", "Value files that can't be read, or not to their end.").add(float64(stats.Corrupt))
	g.gauge("mapped_bytes", "Size of the value files, as mapped.").add(float64(stats.Bytes))
	g.gauge("entries", "Entries of the value files that are merged.").add(float64(stats.Entries))
	g.gauge("series", "Series that the entries are merged into, buckets not counted.").add(float64(stats.Series))
	conflicts := g.gauge("conflicting_families", "Families on which writers disagree, by what they disagree on.")
	for _, k := range merge.ConflictKinds() {
		n := stats.Conflicts[k]
		if k == merge.NameConflict {
			n += leftOut
		}
		conflicts.add(float64(n), "kind", k.String())
	}
	g.gauge("invalid_histograms", "Histograms with series that are left out because of a negative count.").add(float64(stats.Invalid))
	limited := g.gauge("limited_files", "Value files that are left out, or read in part, because of a limit.")
	limited.add(float64(stats.LeftOut), "limit", "files")
	limited.add(float64(stats.CutOff), "limit", "file-size")
	dropped := g.counter("dropped_entries_total", "Entries left out because no exposition can hold them, or because of a limit, by what is wrong.")
	for _, r := range merge.Reasons() {
		dropped.add(float64(stats.Dropped[r]), "reason", r.String())
	}
	g.counter("damages_total", "Times that a value file was found damaged.").add(float64(stats.Damages))
	g.counter("directory_scans_total", "Times that the whole directory was listed.").add(float64(stats.Scans))
	g.gauge("watching", "Whether the kernel tells of new files (1); otherwise rescans find them (0).").add(oneIf(stats.Watching))
	g.counter("watch_restarts_total", "Times that the kernel was asked anew to tell of new files.").add(float64(max(1, stats.Watches) - 1))
	g.counter("watch_overflows_total", "Times that the kernel had more new files to tell of than it could keep, so that the directory was listed.").add(float64(stats.Overflows))
	workers := g.gauge("workers", "Processes that have value files in the directory, by state.")
	for _, state := range mmapfile.States() {
		workers.add(float64(stats.Writers[state]), "state", state.String())
	}
	g.counter("worker_starts_total", "Workers that have come since promagg was started.").add(float64(stats.Started))
	g.counter("worker_deaths_total", "Workers that have ended since promagg was started.").add(float64(stats.Ended))
	g.durations("merge_duration_seconds", "How long it took to look at the directory and to merge its files, once for all scrapes that share the result.", stats.Merges)
	g.fold(stats)
}

// fold tells what becomes of dead writers' files.
func (g *gathered) fold(stats multiproc.Stats) {
	did := stats.Fold
	g.gauge("archives", "Archives in the directory, in which the values of dead writers' files are added up.").add(float64(stats.Archives))
	g.gauge("archive_bytes", "Size of the archives.").add(float64(stats.ArchiveBytes))
	g.gauge("folding", "Whether this process folds dead writers' files (1), or only serves them (0).").add(oneIf(did.Active))
	g.counter("folds_total", "Archives that were written.").add(float64(did.Folds))
	g.counter("fold_failures_total", "Rounds of folding that did not come to their end.").add(float64(did.Failed))
	g.counter("fold_duration_seconds_total", "Time that folding took.").add(did.Took.Seconds())
	g.counter("folded_files_total", "Value files of dead writers that were added to an archive and deleted.").add(float64(did.Folded))
	g.counter("expired_files_total", "Value files of dead writers that were deleted because they count for nothing: live gauges, and gauges past their retention.").add(float64(did.Expired))
	g.counter("fold_dropped_entries_total", "Entries of dead writers that were past a limit and are not kept.").add(float64(did.Dropped))
	g.counter("archive_written_bytes_total", "Size of all archives that were written.").add(float64(did.Written))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// gathered collects families.
type gathered struct {
	families []*dto.MetricFamily
	extra    []string // a label that is added to all samples: its name and value
	again    bool     // families may be there already
}

func (g *gathered) gauge(name, help string) samples {
	return g.family(name, help, dto.MetricType_GAUGE)
}
func (g *gathered) counter(name, help string) samples {
	return g.family(name, help, dto.MetricType_COUNTER)
}

func (g *gathered) family(name, help string, typ dto.MetricType) samples {
	name = "promagg_" + name
	if g.again {
		for _, f := range g.families {
			if *f.Name == name {
				return samples{f, g.extra}
			}
		}
	}
	f := &dto.MetricFamily{Name: &name, Help: &help, Type: &typ}
	g.families = append(g.families, f)
	return samples{f, g.extra}
}

// durations adds a histogram.
func (g *gathered) durations(name, help string, of duration.Histogram) {
	bounds := duration.Bounds()
	buckets, counts := make([]dto.Bucket, len(bounds)), make([]uint64, len(of.Counts))
	h := &dto.Histogram{Bucket: make([]*dto.Bucket, len(bounds))}
	total := uint64(0)
	for i, n := range of.Counts {
		total += n
		counts[i] = total
		if i < len(bounds) {
			bound := bounds[i].Seconds()
			buckets[i].UpperBound, buckets[i].CumulativeCount = &bound, &counts[i]
			h.Bucket[i] = &buckets[i]
		}
	}
	sum := of.Sum.Seconds()
	h.SampleCount, h.SampleSum = &total, &sum
	s := g.family(name, help, dto.MetricType_HISTOGRAM)
	s.of.Metric = append(s.of.Metric, &dto.Metric{Label: s.with(nil), Histogram: h})
}

// samples are those of a family.
type samples struct {
	of    *dto.MetricFamily
	extra []string
}

// with returns labels with the one that is added to all, by name.
func (s samples) with(labels []*dto.LabelPair) []*dto.LabelPair {
	if s.extra == nil {
		return labels
	}
	all := append([]*dto.LabelPair{{Name: &s.extra[0], Value: &s.extra[1]}}, labels...)
	slices.SortFunc(all, func(a, b *dto.LabelPair) int { return strings.Compare(*a.Name, *b.Name) })
	return all
}

// sample has all parts of a metric, and labelled those of one with a label or two: in
// one piece, for to make each part by itself is a good part of a small scrape.
type sample struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

type labelled struct {
	sample
	labels [2]dto.LabelPair
	list   [2]*dto.LabelPair
}

// add adds a sample with labels, two at most: names and values in turn.
func (s samples) add(v float64, labels ...string) {
	var m *sample
	if len(labels) == 0 {
		m = new(sample)
	} else {
		l := new(labelled)
		for i := range len(labels) / 2 {
			l.labels[i].Name, l.labels[i].Value = &labels[2*i], &labels[2*i+1]
			l.list[i] = &l.labels[i]
		}
		m = &l.sample
		m.metric.Label = l.list[:len(labels)/2]
	}
	m.value = v
	if *s.of.Type == dto.MetricType_COUNTER {
		m.counter.Value = &m.value
		m.metric.Counter = &m.counter
	} else {
		m.gauge.Value = &m.value
		m.metric.Gauge = &m.gauge
	}
	m.metric.Label = s.with(m.metric.Label)
	s.of.Metric = append(s.of.Metric, &m.metric)
}
