package merge

import (
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// successor is a part that is made ready to take the place of a file's.
type successor struct {
	of, f *modelFile
}

// copyOf brings the successor's entries up to those of the file.
func (s *successor) copyOf(t *testing.T, x *Index, some int) {
	for i, e := range s.of.entries {
		if i < len(s.f.entries) {
			s.f.set(s.f.entries[i], e.value, e.stamp)
			continue
		}
		if some--; some < 0 {
			break
		}
		c := *e
		s.f.append(&c)
		s.f.set(&c, e.value, e.stamp)
	}
	s.f.counted = true
	s.f.index(t, x)
}

// TestPendingModel: what is made ready beside all that goes on changes nothing before it
// takes the place of another part, nor then.
func TestPendingModel(t *testing.T) {
	seed := testpeer.Seed(t)
	started := 0
	for round := range 12 {
		x := New()
		w := &world{rnd: rand.New(rand.NewPCG(seed, uint64(round))), rules: new(modelRules)}
		if round%2 == 1 {
			w.rules = newModelRules(w.rnd)
			x.Rule(w.rules.rules(t))
		}
		var s *successor
		for range 150 {
			for range w.rnd.IntN(12) {
				w.step(t, x)
			}
			for _, f := range w.files {
				f.index(t, x)
			}
			if s != nil && !slices.Contains(w.files, s.of) || s != nil && (s.of.part == nil || w.rnd.IntN(10) == 0) {
				x.Remove(s.f.part) // it is given up
				s = nil
			}
			if s == nil && len(w.files) > 0 {
				f := pick(w.rnd, w.files...)
				if f.part != nil && f.name.Mode.Base() != mmapfile.All && !f.name.IsArchive() {
					name := f.name.Archive()
					name.Mode = f.name.Mode
					if !slices.ContainsFunc(w.files, func(o *modelFile) bool { return o.name == name }) {
						s = &successor{f, &modelFile{name: name, ruby: f.ruby, layout: f.layout, copied: f.copied}}
						s.f.part = x.AddPending(name)
					}
				}
			}
			if s != nil {
				s.copyOf(t, x, 1+w.rnd.IntN(5))
			}
			if s != nil && w.rnd.IntN(4) == 0 {
				s.copyOf(t, x, len(s.of.entries))
				s.f.part.Start()
				if s.f.ended = s.of.ended; s.f.ended {
					s.f.part.Ended(true)
				}
				s.of.remove(x)
				w.files = slices.DeleteFunc(w.files, func(o *modelFile) bool { return o == s.of })
				w.files = append(w.files, s.f)
				s = nil
				started++
			}
			got, faulted := x.Snapshot()
			if len(faulted) > 0 {
				t.Fatal("faults in plain memory")
			}
			if diff := gocmp.Diff(naive(w.files, w.rules), flatten(t, got), equalFloats); diff != "" {
				t.Fatalf("round %d (-model +index):\n%s", round, diff)
			}
			checkSelect(t, w, x, got)
			if s == nil {
				checkCells(t, x)
			}
		}
	}
	if started == 0 {
		t.Error("none has been started")
	}
}
