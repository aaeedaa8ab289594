package merge

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Snapshot holds all series with their merged values at one instant. It is
// immutable and safe for concurrent use.
type Snapshot struct {
	*catalog
	// Conflicts are what writers disagree on.
	Conflicts []Conflict
	// Invalid are the histograms of which series were left out because a bucket or
	// count of theirs was less than nothing, by name. No parser takes that.
	Invalid []string

	values []float64
}

// Type is the type of a family; it is that of the files it comes from.
type Type = mmapfile.Type

// The types of families.
const (
	Counter   = mmapfile.Counter
	Gauge     = mmapfile.Gauge
	Histogram = mmapfile.Histogram
	Summary   = mmapfile.Summary
)

// Family is one family of a snapshot.
type Family struct {
	// Name stands under # TYPE in the text format. A counter's family has the
	// name of its samples, with _total where they have it.
	Name   string
	Help   string // empty where no writer gave one
	Type   Type
	Mode   mmapfile.Mode
	Series []*Series // by label values, each label set once; what was joined, index by index
	Bounds []Bound   // what the series' buckets refer to

	first int // of its values
}

// catalog is what snapshots share as long as no series comes or goes.
type catalog struct {
	// Families are sorted by name, each name once.
	Families []Family

	conflicts []Conflict // but for the bounds'
	cells     []uint32   // for each value of a snapshot the cell it comes from
	unset     []uint32   // cells that start as NaN
	wholes    []*catalog // of a selection or what was joined: what it comes from
}

// Conflict is a disagreement between writers on a family. The family, or what is
// left of it, is served as the constant says.
type Conflict struct {
	Family string
	Kind   ConflictKind
}

// ConflictKind is what writers disagree on.
type ConflictKind uint8

// The kinds of conflict.
const (
	// NameConflict: two families of different type or mode have a sample name in
	// common. The histogram is served before the summary, the counter and the
	// gauge; of two gauges the one whose mode is first in [mmapfile.Modes]. The
	// other is left out.
	NameConflict ConflictKind = iota
	// HelpConflict: the first help text in byte order is served.
	HelpConflict
	// BoundsConflict: the union of the bounds is served, each writer's
	// observations counted at its own.
	BoundsConflict
	conflictCount
)

var conflictNames = [...]string{NameConflict: "name", HelpConflict: "help", BoundsConflict: "bounds"}

// String returns the kind as a label value.
func (k ConflictKind) String() string { return conflictNames[k] }

// ConflictKinds returns all kinds of conflict.
func ConflictKinds() []ConflictKind {
	kinds := make([]ConflictKind, conflictCount)
	for i := range kinds {
		kinds[i] = ConflictKind(i)
	}
	return kinds
}

// Absent reports whether a value stands for no sample: nobody has set it, or
// everyone who did has deleted it.
func Absent(v float64) bool { return math.Float64bits(v) == mmapfile.StaleBits }

var absent = math.Float64frombits(mmapfile.StaleBits)

// Width returns how many values a series has in [Snapshot.Values].
func (f *Family) Width(s *Series) int {
	switch f.Type {
	case mmapfile.Summary:
		return 2
	case mmapfile.Histogram:
		return 2 + len(s.Buckets)
	}
	return 1
}

// Values returns the values of all series of a family of this snapshot, in
// their order: of a counter or gauge its value; of a summary its count and sum;
// of a histogram its count, its sum and its buckets, cumulated. A value that is
// [Absent] is not served, and of a histogram whose count is absent nothing is.
func (s *Snapshot) Values(f *Family) []float64 { return s.values[f.first:] }

// Has reports whether there is a family of that name, selected or not.
func (s *Snapshot) Has(name string) bool {
	if s.wholes == nil {
		return s.find(name) != nil
	}
	return slices.ContainsFunc(s.wholes, func(c *catalog) bool { return c.find(name) != nil })
}

// Find returns the family of that name, nil if there is none.
func (s *Snapshot) Find(name string) *Family { return s.find(name) }

func (c *catalog) find(name string) *Family {
	i, ok := slices.BinarySearchFunc(c.Families, name, func(f Family, name string) int { return strings.Compare(f.Name, name) })
	if !ok {
		return nil
	}
	return &c.Families[i]
}

// Snapshot reads all values and merges them. Parts that could not be read to
// their end are returned with it; of them counts what could still be read.
func (x *Index) Snapshot() (s *Snapshot, faulted []Fault) {
	x.prepare()
	x.begin()
	faulted = x.passAll()
	x.markAbsent()
	s = x.values(x.catalog)
	s.Conflicts = x.conflicts()
	return s, faulted
}

// prepare brings everything up to date that a snapshot needs.
func (x *Index) prepare() {
	x.tidy()
	if x.catalog == nil {
		x.catalog = x.newCatalog()
	}
}

// values makes a snapshot of the accumulators.
func (x *Index) values(c *catalog) *Snapshot {
	s := &Snapshot{catalog: c, values: make([]float64, len(c.cells))}
	for i, cell := range c.cells {
		s.values[i] = x.total(cell)
		if x.refs[cell] == 0 {
			s.values[i] = absent
		}
	}
	for i := range s.Families {
		if f := &s.Families[i]; f.Type == Histogram && !f.cumulate(s.Values(f)) {
			s.Invalid = append(s.Invalid, f.Name)
		}
	}
	return s
}

