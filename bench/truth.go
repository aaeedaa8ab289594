package main

import "github.com/promagg/promagg/internal/mmapfile"

// truth is what the generator wrote. All values are integers that add up to
// less than 2^53, so the totals are exact in whatever order they are summed.
type truth struct {
	known bool // false for a directory that was found, not built

	// What is in the files of the writers that count as live: all that a scrape
	// has to read.
	entries int
	sum     float64
	// names is what a correct exposition has, by sample name.
	names map[string]tally
}

// tally counts the samples of one name and adds up their values.
type tally struct {
	samples int
	total   float64
}

func (t *tally) add(v float64) {
	t.samples++
	t.total += v
}

// written is what a generator counts as it writes.
type written struct {
	// Sums holds, for each key, the sum of all writers' values.
	Sums []float64 `json:"sums"`
	// Writers holds, for each writer, the sum of its values.
	Writers []float64 `json:"writers"`
}

func newWritten(keys int) written { return written{Sums: make([]float64, keys)} }

// plus adds what was written by others on the same keys.
func (w *written) plus(more written) {
	for i, v := range more.Sums {
		w.Sums[i] += v
	}
	w.Writers = append(w.Writers, more.Writers...)
}

// truth works out what a correct exposition has. Of each gauge it has one sample
// per writer, of all else one of all writers.
func (w *written) truth(families []family, living []int) truth {
	t := truth{known: true, names: make(map[string]tally)}
	sums := w.Sums
	next := func() float64 {
		v := sums[0]
		sums = sums[1:]
		return v
	}
	for _, f := range families {
		add := func(suffix string, v float64) {
			n := t.names[f.Name+suffix]
			n.add(v)
			t.names[f.Name+suffix] = n
		}
		for range f.Labels {
			switch f.Type {
			case mmapfile.Counter:
				add("_total", next())
			case mmapfile.Gauge:
				n := t.names[f.Name]
				n.samples += len(w.Writers)
				n.total += next()
				t.names[f.Name] = n
			default:
				add("_sum", next())
				count := 0.0
				for range f.Bounds {
					count += next() // buckets are cumulative only in the exposition
					add("_bucket", count)
				}
				add("_count", count)
			}
		}
	}
	if len(living) == 0 {
		t.entries = len(w.Writers) * len(w.Sums)
		for _, v := range w.Writers {
			t.sum += v
		}
	}
	for _, i := range living {
		t.entries += len(w.Sums)
		t.sum += w.Writers[i]
	}
	return t
}
