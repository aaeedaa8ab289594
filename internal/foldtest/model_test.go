package foldtest

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// The model is the merge as one would write it without a thought for speed, or for
// folding: it has never heard of archives, and reads no file. All it knows is what
// each writer there has ever been wrote last.

// writer is a process as far as one file goes.
type writer struct {
	name    mmapfile.Name
	ruby    bool
	layout  mmapfile.Layout
	alive   bool
	entries []entry
}

// entry is a series of a writer.
type entry struct {
	family, sample string
	labels         map[string]string
	value, stamp   float64
}

// key returns the entry's key as the writer's client spells it.
func (w *writer) key(e entry) string {
	var object, names, values []string
	for _, name := range slices.Sorted(maps.Keys(e.labels)) {
		object = append(object, fmt.Sprintf("%q: %q", name, e.labels[name]))
		names = append(names, strconv.Quote(name))
		values = append(values, strconv.Quote(e.labels[name]))
	}
	if w.ruby {
		return fmt.Sprintf(`["%s","%s",[%s],[%s]]`, e.family, e.sample, strings.Join(names, ","), strings.Join(values, ","))
	}
	return fmt.Sprintf(`["%s", "%s", {%s}, "Help."]`, e.family, e.sample, strings.Join(object, ", "))
}

// content returns the file that the writer leaves.
func (w *writer) content() []byte {
	im := mmapfile.NewImage(w.layout)
	for _, e := range w.entries {
		im.Append([]byte(w.key(e)), e.value, e.stamp)
	}
	// Clients make their files larger than they need to be.
	return append(slices.Clone(im.Bytes()), make([]byte, 512)...)
}

// leave writes the file to a directory.
func (w *writer) leave(t testing.TB, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, w.name.String()), w.content(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// hold keeps the files of living writers open for writing until the test ends, or
// until the function that it returns is called.
func hold(t testing.TB, dir string, writers []*writer) (release func()) {
	t.Helper()
	var open []*os.File
	for _, w := range writers {
		if !w.alive {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, w.name.String()), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	release = func() {
		for _, f := range open {
			f.Close()
		}
		open = nil
	}
	t.Cleanup(release)
	return release
}

// series is what the model knows of one.
type series struct {
	value, stamp float64
	set          bool
	buckets      map[float64]float64
	count, sum   float64
	hasCount     bool
	hasSum       bool
}

// totals are what a directory must come to.
type totals struct {
	samples map[string]float64
	// optional are those of them that may be missing: of dead writers' "all" gauges,
	// which are going to be deleted.
	optional map[string]bool
}

// merged merges writers. keeps says that the "all" gauges of dead ones are kept.
func merged(writers []*writer, keeps bool) totals {
	type family struct {
		name string
		typ  mmapfile.Type
	}
	families := make(map[family]map[string]*series)
	want := totals{make(map[string]float64), make(map[string]bool)}
	for _, w := range writers {
		mode := w.name.Mode
		if mode.Live() && !w.alive {
			continue
		}
		cumulative := make(map[*series][]entry)
		for _, e := range w.entries {
			if stale(e.value) {
				continue
			}
			f := family{e.family, w.name.Type}
			if f.typ == mmapfile.Counter {
				f.name = e.sample
			}
			labels := maps.Clone(e.labels)
			if labels == nil {
				labels = make(map[string]string)
			}
			le, bucket := labels["le"]
			delete(labels, "le")
			if mode.Base() == mmapfile.All {
				labels["pid"] = strings.TrimSuffix(w.name.ID, "-0")
				if !w.ruby {
					labels["pid"] = w.name.ID
				}
				if mode == mmapfile.All && !w.alive && !keeps {
					want.optional[f.name+text(labels)] = true
				}
			}
			if families[f] == nil {
				families[f] = make(map[string]*series)
			}
			s := families[f][text(labels)]
			if s == nil {
				s = &series{buckets: make(map[float64]float64)}
				families[f][text(labels)] = s
			}
			switch {
			case w.ruby && f.typ == mmapfile.Histogram && e.sample != e.family+"_sum":
				cumulative[s] = append(cumulative[s], e)
			case bucket:
				s.buckets[number(le)] += e.value
			case f.typ != mmapfile.Counter && f.typ != mmapfile.Gauge && e.sample == e.family+"_count":
				s.count += e.value
				s.hasCount = true
			case f.typ != mmapfile.Counter && f.typ != mmapfile.Gauge:
				s.sum += e.value
				s.hasSum = true
			default:
				s.add(w.name, e)
			}
		}
		for s, entries := range cumulative {
			s.addCumulative(entries)
		}
	}
	for f, all := range families {
		for labels, s := range all {
			s.serve(f.name, f.typ, labels, want.samples)
		}
	}
	return want
}

func stale(v float64) bool { return math.Float64bits(v) == mmapfile.StaleBits }

func number(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return v
}

func text(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, " %s=%q", name, labels[name])
	}
	return b.String()
}

