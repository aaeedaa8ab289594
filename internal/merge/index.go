package merge

import (
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

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
	// targets holds what each key seen in a file of one type and mode stands
	// for, so that the same key in a thousand files is parsed once.
	targets map[kind]map[string]target
	parts   []*Part // by name
	dropped [reasonCount]uint64

	// One element per cell. owner is nil for cells that are free.
	acc     []float64
	stamps  []float64 // timestamps of mostrecent cells; empty without such a family
	refs    []uint32  // entries that feed the cell
	owner   []*Series
	free    []uint32
	absent  []uint32 // one per entry that this pass found deleted or cut off
	series  int
	orphans int       // about as many targets have lost their series since the last sweep
	shrunk  []*Series // have buckets that nobody feeds
	catalog *catalog  // nil when the series are no longer those it holds
	refed   bool      // refs have changed since bounds was made
	bounds  []Conflict
}

// kind is what a file name says of how its entries merge.
type kind struct {
	typ  mmapfile.Type
	mode mmapfile.Mode
}

// target is where the entries of one key go. Of gauges with a series per part
// it has the labels, of all others the cell.
type target struct {
	series *Series
	cell   uint32
	ruby   bool
	bound  float64 // of a bucket or explicit count in Ruby's cumulative form, else NaN
	each   *eachPart
}

// eachPart is what all parts' series of one "all" gauge have in common.
type eachPart struct {
	fam    *family
	labels []mmapfile.Label // without pid
}

// New returns an empty index.
func New() *Index {
	return &Index{families: make(map[familyKey]*family), targets: make(map[kind]map[string]target)}
}

// Dropped returns how many entries were dropped for a reason so far.
func (x *Index) Dropped(r Reason) uint64 { return x.dropped[r] }

// Series returns how many series the index holds.
func (x *Index) Series() int { return x.series }

// Add adds a part for a file of this name, without entries.
func (x *Index) Add(name mmapfile.Name) *Part {
	p := &Part{x: x, name: name, file: name.String()}
	i, _ := slices.BinarySearchFunc(x.parts, p, compareParts)
	x.parts = slices.Insert(x.parts, i, p)
	return p
}

func compareParts(a, b *Part) int { return strings.Compare(a.file, b.file) }

// Remove takes a part and all its entries out of the index.
func (x *Index) Remove(p *Part) {
	i, ok := slices.BinarySearchFunc(x.parts, p, compareParts)
	if !ok || x.parts[i] != p {
		panic("merge: bug: Remove of a part that is not in the index: " + p.file)
	}
	x.parts = slices.Delete(x.parts, i, i+1)
	for _, e := range p.plain {
		x.release(e.cell)
	}
	for _, e := range p.cumulative {
		x.release(e.cell)
	}
	x.shrink()
	if x.orphans > 1024 && x.orphans > x.series {
		x.sweep()
	}
	p.x = nil
}

// sweep forgets the keys and families that no series is left of, so that what
// churns does not pile up.
func (x *Index) sweep() {
	x.trim()
	// A map never shrinks, so what is left moves to new ones.
	for kind, keys := range x.targets {
		kept := make(map[string]target)
		for key, t := range keys {
			if t.each == nil && int(t.cell) < len(x.owner) && x.owner[t.cell] == t.series {
				kept[key] = t
			}
		}
		x.targets[kind] = kept
	}
	families := make(map[familyKey]*family)
	for k, fam := range x.families {
		if len(fam.byLabels) > 0 {
			fam.byLabels = maps.Collect(maps.All(fam.byLabels))
			families[k] = fam
		}
	}
	x.families = families
	x.orphans = 0
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
	x.absent = nil
	x.free = slices.Clone(slices.DeleteFunc(x.free, func(cell uint32) bool { return int(cell) >= n }))
}

// resolve finds the cell of a key in a part, and makes it where it is new.
func (x *Index) resolve(p *Part, key []byte) (target, error) {
	k := kind{p.name.Type, p.name.Mode}
	t, ok := x.targets[k][string(key)]
	if ok && t.each == nil && x.owner[t.cell] != t.series {
		ok = false // its series is gone, or has been replaced
	}
	if !ok {
		// The key is copied first: reading it may fault, and whoever can write it
		// may change it while it is read.
		text := string(key)
		parsed, err := mmapfile.ParseKey([]byte(text))
		if err != nil {
			return t, err
		}
		id, bad, lawful := identify(&parsed, p.name.Type)
		if !lawful {
			return t, &droppedError{bad}
		}
		t = x.newTarget(k, &parsed, id)
		if x.targets[k] == nil {
			x.targets[k] = make(map[string]target)
		}
		x.targets[k][text] = t
	}
	if t.each != nil {
		writer := p.name.Writer(t.ruby)
		if !utf8.ValidString(writer) {
			return t, &droppedError{BadLabel}
		}
		t.series = x.seriesOf(t.each.fam, withPID(t.each.labels, writer))
		t.cell = t.series.value
	}
	return t, nil
}

