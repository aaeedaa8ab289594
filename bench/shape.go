package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// shape is a kind of directory to measure.
type shape struct {
	name  string
	about string
	// writers and entries are its full size: how many writers there are, and of
	// how many series each has the values.
	writers, entries int
	// families are what every writer has, together of that many series. They are
	// all of one type: a writer has one file.
	families func(entries int) []family
	// live is how many of the writers a helper process keeps alive, so that the
	// default liveness probe tells them from the others. With 0 nobody lives, and
	// promagg runs with liveness off: a file that exists counts as live, as it
	// does for the other collectors.
	live    int
	initial int64 // size of a new file; 0: initialSize
	ruby    bool  // written by the Ruby client
	churn   bool  // writers come and go while it is measured
	fold    bool  // promagg folds the dead; else all contestants find the same files
	quick   bool  // among those of -quick
}

// everyone is the live of a shape whose writers all live, however many they are.
const everyone = math.MaxInt

var shapes = []shape{
	{name: "S", about: "8 writers of 500 counters", writers: 8, entries: 500, families: counters, quick: true},
	{name: "M", about: "64 writers of 2500 counters", writers: 64, entries: 2500, families: counters, quick: true},
	{name: "L", about: "1000 writers of 1000 counters", writers: 1000, entries: 1000, families: counters, quick: true},
	{name: "L-dead", about: "as L, 16 of the writers live", writers: 1000, entries: 1000, families: counters, live: 16},
	{name: "L-ruby", about: "as L, written by the Ruby client", writers: 1000, entries: 1000, families: counters, ruby: true},
	{name: "W", about: "64 writers of the same 50000 counters, in 100 families", writers: 64, entries: 50_000, families: manyCounters},
	{name: "P", about: "1000 live writers of 100 liveall gauges, each a line of its own", writers: 1000, entries: 100, families: gauges, live: everyone},
	{name: "H", about: "64 writers of 500 histograms of 15 buckets", writers: 64, entries: 500, families: histograms},
	{name: "C", about: "16 live writers of 100 counters, and 10000 that come and go", writers: 10_000, entries: 100, families: counters, live: 16, initial: 4 << 10, churn: true},
	{name: "C-fold", about: "as C, what the dead have left is folded every second", writers: 10_000, entries: 100, families: counters, live: 16, initial: 4 << 10, churn: true, fold: true},
}

// shapesOf finds shapes by a list of names, or all.
func shapesOf(list string) ([]shape, error) {
	if list == "all" {
		return shapes, nil
	}
	var found []shape
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-shape: want all or some of %s, got %q", strings.Join(shapeNames(), ","), name)
		}
		found = append(found, shapes[i])
	}
	return found, nil
}

func shapeNames() []string {
	var names []string
	for _, s := range shapes {
		names = append(names, s.name)
	}
	return names
}

// sized returns the shape in the size that the options ask for.
func (s shape) sized(o options) shape {
	if o.writers > 0 {
		s.writers = o.writers
	}
	if o.entries > 0 {
		s.entries = o.entries
	}
	return s
}

// living returns which of the writers live, spread over all of them.
func (s shape) living() []int {
	n := min(s.live, s.writers)
	living := make([]int, n)
	for i := range living {
		living[i] = i * (s.writers / n)
	}
	return living
}

// initialSize is what the Python client gives a new file, before it doubles it.
const initialSize = 64 << 10

// fileSize is the initial size of a writer's file.
func (s shape) fileSize() int64 {
	if s.initial > 0 {
		return s.initial
	}
	return initialSize
}

// bytes is how much space a directory takes, at most. An entry counts as its key
// and 20 bytes: length, padding, value.
func (s shape) bytes() int64 {
	used := int64(0)
	for _, key := range keysOf(s.families(s.entries)) {
		used += int64(len(key)) + 20
	}
	size := s.fileSize()
	for size < used {
		size *= 2
	}
	return size * int64(s.writers+len(s.living()))
}

// family is a metric family that every writer has. Generators in other languages
// get it as JSON.
type family struct {
	Type       mmapfile.Type `json:"-"`
	Mode       mmapfile.Mode `json:"-"`
	TypeName   string        `json:"type"`
	ModeName   string        `json:"mode"`
	Name       string        `json:"name"`
	Help       string        `json:"help"`
	LabelNames []string      `json:"label_names"` // sorted
	Labels     [][]string    `json:"labels"`      // the values, a list for each series
	Bounds     []string      `json:"bounds"`      // of a histogram's buckets, as the Python client spells them
}

