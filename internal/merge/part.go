package merge

import (
	"cmp"
	"math"
	"runtime"
	"slices"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Part is one file's share of an index: where its values are and which cells
// they feed.
type Part struct {
	x     *Index // nil once removed
	name  mmapfile.Name
	file  string
	bytes mmapfile.Bytes
	stamp bool // a timestamp follows each value

	plain      []entry
	low        []float32 // see monotone; of the types that only grow, one per plain entry
	cumulative []cumulativeEntry
	unsorted   bool // cumulative has new entries
}

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

// droppedError is returned for an entry that is sound but can't be served.
type droppedError struct{ reason Reason }

func (e *droppedError) Error() string { return "unlawful " + e.reason.String() }

// Add adds an entry of the part's file. An error means that the key is no key
// at all; it wraps [mmapfile.ErrKey]. An entry that can't be served is counted
// and reported by dropped, and is no error.
func (p *Part) Add(e mmapfile.Entry) (dropped bool, reason Reason, err error) {
	t, err := p.x.resolve(p, e.Key)
	if d, ok := err.(*droppedError); ok {
		p.x.dropped[d.reason]++
		return true, d.reason, nil
	}
	if err != nil {
		return false, 0, err
	}
	p.x.retain(t.cell)
	if !math.IsNaN(t.bound) {
		series := p.x.owner[t.cell].infinity
		p.cumulative = append(p.cumulative, cumulativeEntry{entry{e.Value, t.cell}, series, lowest, t.bound})
		p.unsorted = true
		return false, 0, nil
	}
	p.plain = append(p.plain, entry{e.Value, t.cell})
	if p.name.Type != mmapfile.Gauge {
		p.low = append(p.low, lowest)
	}
	return false, 0, nil
}

// Entries returns how many entries the part has.
func (p *Part) Entries() int { return len(p.plain) + len(p.cumulative) }

// Map tells the part where its file's content is from now on. bytes must stay
// good until the next call; entries that it does not reach count as absent.
func (p *Part) Map(bytes mmapfile.Bytes, l mmapfile.Layout) {
	p.bytes, p.stamp = bytes, l == mmapfile.ValueTimestamp
}

var lowest = float32(math.Inf(-1))

// pass adds the part's values to the accumulators. It reads from a mapping and
// so may fault at any load; what it has added by then stays.
func (p *Part) pass() {
	if p.name.Type != mmapfile.Gauge {
		p.passMonotone()
		p.passCumulative()
		return
	}
	acc := p.x.acc
	mode := p.name.Mode.Base()
	for _, e := range p.plain {
		v, ok := p.bytes.Float64(e.off)
		if !ok || math.Float64bits(v) == mmapfile.StaleBits {
			p.x.absent = append(p.x.absent, e.cell)
			continue
		}
		switch cur := acc[e.cell]; mode {
		case mmapfile.All:
			acc[e.cell] = v
		case mmapfile.Sum:
			acc[e.cell] = cur + v
		case mmapfile.Min:
			if v < cur || cur != cur {
				acc[e.cell] = v
			}
		case mmapfile.Max:
			if v > cur || cur != cur {
				acc[e.cell] = v
			}
		case mmapfile.MostRecent:
			p.mostRecent(e, v)
		}
	}
}

func (p *Part) mostRecent(e entry, v float64) {
	var ts float64
	if p.stamp {
		ts, _ = p.bytes.Float64(e.off + 8)
	}
	last, cur := p.x.stamps[e.cell], p.x.acc[e.cell]
	if ts > last || ts == last && ts > 0 && (v > cur || cur != cur) {
		p.x.stamps[e.cell], p.x.acc[e.cell] = ts, v
	}
}

// passMonotone sums values that only grow.
func (p *Part) passMonotone() {
	acc, low := p.x.acc, p.low[:len(p.plain)]
	for i, e := range p.plain {
		v, ok := p.bytes.Float64(e.off)
		// Rounding keeps order, so a value that has not fallen never looks as if
		// it had. The comparison is also false for NaN.
		if !ok || !(float32(v) >= low[i]) {
			if v, ok = p.doubtful(e, low[i]); !ok {
				continue
			}
		}
		low[i] = float32(v)
		acc[e.cell] += v
	}
}

// passCumulative adds buckets that are cumulative in the file, each with what
// it has more than the one below. While its writer is between two buckets of
// one observation, a lower one may be ahead of a higher one: the higher one is
// then taken to have caught up, as it is about to.
func (p *Part) passCumulative() {
	if p.unsorted {
		slices.SortStableFunc(p.cumulative, func(a, b cumulativeEntry) int {
			return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.bound, b.bound))
		})
		p.unsorted = false
	}
	acc := p.x.acc
	series, below := uint32(noCell), 0.0
	for i := range p.cumulative {
		e := &p.cumulative[i]
		if e.series != series {
			series, below = e.series, 0
		}
		v, ok := p.bytes.Float64(e.off)
		if !ok || !(float32(v) >= e.low) {
			if v, ok = p.doubtful(e.entry, e.low); !ok {
				continue
			}
		}
		e.low = float32(v)
		if v > below {
			acc[e.cell] += v - below
			below = v
		}
	}
}

// doubtful decides on a value that is lower than it was or not a number. Some
// writers store a value in more than one piece, so a lower one is read again a
// few times before it is believed. It reports false for an entry that was
// deleted or that the file no longer reaches.
func (p *Part) doubtful(e entry, low float32) (v float64, ok bool) {
	for range 4 {
		if v, ok = p.bytes.Float64(e.off); !ok || !(float32(v) < low) {
			break
		}
		runtime.Gosched()
	}
	if !ok || math.Float64bits(v) == mmapfile.StaleBits {
		p.x.absent = append(p.x.absent, e.cell)
		return 0, false
	}
	return v, true
}
