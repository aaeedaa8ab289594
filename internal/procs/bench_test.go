package procs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// BenchmarkLook is a look at one worker that is known already: what each costs every
// time.
func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	file, err := mmapfile.Create(filepath.Join(dir, fmt.Sprintf("counter_%d.db", os.Getpid())), mmapfile.ValueTimestamp, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	d := multiproc.Open(multiproc.Options{Path: dir})
	defer d.Close()
	d.Sync(true)
	w := procs.New(d)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(w.Look().Workers); n != 1 {
			b.Fatalf("%d workers are seen, want 1", n)
		}
	}
}