func newFamily(t mmapfile.Type, m mmapfile.Mode, name, help string, labels ...string) family {
	return family{Type: t, Mode: m, TypeName: t.String(), ModeName: m.String(), Name: name, Help: help, LabelNames: labels}
}

// counters is one family of counters with three labels.
func counters(entries int) []family {
	f := newFamily(mmapfile.Counter, mmapfile.NoMode, "http_requests", "Total number of HTTP requests served.", "method", "path", "status")
	for i := range entries {
		f.Labels = append(f.Labels, requestLabels(i))
	}
	return []family{f}
}

// wideFamilies is how many families W has, so that one of them is a hundredth.
const wideFamilies = 100

// manyCounters spreads the series over many families of counters.
func manyCounters(entries int) []family {
	n := min(wideFamilies, entries)
	families := make([]family, n)
	for i := range families {
		f := counters(entries*(i+1)/n - entries*i/n)[0]
		f.Name = fmt.Sprintf("http_requests_%02d", i)
		families[i] = f
	}
	return families
}

// gauges is one family of gauges that every writer has a line of.
func gauges(entries int) []family {
	f := newFamily(mmapfile.Gauge, mmapfile.LiveAll, "http_requests_in_progress", "HTTP requests that are being served.", "method", "path", "status")
	for i := range entries {
		f.Labels = append(f.Labels, requestLabels(i))
	}
	return []family{f}
}

// histograms is one family of histograms with two labels, whose names sort
// before le: where it stands among them is then no matter of taste.
func histograms(entries int) []family {
	f := newFamily(mmapfile.Histogram, mmapfile.NoMode, "http_request_duration_seconds", "Time that HTTP requests took.", "code", "handler")
	for i := range entries {
		l := requestLabels(i * 4) // of one method
		f.Labels = append(f.Labels, []string{l[2], l[0] + l[1]})
	}
	f.Bounds = strings.Fields("0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 +Inf")
	return []family{f}
}

// requestLabels are the values of method, path and status of the i-th series.
func requestLabels(i int) []string {
	methods := []string{"GET", "POST", "PUT", "DELETE"}
	statuses := []string{"200", "201", "302", "404", "500"}
	things := []string{"accounts", "orders", "products", "invoices", "sessions", "search", "carts", "reviews"}
	status := statuses[i%len(statuses)]
	i /= len(statuses)
	method := methods[i%len(methods)]
	i /= len(methods)
	path := "/api/v1/" + things[i%len(things)] + "/{id}/page/" + strconv.Itoa(i/len(things))
	return []string{method, path, status}
}

// keysOf returns the keys of all entries of a writer, in the order in which the
// Python client makes them: of a histogram the sum, then the buckets.
func keysOf(families []family) [][]byte {
	var keys [][]byte
	for _, f := range families {
		for _, values := range f.Labels {
			var labels []mmapfile.Label
			for i, v := range values {
				labels = append(labels, mmapfile.Label{Name: f.LabelNames[i], Value: v})
			}
			add := func(sample string, labels ...mmapfile.Label) {
				keys = append(keys, mmapfile.AppendKey(nil, mmapfile.Key{Family: f.Name, Sample: sample, Labels: labels, Help: f.Help}))
			}
			switch f.Type {
			case mmapfile.Counter:
				add(f.Name+"_total", labels...)
			case mmapfile.Gauge:
				add(f.Name, labels...)
			default:
				add(f.Name+"_sum", labels...)
				for _, le := range f.Bounds {
					add(f.Name+"_bucket", append(slices.Clip(labels), mmapfile.Label{Name: "le", Value: le})...)
				}
			}
		}
	}
	return keys
}

// fileName is the name of a writer's file.
func (s shape) fileName(writer string) string {
	f := s.families(1)[0]
	return mmapfile.Name{Type: f.Type, Mode: f.Mode, ID: writer}.String()
}

// writerID is the id of the i-th writer.
func writerID(i int) string { return strconv.Itoa(1000 + i) }