// markAbsent marks the cells all of whose entries are absent, and those of
// mostrecent gauges that nobody has set.
func (x *Index) markAbsent() {
	entries := x.passes[0].absent
	slices.Sort(entries)
	held := x.held()
	for i := 0; i < len(entries); {
		from, cell := i, entries[i]
		for i < len(entries) && entries[i] == cell {
			i++
		}
		n := uint32(i - from)
		if held != nil {
			n += held[cell]
		}
		if n >= x.refs[cell] {
			x.acc[cell] = absent
		}
	}
	for cell, n := range held {
		if n > 0 && n >= x.refs[cell] {
			x.acc[cell] = absent
		}
	}
	if x.stamps == nil {
		return
	}
	for _, cell := range x.catalog.unset {
		if x.owner[cell].fam.mode.Base() == mmapfile.MostRecent && x.stamps[cell] == 0 {
			x.acc[cell] = absent
		}
	}
}

// held returns for each cell how many entries of pending parts feed it, nil if there
// are no such parts.
func (x *Index) held() []uint32 {
	if len(x.pending) == 0 {
		return nil
	}
	held := make([]uint32, len(x.refs))
	for _, p := range x.pending {
		for off := range p.cells {
			held[off]++
		}
	}
	return held
}

// cumulate turns the values of each series of a histogram into those it is
// served with. It reports false if one is invalid, and so not served.
func (f *Family) cumulate(values []float64) (valid bool) {
	valid = true
	for _, s := range f.Series {
		w := f.Width(s)
		if !cumulate(values[:w]) {
			values[0] = absent
			valid = false
		}
		values = values[w:]
	}
	return valid
}

// cumulate adds each bucket to the ones above it. The count is what the last
// one comes to; where no writer has buckets, what writers count by themselves.
// It is absent where nothing of the series is left. It reports false where a
// count is negative.
func cumulate(v []float64) (valid bool) {
	count, sum, buckets := &v[0], v[1], v[2:]
	total, negative, fed := 0.0, false, false
	for i, b := range buckets {
		if !Absent(b) {
			total += b
			negative = negative || total < 0
			fed = true
		} else if i < len(buckets)-1 {
			continue
		}
		buckets[i] = total
	}
	switch {
	case fed:
		*count = total
	case !Absent(*count):
		buckets[len(buckets)-1] = *count
		negative = *count < 0
	case !Absent(sum):
		*count = 0
	}
	return !negative
}

// newCatalog sorts out what there is to serve.
func (x *Index) newCatalog() *catalog {
	c := &catalog{}
	for _, fam := range x.served(c) {
		f := Family{Name: fam.name, Help: fam.help, Type: fam.typ, Mode: fam.mode, Series: fam.sort(), Bounds: fam.bounds, first: len(c.cells)}
		for _, s := range f.Series {
			s.use |= seen
			c.cells = append(c.cells, s.value)
			if s.sum != noCell {
				c.cells = append(c.cells, s.sum)
			}
			for _, b := range s.Buckets {
				c.cells = append(c.cells, b.cell)
			}
		}
		c.Families = append(c.Families, f)
	}
	for _, fam := range x.families {
		switch fam.mode.Base() {
		case mmapfile.Min, mmapfile.Max, mmapfile.MostRecent:
			for s := range fam.byLabels.all {
				c.unset = append(c.unset, s.value)
			}
		}
	}
	return c
}

// served returns the families that are served, by name, and notes conflicts.
func (x *Index) served(c *catalog) []*family {
	var all []*family
	for _, fam := range x.families {
		if fam.byLabels.used > 0 {
			all = append(all, fam)
		}
	}
	slices.SortFunc(all, func(a, b *family) int {
		return cmp.Or(precedence(a.typ)-precedence(b.typ), cmp.Compare(a.mode, b.mode), strings.Compare(a.name, b.name))
	})
	names := make(map[string]bool, len(all))
	served := all[:0]
	for _, fam := range all {
		if slices.ContainsFunc(fam.names(), func(name string) bool { return names[name] }) {
			c.conflicts = append(c.conflicts, Conflict{fam.name, NameConflict})
			continue
		}
		for _, name := range fam.names() {
			names[name] = true
		}
		if fam.helps {
			c.conflicts = append(c.conflicts, Conflict{fam.name, HelpConflict})
		}
		served = append(served, fam)
	}
	slices.SortFunc(served, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	return served
}

// conflicts returns what writers disagree on.
func (x *Index) conflicts() []Conflict {
	if x.refed && len(x.pending) == 0 { // of which some buckets may be there already
		x.refed = false
		x.bounds = nil
		for i := range x.catalog.Families {
			if f := &x.catalog.Families[i]; f.Type == mmapfile.Histogram && slices.ContainsFunc(f.Series, x.unevenBounds) {
				x.bounds = append(x.bounds, Conflict{f.Name, BoundsConflict})
			}
		}
	}
	return slices.Concat(x.catalog.conflicts, x.bounds)
}

// unevenBounds reports whether some writer of a series lacks a bound that
// another has: then not all buckets below +Inf are fed alike.
func (x *Index) unevenBounds(s *Series) bool {
	finite := s.Buckets[:len(s.Buckets)-1]
	return slices.ContainsFunc(finite, func(b Bucket) bool { return x.refs[b.cell] != x.refs[finite[0].cell] })
}

// precedence orders types for conflicts: the lower is served.
func precedence(t mmapfile.Type) int {
	return slices.Index([]mmapfile.Type{mmapfile.Histogram, mmapfile.Summary, mmapfile.Counter, mmapfile.Gauge}, t)
}

// names returns the names that a family takes in an exposition.
func (f *family) names() []string {
	return namesOf(f.name, f.typ)
}

func namesOf(name string, typ mmapfile.Type) []string {
	switch typ {
	case mmapfile.Histogram:
		return []string{name, name + infixBucket, name + infixCount, name + infixSum}
	case mmapfile.Summary:
		return []string{name, name + infixCount, name + infixSum}
	}
	return []string{name}
}
