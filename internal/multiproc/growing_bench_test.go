package multiproc

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// BenchmarkGrowing makes a snapshot after one of 65 writers has added so many
// series, as one that does so without end has since the last scrape. What a new
// series costs is in ns/new; new=0 is the steady state.
func BenchmarkGrowing(b *testing.B) {
	for _, added := range []int{0, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("new=%d", added), func(b *testing.B) {
			dir := b.TempDir()
			writer := func(i int) *mmapfile.Writer {
				w, err := mmapfile.Create(filepath.Join(dir, fmt.Sprintf("counter_%d.db", i)), mmapfile.ValueTimestamp, 0)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { w.Close() })
				return w
			}
			next := 0
			add := func(w *mmapfile.Writer, n int) {
				for range n {
					next++
					if _, err := w.Append(fmt.Appendf(nil, `["c", "c_total", {"path": "/api/v1/orders/%d"}, "What it is about."]`, next)); err != nil {
						b.Fatal(err)
					}
				}
			}
			for i := range 64 {
				next = 0
				add(writer(i), 2500)
			}
			grows := writer(64)
			d := Open(Options{Path: dir, Liveness: mmapfile.ProbeOff})
			defer d.Close()
			snapshot := func() {
				if _, err := d.Snapshot(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			snapshot()
			b.ResetTimer()
			for range b.N { // a loop that measures itself would end up at millions of series
				b.StopTimer()
				add(grows, added)
				b.StartTimer()
				snapshot()
			}
			if added > 0 {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*added), "ns/new")
			}
		})
	}
}
