package foldtest

import (
	"math/rand/v2"
	"testing"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// index merges value files that are in memory.
func index(t testing.TB, files map[mmapfile.Name][]byte) map[string]float64 {
	t.Helper()
	x := merge.New()
	for name, content := range files {
		p := x.Add(name)
		var w mmapfile.Walker
		if err := w.Walk(content, func(e mmapfile.Entry) error {
			dropped, reason, err := p.Add(e)
			if dropped {
				t.Errorf("%v: dropped for its %v: %s", name, reason, e.Key)
			}
			return err
		}); err != nil {
			t.Errorf("%v: %v", name, err)
		}
		p.Map(mmapfile.Bytes(content), w.Layout())
	}
	s, faulted := x.Snapshot()
	if len(faulted) > 0 {
		t.Errorf("%d files could not be read", len(faulted))
	}
	return flatten(s)
}

// TestArchiveIsItsFiles: an archive that was made in any number of folds, of files in
// any order, merges with the files of the living as all the files do.
func TestArchiveIsItsFiles(t *testing.T) {
	seed := testpeer.Seed(t)
	rounds := 300
	if long() {
		rounds = 30000
	}
	for round := range rounds {
		r := &random{Rand: rand.New(rand.NewPCG(seed, uint64(round)))}
		for _, kind := range kinds() {
			if !kind.Foldable() {
				continue
			}
			writers := r.many(r.IntN(8), false, kind)
			left := make([]*writer, len(writers))
			for i, j := range r.Perm(len(writers)) {
				left[i] = writers[j]
			}
			files := make(map[mmapfile.Name][]byte)
			var archive []byte
			for folds := r.IntN(4); folds > 0; folds-- {
				a := fold.New(kind)
				if archive != nil {
					if err := a.Add(archive); err != nil {
						t.Fatal(err)
					}
				}
				for n := r.IntN(len(left) + 1); n > 0; n-- {
					if err := a.Add(left[0].content()); err != nil {
						t.Fatal(err)
					}
					left = left[1:]
				}
				var err error
				if archive, err = a.Bytes(nil); err != nil {
					t.Fatal(err)
				}
				files[a.Name()] = archive
			}
			for _, w := range left {
				files[w.name] = w.content()
			}
			if diff := merged(writers, true).differ(index(t, files)); diff != "" {
				t.Fatalf("round %d, %v, %d of %d files folded (-model +merged):\n%s", round, kind, len(writers)-len(left), len(writers), diff)
			}
		}
	}
}