func (s *series) add(name mmapfile.Name, e entry) {
	first := !s.set
	s.set = true
	switch name.Mode.Base() {
	case mmapfile.All:
		s.value = e.value
	case mmapfile.Min:
		if first || e.value < s.value || math.IsNaN(s.value) {
			s.value = e.value
		}
	case mmapfile.Max:
		if first || e.value > s.value || math.IsNaN(s.value) {
			s.value = e.value
		}
	case mmapfile.MostRecent:
		s.set = !first
		if e.stamp > s.stamp || e.stamp > 0 && e.stamp == s.stamp && (e.value > s.value || math.IsNaN(s.value)) {
			s.value, s.stamp, s.set = e.value, e.stamp, true
		}
	default:
		s.value += e.value
	}
}

// addCumulative adds what one writer has between each two bounds. Where a lower
// bucket is ahead of a higher one, the writer died between the two.
func (s *series) addCumulative(entries []entry) {
	upTo := make(map[float64]float64)
	for _, e := range entries {
		bound := math.Inf(1)
		if le, ok := e.labels["le"]; ok {
			bound = number(le)
		}
		upTo[bound] = max(upTo[bound], e.value)
	}
	below := 0.0
	for _, bound := range slices.Sorted(maps.Keys(upTo)) {
		s.buckets[bound] += max(0, upTo[bound]-below)
		below = max(below, upTo[bound])
	}
}

func (s *series) serve(name string, typ mmapfile.Type, labels string, samples map[string]float64) {
	if s.hasSum {
		samples[name+"_sum"+labels] = s.sum
	}
	switch {
	case typ == mmapfile.Histogram:
		total := 0.0
		for _, bound := range slices.Sorted(maps.Keys(s.buckets)) {
			total += s.buckets[bound]
			samples[fmt.Sprintf("%s_bucket%s le=%v", name, labels, bound)] = total
		}
		samples[fmt.Sprintf("%s_bucket%s le=+Inf", name, labels)] = total
		samples[name+"_count"+labels] = total
	case s.hasCount:
		samples[name+"_count"+labels] = s.count
	case s.set:
		samples[name+labels] = s.value
	}
}

// flatten turns a snapshot into samples as the model has them.
func flatten(s *merge.Snapshot) map[string]float64 {
	samples := make(map[string]float64)
	put := func(key string, v float64) {
		if !merge.Absent(v) {
			samples[key] = v
		}
	}
	for i := range s.Families {
		f := &s.Families[i]
		values := s.Values(f)
		for _, series := range f.Series {
			v := values[:f.Width(series)]
			values = values[len(v):]
			labels := text(maps.Collect(series.Labels.All()))
			switch f.Type {
			case merge.Summary:
				put(f.Name+"_count"+labels, v[0])
				put(f.Name+"_sum"+labels, v[1])
			case merge.Histogram:
				if merge.Absent(v[0]) {
					continue
				}
				put(f.Name+"_count"+labels, v[0])
				put(f.Name+"_sum"+labels, v[1])
				for k, b := range series.Buckets {
					put(fmt.Sprintf("%s_bucket%s le=%v", f.Name, labels, f.Bounds[b.Bound].Upper), v[2+k])
				}
			default:
				put(f.Name+labels, v[0])
			}
		}
	}
	return samples
}

// snapshot returns what a directory has.
func snapshot(t testing.TB, d *multiproc.Dir) map[string]float64 {
	t.Helper()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return flatten(s)
}

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// differ says in what samples differ from the totals; it is empty if they do not.
func (want totals) differ(got map[string]float64) string {
	missing := 0
	for key, v := range want.samples {
		if g, there := got[key]; !there && want.optional[key] {
			missing++
		} else if !there || !same(v, g) {
			missing = -1
			break
		}
	}
	if missing >= 0 && len(got)+missing == len(want.samples) {
		return ""
	}
	samples := maps.Clone(want.samples)
	for key := range want.optional {
		if _, there := got[key]; !there {
			delete(samples, key)
		}
	}
	return cmp.Diff(samples, got, cmp.Comparer(same))
}
