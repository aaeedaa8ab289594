package top

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// BenchmarkLook looks at a directory of 100 workers with 1000 entries each, of which
// 10 are a family, for the second time and those after.
func BenchmarkLook(b *testing.B) {
	path := b.TempDir()
	for id := range 100 {
		im := mmapfile.NewImage(mmapfile.ValueTimestamp)
		for i := range 1000 {
			name := fmt.Sprintf("jobs_%d_total", i/10)
			im.Append(mmapfile.AppendKey(nil, mmapfile.Key{Family: name, Sample: name, Labels: []mmapfile.Label{{Name: "n", Value: fmt.Sprint(i)}}}), 1, 0)
		}
		if err := os.WriteFile(filepath.Join(path, fmt.Sprintf("counter_w%d.db", id)), im.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	d := NewDir(path, mmapfile.ProbeAuto, multiproc.DefaultLimits())
	defer d.Close()
	from, err := d.Look(b.Context())
	if err != nil || len(from.Workers) != 100 {
		b.Fatal(err, len(from.Workers))
	}
	s := NewState(0)
	b.ReportAllocs()
	for b.Loop() {
		to, err := d.Look(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s.Render(from, to, nil, 80, 24)
		from = to
	}
}
