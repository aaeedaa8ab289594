package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/promagg/promagg/internal/mmapfile"
)

// heap is what the library keeps on the heap between scrapes, in bytes.
type heap struct {
	All    int64   `json:"all"`        // with all files
	One    int64   `json:"one_writer"` // with one of them: all series, few entries
	Entry  float64 `json:"per_entry"`
	Series float64 `json:"per_series"` // beyond the text of its labels
	Labels float64 `json:"label_text"` // the mean of a series
}

// measureHeap tells what an entry takes from what a series takes by looking at
// the same series with the entries of all writers and with those of one. It
// works where all writers have the same series.
func (b *bench) measureHeap() (*heap, error) {
	paths, _, err := b.dir.files()
	if err != nil {
		return nil, err
	}
	writers := len(paths)
	if !b.dir.truth.known || b.dir.shape.live > 0 || writers < 2 {
		return nil, nil
	}
	one, err := os.MkdirTemp(filepath.Dir(b.dir.path), "promagg-bench-") // on the same filesystem
	if err == nil {
		defer os.RemoveAll(one)
		err = os.Link(paths[0], filepath.Join(one, filepath.Base(paths[0])))
	}
	if err != nil {
		// Somebody else's place, with -dir: all else can be measured there.
		fmt.Fprintf(b.log, "bench: the heap is not measured: %v\n", err)
		return nil, nil
	}
	h := &heap{}
	if h.One, _, _, err = heapOf(one, b.dir.liveness()); err != nil {
		return nil, err
	}
	var series, labels int
	if h.All, series, labels, err = heapOf(b.dir.path, b.dir.liveness()); err != nil {
		return nil, err
	}
	each := float64(b.dir.truth.entries) / float64(writers)
	h.Entry = float64(h.All-h.One) / (float64(writers-1) * each)
	h.Labels = float64(labels) / float64(series)
	h.Series = (float64(h.One)-h.Entry*each)/float64(series) - h.Labels
	return h, nil
}

// heapOf opens a directory, lets one scrape go by, and returns how much more
// there is on the heap, how many series there are and how long the text of their
// labels is.
func heapOf(dir string, liveness mmapfile.Probe) (bytes int64, series, labels int, err error) {
	before := heapNow()
	d := openDir(dir, liveness)
	defer d.Close()
	if series, labels, err = countSeries(d); err != nil {
		return 0, 0, 0, err
	}
	bytes = heapNow() - before
	runtime.KeepAlive(d)
	return bytes, series, labels, nil
}

// heapNow collects twice, since what has a finalizer goes with the second.
func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
