package e2e

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestBothClientsOneDirectory: Python and Ruby workers write the same families
// into one directory. Ruby's buckets are cumulative in its files and Python's are
// not, Ruby's counter family has its sample's name and Python's has not, one
// escapes what the other does not; the merge is one all the same.
func TestBothClientsOneDirectory(t *testing.T) {
	testpeer.Require(t, testpeer.Python, testpeer.Ruby)
	rnd := testpeer.Rand(t)
	dir := t.TempDir()
	p := serve(t, dir, "--liveness", "off").ready(t)

	var writers []*bothWriter
	add := func(w *worker, own []float64) {
		writers = append(writers, &bothWriter{
			worker: w, pid: w.ask(t, op{Op: "sync"}.String()), own: own, values: map[series][]float64{},
		})
	}
	for i := range 2 {
		// The first of each have the same bounds of their own, the second have not.
		pyBounds, rbBounds := []float64{0.5, 2, 8}, []float64{0.5, 2, 8}
		if i == 1 {
			pyBounds, rbBounds = []float64{0.25, 2}, []float64{1, 2, 4, 1e6}
		}
		add(startWorker(t, python(dir, "worker.py")), pyBounds)
		add(startWorker(t, ruby(dir, "worker.rb")), rbBounds)
	}

	for round := range 5 {
		for range 200 {
			w := writers[rnd.IntN(len(writers))]
			w.send(t, w.random(rnd).String())
		}
		for _, w := range writers {
			w.ask(t, op{Op: "sync"}.String())
		}
		want := bothModel(writers)
		got := p.scrape(t)
		checkSamples(t, fmt.Sprintf("round %d", round), got.samples, want)
		for family, typ := range map[string]string{"jobs_total": "counter", "size": "summary", "same_seconds": "histogram"} {
			if got.types[family] != typ {
				t.Errorf("round %d: family %s has type %q, want %q", round, family, got.types[family], typ)
			}
		}
		checkSamples(t, fmt.Sprintf("round %d, merge", round), merge(t, dir).samples, want)
		if t.Failed() {
			break
		}
	}
}

// bothWriter is a worker of either client with what it was told to write.
type bothWriter struct {
	*worker
	pid string
	own []float64 // the bounds of its own_seconds
	// What was counted, observed or set, in that order.
	values map[series][]float64
}

// series is a child of one of the families.
type series struct{ name, path string }

func (s series) labels() map[string]string {
	return map[string]string{"path": s.path, "Zone": "a"}
}

// Families with the same bounds in each worker and with bounds of the worker's own.
var sameBounds = []float64{0.5, 1, 2.5, 10}

// The modes that both clients have.
var bothModes = []string{"all", "liveall", "min", "max", "livesum"}

// random notes one thing to write. All values are multiples of an eighth, whose
// sums are exact.
func (w *bothWriter) random(rnd *rand.Rand) op {
	paths := []string{"", "plain", `with "quotes"`, `back\slash`, "new\nline", "日本語", "ünïcödé", "😀"}
	s := series{path: paths[rnd.IntN(len(paths))]}
	o := op{Labels: s.labels(), Value: float64(rnd.IntN(96)) / 8}
	switch rnd.IntN(5) {
	case 0:
		o.Op, o.Type, o.Name = "inc", "counter", "jobs_total"
	case 1:
		o.Op, o.Type, o.Name = "observe", "summary", "size"
	case 2:
		o.Op, o.Type, o.Name, o.Bounds = "observe", "histogram", "same_seconds", sameBounds
	case 3:
		o.Op, o.Type, o.Name, o.Bounds = "observe", "histogram", "own_seconds", w.own
	case 4:
		o.Op, o.Type, o.Mode = "set", "gauge", bothModes[rnd.IntN(len(bothModes))]
		o.Name = "level_" + o.Mode
	}
	s.name = o.Name
	w.values[s] = append(w.values[s], o.Value)
	return o
}

// bothModel is the naive merge of what the writers were told to write.
func bothModel(writers []*bothWriter) map[string]float64 {
	want := map[string]float64{}
	each := func(name string, visit func(w *bothWriter, labels map[string]string, values []float64)) {
		for _, w := range writers {
			for s, values := range w.values {
				if s.name == name {
					visit(w, s.labels(), values)
				}
			}
		}
	}
	each("jobs_total", func(_ *bothWriter, labels map[string]string, values []float64) {
		want[sampleKey("jobs_total", labels)] += mergedGauge("sum", values)
	})
	each("size", func(_ *bothWriter, labels map[string]string, values []float64) {
		want[sampleKey("size_sum", labels)] += mergedGauge("sum", values)
		want[sampleKey("size_count", labels)] += float64(len(values))
	})
	for _, name := range []string{"same_seconds", "own_seconds"} {
		// The bounds of a series are those of all workers that have it.
		union := map[string]map[float64]bool{}
		each(name, func(w *bothWriter, labels map[string]string, _ []float64) {
			key := sampleKey(name, labels)
			if union[key] == nil {
				union[key] = map[float64]bool{}
			}
			for _, bound := range w.bounds(name) {
				union[key][bound] = true
			}
		})
		each(name, func(w *bothWriter, labels map[string]string, values []float64) {
			want[sampleKey(name+"_sum", labels)] += mergedGauge("sum", values)
			want[sampleKey(name+"_count", labels)] += float64(len(values))
			for bound := range union[sampleKey(name, labels)] {
				n := 0.0
				for _, v := range values {
					// A worker knows of an observation only under which of its own bounds it fell.
					own := w.bounds(name)
					at, _ := slices.BinarySearch(own, v)
					if own[at] <= bound {
						n++
					}
				}
				bucket := maps.Clone(labels)
				bucket["le"] = fmt.Sprint(bound)
				want[sampleKey(name+"_bucket", bucket)] += n
			}
		})
	}
	for _, mode := range bothModes {
		last := map[string][]float64{}
		each("level_"+mode, func(w *bothWriter, labels map[string]string, values []float64) {
			if mode == "all" || mode == "liveall" {
				labels["pid"] = w.pid
			}
			key := sampleKey("level_"+mode, labels)
			last[key] = append(last[key], values[len(values)-1])
		})
		for key, values := range last {
			if mode == "livesum" {
				want[key] = mergedGauge("sum", values)
			} else {
				want[key] = mergedGauge(mode, values)
			}
		}
	}
	return want
}

// bounds are the upper bounds of the worker's histogram, the infinite one included.
func (w *bothWriter) bounds(name string) []float64 {
	own := w.own
	if name == "same_seconds" {
		own = sameBounds
	}
	return append(slices.Clone(own), math.Inf(1))
}