func (x *Index) newTarget(k kind, key *mmapfile.Key, id identity) target {
	fam := x.familyOf(familyKey{id.family, k.typ, k.mode})
	if fam.addHelp(strings.ToValidUTF8(key.Help, "\uFFFD")) {
		x.catalog = nil
	}
	t := target{ruby: key.Ruby, bound: math.NaN()}
	if k.typ == mmapfile.Gauge {
		// As in the Python client, a gauge's own label of that name gives way.
		id.labels = slices.DeleteFunc(id.labels, func(l mmapfile.Label) bool { return l.Name == "pid" })
		if k.mode.Base() == mmapfile.All {
			t.each = &eachPart{fam, id.labels}
			return t
		}
	}
	t.series = x.seriesOf(fam, labelsOf(id.labels))
	switch id.role {
	case roleValue:
		t.cell = t.series.value
	case roleSum:
		t.cell = t.series.sum
	case roleCount:
		t.cell = t.series.value
		if key.Ruby && k.typ == mmapfile.Histogram {
			// Ruby's explicit count is its +Inf bucket once more.
			t.cell, t.bound = t.series.infinity, math.Inf(1)
		}
	case roleBucket:
		t.series, t.cell = x.bucket(fam, t.series, id.bound, id.le)
		if key.Ruby {
			t.bound = id.bound
		}
	}
	return t
}

// withPID returns the labels of one writer's series of an "all" gauge.
func withPID(labels []mmapfile.Label, writer string) Labels {
	i, _ := slices.BinarySearchFunc(labels, "pid", func(l mmapfile.Label, name string) int { return strings.Compare(l.Name, name) })
	return labelsOf(slices.Insert(slices.Clone(labels), i, mmapfile.Label{Name: "pid", Value: writer}))
}

func (x *Index) familyOf(k familyKey) *family {
	fam := x.families[k]
	if fam == nil {
		fam = &family{familyKey: k, byLabels: make(map[Labels]*Series)}
		x.families[k] = fam
	}
	return fam
}

// seriesOf returns the series of a label set, made with the cells that every
// series of its type has.
func (x *Index) seriesOf(fam *family, labels Labels) *Series {
	if s := fam.byLabels[labels]; s != nil {
		return s
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
	fam.byLabels[labels] = s
	fam.added = append(fam.added, s)
	x.series++
	x.catalog = nil
	return s
}

// bucket returns the cell of a bucket of s, and s with it.
func (x *Index) bucket(fam *family, s *Series, upper float64, le string) (*Series, uint32) {
	bound, changed := fam.bound(upper, le)
	if changed {
		x.catalog = nil
	}
	i := fam.bucketAt(s, bound)
	if i < len(s.Buckets) && s.Buckets[i].Bound == bound {
		return s, s.Buckets[i].cell
	}
	if s.seen {
		s = x.replace(s)
	}
	cell := x.newCell(s)
	s.Buckets = slices.Insert(s.Buckets, i, Bucket{bound, cell})
	return s, cell
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
		if x.stamps != nil {
			x.stamps = append(x.stamps, 0)
		}
	}
	x.owner[cell] = s
	if s.fam.mode.Base() == mmapfile.MostRecent && x.stamps == nil {
		x.stamps = make([]float64, len(x.acc))
	}
	return cell
}

// retain counts an entry that feeds a cell.
func (x *Index) retain(cell uint32) {
	x.refs[cell]++
	x.refed = true
	x.owner[cell].entries++
}

// release undoes retain. A series that nobody feeds any more leaves the index; a
// bucket that nobody feeds leaves its series at the next shrink.
func (x *Index) release(cell uint32) {
	x.refs[cell]--
	x.refed = true
	s := x.owner[cell]
	s.entries--
	if s.entries == 0 {
		x.drop(s)
		return
	}
	if x.refs[cell] == 0 && cell != s.infinity && cell != s.value && cell != s.sum && !s.shrunk {
		s.shrunk = true
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
		s.shrunk = false
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
	delete(s.fam.byLabels, s.Labels)
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
	x.catalog = nil
}

func (x *Index) freeCell(cell uint32) {
	x.owner[cell] = nil
	x.free = append(x.free, cell)
}
