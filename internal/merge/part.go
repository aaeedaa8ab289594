package merge

import (
	"cmp"
	"math"
	"slices"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Part is one file's share of an index: where its values are and which cells
// they feed.
type Part struct {
	x    *Index // nil once removed
	name mmapfile.Name
	file string
	keys *keysOf
	last uint32 // the key of the last entry

	// bytes is the file's content, unless read has to be asked for it.
	bytes mmapfile.Bytes
	read  Reader
	stamp bool // a timestamp follows each value

	// plain may be shared with other parts of the same keys in the same order:
	// its elements never change, and only one part has room behind them.
	plain      []entry
	like       []entry   // plain is its beginning so far; nil once it is not
	low        []float32 // see monotone; of the types that only grow, one per plain entry
	cumulative []cumulativeEntry
	unsorted   bool // cumulative has new entries

	// frozen are the values of a file that is not read any more, of plain and then
	// cumulative; nil while it is read.
	frozen       []float64
	frozenStamps []float64 // of mostrecent gauges

	lines, text int64 // what it has taken of the Index's
	refused     bool  // it has not got all of it
	archive     bool  // it may take all of it
	heirOf      *Part // see AddHeir

	// others have the entries that rules have merged in another mode than the file's,
	// and of is the part that they are of. See [Part.Ended] for the rest.
	others      []*Part
	of          *Part
	ended, lost bool

	pending bool // see AddPending
}

// Reader reads the content of a file that is not mapped, up to where its entries
// end, or what there is of it with an error. It may use the scratch space, and make it larger. It may be called from
// several goroutines, and what it returns is good until the scratch space is used
// again.
type Reader func(scratch *[]byte) (mmapfile.Bytes, error)

// entry is where a value is and what it feeds.
type entry struct {
	off  uint32 // of the value in the file
	cell uint32
}

// cumulativeEntry is a bucket of a histogram that its writer has already
// cumulated: it counts every observation up to its bound. The entries of one
// series stand together, by bound.
type cumulativeEntry struct {
	entry
	series uint32 // any number that is the series' own
	low    float32
	bound  float64
}

// lowest is what a value has not fallen below before it is read.
var lowest = float32(math.Inf(-1))

// droppedError is returned for an entry that is sound but can't be served.
type droppedError struct{ reason Reason }

func (e *droppedError) Error() string { return "dropped: " + e.reason.String() }

// Add adds an entry of the part's file. An error means that the key is no key
// at all; it wraps [mmapfile.ErrKey]. An entry that can't be served is counted
// and reported by dropped, and is no error.
func (p *Part) Add(e mmapfile.Entry) (dropped bool, reason Reason, err error) {
	pending := p.pending
	t, err := p.x.admit(p, e.Key)
	if d, ok := err.(*droppedError); ok {
		p.x.dropped[d.reason]++
		return true, d.reason, nil
	}
	if err != nil {
		return false, 0, err
	}
	if t.drop {
		return false, 0, nil
	}
	x := p.x
	if p.name.Type == mmapfile.Gauge && len(x.rules.Modes) > 0 {
		s := x.owner[t.cell]
		if p = p.counted(s.fam); p == nil {
			if s.use&entriesMask == 0 {
				x.drop(s) // it was made for this entry
			}
			return false, 0, nil
		}
	}
	if !pending {
		x.entries.taken++
	}
	x.retain(t.cell)
	if !math.IsNaN(t.bound) {
		series := x.owner[t.cell].infinity
		if t.source != 0 {
			series = t.source
		}
		p.cumulative = append(p.cumulative, cumulativeEntry{entry{e.Value, t.cell}, series, lowest, t.bound})
		p.unsorted = true
		return false, 0, nil
	}
	p.append(entry{e.Value, t.cell})
	if p.name.Type != mmapfile.Gauge {
		p.low = append(p.low, lowest)
	}
	return false, 0, nil
}

// append adds a plain entry. Where files have the same keys in the same order,
// their entries are the same, and need to be there once only.
func (p *Part) append(e entry) {
	n := len(p.plain)
	if p.like != nil {
		if n < len(p.like) && p.like[n] == e {
			p.plain = p.like[: n+1 : n+1]
			return
		}
		p.like = nil
	}
	if n == 0 {
		p.plain = make([]entry, 0, 16)
	}
	p.plain = append(p.plain, e)
	if n == 0 || n >= len(p.keys.like) {
		p.keys.like = slices.Clip(p.plain)
	}
}

// Trim gives back the room that was kept for further entries.
func (p *Part) Trim() {
	for _, other := range p.others {
		other.Trim()
	}
	if p.frozen == nil && cap(p.plain) > len(p.plain) {
		if n := len(p.plain); len(p.keys.like) == n && n > 0 && &p.keys.like[0] == &p.plain[0] {
			p.plain = slices.Clone(p.plain)
			p.keys.like = slices.Clip(p.plain)
		} else {
			p.plain = slices.Clone(p.plain)
		}
	}
	if cap(p.low) > len(p.low) {
		p.low = slices.Clone(p.low)
	}
}

// In reports whether the part is one of the index.
func (p *Part) In(x *Index) bool { return p.x == x }

// Entries returns how many entries the part has.
func (p *Part) Entries() int {
	n := len(p.plain) + len(p.cumulative)
	for _, other := range p.others {
		n += other.Entries()
	}
	return n
}

// Offsets yields where the values of its entries are in the file, in any order.
func (p *Part) Offsets(yield func(uint32) bool) {
	p.each(func(e entry) bool { return yield(e.off) })
}

// cells yields which cells its entries feed, in any order.
func (p *Part) cells(yield func(uint32) bool) {
	p.each(func(e entry) bool { return yield(e.cell) })
}

// each yields all entries, until that returns false.
func (p *Part) each(yield func(entry) bool) bool {
	for _, e := range p.plain {
		if !yield(e) {
			return false
		}
	}
	for i := range p.cumulative {
		if !yield(p.cumulative[i].entry) {
			return false
		}
	}
	for _, other := range p.others {
		if !other.each(yield) {
			return false
		}
	}
	return true
}

// Map tells the part where its file's content is from now on. bytes must stay
// good until the next call; entries that it does not reach count as absent.
func (p *Part) Map(bytes mmapfile.Bytes, l mmapfile.Layout) {
	p.bytes, p.read, p.stamp = bytes, nil, l == mmapfile.ValueTimestamp
	p.mapOthers()
}

// MapBy is Map for a file that is read anew for each snapshot.
func (p *Part) MapBy(read Reader, l mmapfile.Layout) {
	p.bytes, p.read, p.stamp = nil, read, l == mmapfile.ValueTimestamp
	p.mapOthers()
}

func (p *Part) mapOthers() {
	for _, other := range p.others {
		other.bytes, other.read, other.stamp = p.bytes, p.read, p.stamp
	}
}

// Frozen reports whether the part is frozen.
func (p *Part) Frozen() bool { return p.frozen != nil }

// sort puts the entries of each cumulated histogram in order.
func (p *Part) sort() {
	if !p.unsorted {
		return
	}
	slices.SortStableFunc(p.cumulative, func(a, b cumulativeEntry) int {
		return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.bound, b.bound))
	})
	p.unsorted = false
}
