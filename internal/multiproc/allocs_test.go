package multiproc_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// scrapeAllocs returns how many allocations a steady scrape makes, its look at the
// directory and its text included.
func scrapeAllocs(t *testing.T, writers, series int) float64 {
	t.Helper()
	dir := t.TempDir()
	for i := range writers {
		w, err := mmapfile.Create(filepath.Join(dir, fmt.Sprintf("counter_%d.db", i)), mmapfile.ValueTimestamp, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		for k := range series {
			if _, err := w.Append(fmt.Appendf(nil, `["c", "c_total", {"i": "%d"}, "What it is about."]`, k)); err != nil {
				t.Fatal(err)
			}
		}
	}
	clock := time.Now().Add(time.Hour) // so that the directory is not listed again
	d := multiproc.Open(multiproc.Options{Path: dir, Now: func() time.Time { return clock }})
	t.Cleanup(d.Close)
	var text []byte
	scrape := func() {
		s, err := d.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text = expose.Append(text[:0], expose.Text, s, nil)
	}
	scrape()
	return testing.AllocsPerRun(20, scrape)
}

// TestScrapeAllocations: a steady scrape of living writers allocates the same few
// objects, however many entries and series they have.
func TestScrapeAllocations(t *testing.T) {
	small, large := scrapeAllocs(t, 1, 1), scrapeAllocs(t, 40, 500)
	if small != large || large > 10 {
		t.Errorf("%v allocations for a small directory, %v for a large one, want the same, at most 10", small, large)
	}
}
