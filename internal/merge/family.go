package merge

import (
	"hash/maphash"
	"slices"
	"sort"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// familyKey tells families apart before conflicts between them are settled.
type familyKey struct {
	name string
	typ  mmapfile.Type
	mode mmapfile.Mode
}

// family collects the series of one name, type and mode.
type family struct {
	familyKey
	help     string // the first in byte order of those seen that are not empty
	helps    bool   // writers disagree on it
	joins    bool   // several entries of a part may feed one cell
	byLabels table[*Series]
	bounds   []Bound // of a histogram's buckets, in order of appearance; elements never change in place
	boundAt  map[float64]int32

	// sorted is by labels and may be part of a catalog: it is replaced, never
	// changed. What was added and how much was removed since stands beside it.
	sorted  []*Series
	added   []*Series
	removed int
}

// Bound is the upper bound of histogram buckets.
type Bound struct {
	Upper float64
	// Text is the bound as its writers spell it; where they differ ("1" and
	// "1.0"), as FormatBound does.
	Text string
	// Canonical is the bound as FormatBound writes it.
	Canonical string
}

// Series is one label set of a family. What is exported of it does not change
// once it is in a snapshot.
type Series struct {
	Labels  Labels
	Buckets []Bucket // of a histogram, by bound, the last one +Inf

	fam      *family
	use      uint32 // how many entries feed it, and the flags below; without any it is removed
	value    uint32 // cell of a counter or gauge, or of an explicit _count
	sum      uint32 // cell, of a summary or histogram
	infinity uint32 // cell of the +Inf bucket of a histogram
}

// The flags of a series. They share a word with its count of entries, for there
// may be a million series.
const (
	seen   = 1 << 31 // in a catalog, and so not to be changed
	shrunk = 1 << 30 // some of its buckets are no longer fed
	gone   = 1 << 29 // it has left the index, or another one has its place

	entriesMask = gone - 1
)

// Bucket is one bucket of a series.
type Bucket struct {
	Bound int32 // index into the family's Bounds
	cell  uint32
}

var labelSeed = maphash.MakeSeed()

func newFamily(k familyKey) *family {
	return &family{familyKey: k, byLabels: table[*Series]{hash: func(s *Series) uint64 { return maphash.String(labelSeed, string(s.Labels)) }}}
}

// series returns the series of a label set, nil if there is none.
func (f *family) series(labels Labels) *Series {
	return f.byLabels.find(maphash.String(labelSeed, string(labels)), func(s *Series) bool { return s.Labels == labels })
}

// prefers takes note of an entry's help text and reports whether it is the one to
// serve.
func (f *family) prefers(help string) bool {
	if help == "" || help == f.help {
		return false
	}
	f.helps = f.helps || f.help != ""
	return f.help == "" || help < f.help
}

// bound returns the index of a bound and notes its spelling.
func (f *family) bound(upper float64, text string) (index int32, changed bool) {
	i, ok := f.boundAt[upper]
	if !ok {
		if f.boundAt == nil {
			f.boundAt = make(map[float64]int32)
		}
		i = int32(len(f.bounds))
		f.boundAt[upper] = i
		f.bounds = append(f.bounds, Bound{upper, strings.Clone(text), mmapfile.FormatBound(upper)})
		return i, true
	}
	if b := f.bounds[i]; b.Text != text && b.Text != b.Canonical {
		f.bounds = slices.Clone(f.bounds)
		f.bounds[i].Text = b.Canonical
		return i, true
	}
	return i, false
}

// replace puts a copy of a series in its place.
func (f *family) replace(s *Series) *Series {
	c := *s
	c.use &^= seen
	c.Buckets = slices.Clone(s.Buckets)
	f.byLabels.replace(s, &c)
	s.use |= gone
	f.added = append(f.added, &c)
	f.removed++
	return &c
}

// has reports whether s has a bucket of that bound.
func (f *family) has(s *Series, upper float64) bool {
	bound, ok := f.boundAt[upper]
	if !ok {
		return false
	}
	i := f.bucketAt(s, bound)
	return i < len(s.Buckets) && s.Buckets[i].Bound == bound
}

// bucketAt returns where in s a bucket of that bound is or belongs.
func (f *family) bucketAt(s *Series, bound int32) int {
	upper := f.bounds[bound].Upper
	return sort.Search(len(s.Buckets), func(i int) bool { return f.bounds[s.Buckets[i].Bound].Upper >= upper })
}

// sort brings sorted up to date and returns it.
func (f *family) sort() []*Series {
	if len(f.added) == 0 && f.removed == 0 {
		return f.sorted
	}
	byLabels := func(a, b *Series) int { return compareLabels(a.Labels, b.Labels) }
	current := func(s *Series) bool { return s.use&gone == 0 }
	slices.SortFunc(f.added, byLabels)
	merged := make([]*Series, 0, f.byLabels.used)
	old := f.sorted
	for _, s := range f.added {
		for len(old) > 0 && byLabels(old[0], s) < 0 {
			if current(old[0]) {
				merged = append(merged, old[0])
			}
			old = old[1:]
		}
		if current(s) {
			merged = append(merged, s)
		}
	}
	for _, s := range old {
		if current(s) {
			merged = append(merged, s)
		}
	}
	f.sorted, f.added, f.removed = merged, nil, 0
	return merged
}
