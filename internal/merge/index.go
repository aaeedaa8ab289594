package merge

import (
	"math"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// noCell stands for a cell that a series does not have.
const noCell = math.MaxUint32

// Index holds the entries of all parts, resolved to cells. It is not safe for
// concurrent use; the snapshots it returns are.
//
// How the entries of one series become one value:
//
//	counter, summary          sum over all parts
//	histogram                 sum per bucket, then cumulated over the sorted bounds;
//	                          the count is the last cumulative value
//	gauge, sum                sum
//	gauge, min or max         least or greatest; NaN only where there is nothing else
//	gauge, mostrecent         the value with the greatest timestamp, of equal ones the
//	                          greatest value; none where no timestamp is above 0
//	gauge, all                one series per part, with its writer as label "pid"
//
// The live modes are merged as those without "live": whose parts count is up to
// the caller, who removes the part of a dead writer.
type Index struct {
	families map[familyKey]*family
	keys     keys
	parts    []*Part // by name; those that are removed remain until it is tidy
	added    []*Part // not among parts yet
	pending  []*Part // do not count yet
	untidy   bool
	// The same, once tidy: those that are read, and those that are frozen.
	sums, gauges, frozen []*Part
	dropped              [reasonCount]uint64

	rules   Rules
	sources map[string]uint32 // see source
	// lastSource is how many there have been, sourcesDue at how many some are forgotten.
	lastSource uint32
	sourcesDue int

	limits      Limits
	entries     quota // entries of all parts
	lines, text quota // what the cells that are not free come to, and help texts
	orphanText  int64 // bytes of series that have gone since the last sweep

	// One element per cell. owner is nil for cells that are free.
	acc     []float64
	rest    []float64 // what acc lacks, see plus; nil while that is nothing
	stamps  []float64 // timestamps of mostrecent cells; empty without such a family
	refs    []uint32  // entries that feed the cell
	owner   []*Series
	free    []uint32
	cold    cold
	passes  []pass // of the last snapshot, one for each core that took part
	series  int
	orphans int       // about as many targets have lost their series since the last sweep
	shrunk  []*Series // have buckets that nobody feeds
	catalog *catalog  // nil when the series are no longer those it holds
	refed   bool      // refs have changed since bounds was made
	bounds  []Conflict
}

// New returns an empty index.
func New() *Index {
	return &Index{families: make(map[familyKey]*family), keys: newKeys()}
}

// Anew returns an empty index with the same limits and other rules, which goes on
// counting what is dropped.
func (x *Index) Anew(r Rules) *Index {
	fresh := New()
	fresh.Limit(x.limits)
	fresh.Rule(r)
	fresh.dropped = x.dropped
	return fresh
}

// Dropped returns how many entries were dropped for a reason so far.
func (x *Index) Dropped(r Reason) uint64 { return x.dropped[r] }

// Series returns how many series the index holds.
func (x *Index) Series() int { return x.series }

// Add adds a part for a file of this name, without entries.
func (x *Index) Add(name mmapfile.Name) *Part {
	p := x.part(name)
	x.added = append(x.added, p)
	x.untidy = true
	return p
}

// AddPending is Add for a part whose values do not count before [Part.Start]. What
// other parts have already is so indexed, a few entries at a time, before it takes
// their place at once.
func (x *Index) AddPending(name mmapfile.Name) *Part {
	p := x.part(name)
	p.pending = true
	x.pending = append(x.pending, p)
	return p
}

// Start makes a pending part count.
func (p *Part) Start() {
	x := p.x
	x.started(p)
	x.entries.taken += int64(p.Entries())
	x.added = append(x.added, p)
	x.untidy = true
}

// started notes that a part is not pending any more.
func (x *Index) started(p *Part) {
	p.pending = false
	x.pending = slices.DeleteFunc(x.pending, func(o *Part) bool { return o == p })
}

func (x *Index) part(name mmapfile.Name) *Part {
	p := &Part{x: x, name: name, file: name.String(), keys: x.keys.of(kind{name.Type, name.Mode}), archive: name.IsArchive()}
	p.like = p.keys.like
	return p
}

// tidy puts the parts in order. It is done once for many that come and go.
func (x *Index) tidy() {
	if !x.untidy {
		return
	}
	x.untidy = false
	byName := func(a, b *Part) int { return strings.Compare(a.file, b.file) }
	slices.SortFunc(x.added, byName)
	parts := make([]*Part, 0, len(x.parts)+len(x.added))
	added := x.added
	for _, p := range x.parts {
		for len(added) > 0 && byName(added[0], p) < 0 {
			parts, added = append(parts, added[0]), added[1:]
		}
		parts = append(parts, p)
	}
	x.parts = slices.DeleteFunc(append(parts, added...), func(p *Part) bool { return p.x == nil })
	x.added = nil
	x.sums, x.gauges, x.frozen = x.sums[:0], x.gauges[:0], x.frozen[:0]
	for _, p := range x.parts {
		switch {
		case p.frozen != nil:
			x.frozen = append(append(x.frozen, p), p.others...)
		case p.name.Type == mmapfile.Gauge:
			x.gauges = append(append(x.gauges, p), p.others...)
		default:
			x.sums = append(x.sums, p)
		}
	}
}

// Remove takes a part and all its entries out of the index.
func (x *Index) Remove(p *Part) {
	if p.x != x {
		panic("merge: bug: Remove of a part that is not in the index: " + p.file)
	}
	if p.pending {
		x.started(p)
	} else {
		x.entries.taken -= int64(p.Entries())
	}
	x.withdraw(p)
	for _, other := range p.others {
		x.withdraw(other)
	}
	x.shrink()
	if x.overdue() {
		x.sweep()
	}
}

// withdraw takes out what a part itself feeds. Call shrink when all are out.
func (x *Index) withdraw(p *Part) {
	p.x = nil
	x.untidy = true
	if n := len(p.plain); n > 1<<20 && len(p.keys.like) > 0 && &p.keys.like[0] == &p.plain[0] {
		p.keys.like = nil // too much to be kept for the next one that may be like it
	}
	if p.frozen != nil {
		x.cold.spoil()
	}
	for _, e := range p.plain {
		x.release(e.cell)
	}
	for _, e := range p.cumulative {
		x.release(e.cell)
	}
}

// sweep forgets the keys and families that no series is left of, so that what
// churns does not pile up.
func (x *Index) sweep() {
	families := make(map[familyKey]*family)
	for k, fam := range x.families {
		if fam.byLabels.used == 0 {
			x.text.taken -= int64(len(fam.help))
			continue
		}
		x.compact(fam)
		fam.added = slices.DeleteFunc(fam.added, func(s *Series) bool { return s.use&gone != 0 })
		fam.byLabels.shrink()
		families[k] = fam
	}
	x.families = families
	x.trim()
	x.tidy()
	x.forget(false)
	x.orphans, x.orphanText = 0, 0
}

// trim gives back the free cells at the end, if they are many.
func (x *Index) trim() {
	n := len(x.owner)
	for n > 0 && x.owner[n-1] == nil {
		n--
	}
	if n > len(x.owner)/2 {
		return
	}
	x.acc, x.refs, x.owner = slices.Clone(x.acc[:n]), slices.Clone(x.refs[:n]), slices.Clone(x.owner[:n])
	if x.stamps != nil {
		x.stamps = slices.Clone(x.stamps[:n])
	}
	if x.rest != nil {
		x.rest = slices.Clone(x.rest[:n])
	}
	x.cold.spoil()
	x.passes = nil
	x.free = slices.Clone(slices.DeleteFunc(x.free, func(cell uint32) bool { return int(cell) >= n }))
}

// seriesOf returns the series of a label set, made with the cells that every
// series of its type has, if there is room for it.
func (x *Index) seriesOf(p *Part, fam *family, labels Labels) (*Series, error) {
	if s := fam.series(labels); s != nil {
		return s, nil
	}
	lines := int64(1)
	switch fam.typ {
	case mmapfile.Summary:
		lines = 2
	case mmapfile.Histogram:
		lines = 3
	}
	if err := x.take(p, lines, lines*lineBytes(fam, labels)); err != nil {
		return nil, err
	}
	s := &Series{Labels: labels, fam: fam, sum: noCell, infinity: noCell}
	s.value = x.newCell(s)
	switch fam.typ {
	case mmapfile.Summary:
		s.sum = x.newCell(s)
	case mmapfile.Histogram:
		s.sum = x.newCell(s)
		bound, _ := fam.bound(math.Inf(1), mmapfile.FormatBound(math.Inf(1)))
		s.infinity = x.newCell(s)
		s.Buckets = []Bucket{{bound, s.infinity}}
	}
	fam.byLabels.add(s)
	fam.added = append(fam.added, s)
	x.series++
	x.catalog = nil
	return s, nil
}

// bucket returns the cell of a bucket of s, made if there is room for it, and s
// with it.
func (x *Index) bucket(p *Part, fam *family, s *Series, upper float64, le string) (*Series, uint32, error) {
	if !fam.has(s, upper) {
		if x.limits.Buckets > 0 && int64(len(s.Buckets)) > x.limits.Buckets { // one of them is +Inf
			return s, noCell, &droppedError{PastBuckets}
		}
		if err := x.take(p, 1, lineBytes(fam, s.Labels)); err != nil {
			return s, noCell, err
		}
	}
	bound, changed := fam.bound(upper, le)
	if changed {
		x.catalog = nil
	}
	i := fam.bucketAt(s, bound)
	if i < len(s.Buckets) && s.Buckets[i].Bound == bound {
		return s, s.Buckets[i].cell, nil
	}
	if s.use&seen != 0 {
		s = x.replace(s)
	}
	cell := x.newCell(s)
	s.Buckets = slices.Insert(s.Buckets, i, Bucket{bound, cell})
	return s, cell, nil
}

// replace puts a copy of s in its place, which may be changed. Targets that
// still refer to s are found by its owning no cell any more.
func (x *Index) replace(s *Series) *Series {
	x.catalog = nil
	c := s.fam.replace(s)
	x.own(c)
	return c
}

// own makes s the owner of all its cells.
func (x *Index) own(s *Series) {
	for _, cell := range []uint32{s.value, s.sum, s.infinity} {
		if cell != noCell {
			x.owner[cell] = s
		}
	}
	for _, b := range s.Buckets {
		x.owner[b.cell] = s
	}
}

func (x *Index) newCell(s *Series) uint32 {
	var cell uint32
	if n := len(x.free); n > 0 {
		cell, x.free = x.free[n-1], x.free[:n-1]
	} else {
		cell = uint32(len(x.acc))
		x.acc = append(x.acc, 0)
		x.refs = append(x.refs, 0)
		x.owner = append(x.owner, nil)
		if x.rest != nil {
			x.rest = append(x.rest, 0)
		}
		if x.stamps != nil {
			x.stamps = append(x.stamps, 0)
		}
	}
	x.owner[cell] = s
	if s.fam.mode.Base() == mmapfile.MostRecent && x.stamps == nil {
		x.stamps = make([]float64, len(x.acc))
	}
	x.cold.cell(x, cell)
	return cell
}

// retain counts an entry that feeds a cell.
func (x *Index) retain(cell uint32) {
	x.refs[cell]++
	x.refed = true
	x.owner[cell].use++
}

// release undoes retain. A series that nobody feeds any more leaves the index; a
// bucket that nobody feeds leaves its series at the next shrink.
func (x *Index) release(cell uint32) {
	x.refs[cell]--
	x.refed = true
	s := x.owner[cell]
	s.use--
	if s.use&entriesMask == 0 {
		x.drop(s)
		return
	}
	if x.refs[cell] == 0 && cell != s.infinity && cell != s.value && cell != s.sum && s.use&shrunk == 0 {
		s.use |= shrunk
		x.shrunk = append(x.shrunk, s)
	}
}

// shrink takes the buckets that nobody feeds any more out of their series, all
// of one series at once.
func (x *Index) shrink() {
	for _, old := range x.shrunk {
		if x.owner[old.value] != old {
			continue // gone as a whole
		}
		s := x.replace(old) // always: the cells may be given to other buckets of it
		s.use &^= shrunk
		s.Buckets = slices.DeleteFunc(s.Buckets, func(b Bucket) bool {
			if x.refs[b.cell] > 0 || b.cell == s.infinity {
				return false
			}
			x.freeCell(b.cell)
			x.orphans++
			return true
		})
	}
	clear(x.shrunk)
	x.shrunk = x.shrunk[:0]
}

func (x *Index) drop(s *Series) {
	s.fam.byLabels.remove(s)
	s.use |= gone
	s.fam.removed++
	for _, cell := range []uint32{s.value, s.sum} {
		if cell != noCell {
			x.freeCell(cell)
		}
	}
	for _, b := range s.Buckets {
		x.freeCell(b.cell)
	}
	x.series--
	x.orphans += 1 + len(s.Buckets)
	x.orphanText += lineBytes(s.fam, s.Labels)
	if s.fam.byLabels.used == 0 {
		x.orphanText += int64(len(s.fam.help))
	}
	x.catalog = nil
}

func (x *Index) freeCell(cell uint32) {
	s := x.owner[cell]
	x.lines.taken--
	x.text.taken -= lineBytes(s.fam, s.Labels)
	x.owner[cell] = nil
	x.free = append(x.free, cell)
}
