package multiproc

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// BenchmarkTend looks at everything about 6000 files of living writers, which an
// idle daemon does once in three rescan intervals.
func BenchmarkTend(b *testing.B) {
	dir := b.TempDir()
	const files = 6000
	for i := range files {
		w, err := mmapfile.Create(filepath.Join(dir, fmt.Sprintf("counter_%d.db", i)), mmapfile.ValueTimestamp, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		if _, err := w.Append([]byte(`["c", "c_total", {}, ""]`)); err != nil {
			b.Fatal(err)
		}
	}
	d := Open(Options{Path: dir})
	defer d.Close()
	d.Sync(true)
	for b.Loop() {
		d.tend(1)
		d.tend(1)
		d.tend(1)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*files), "ns/file")
}
