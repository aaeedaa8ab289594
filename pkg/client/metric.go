package client

import (
	"sync/atomic"

	"github.com/promagg/promagg/internal/mmapfile"
)

// cell is one value of a metric. Until its metric is registered it lives on the
// heap, from then on wherever the registry's store has put it.
type cell struct {
	at   atomic.Pointer[mmapfile.Value] // nil once additions are spread over all
	heap mmapfile.Value
	// all is every place whose values make up the cell's, nil for at alone. If at
	// is nil, they are at least as many as there are stripes.
	all    atomic.Pointer[[]*mmapfile.Value]
	misses atomic.Uint32 // additions that met another
}

func (c *cell) init() { c.at.Store(&c.heap) }

// move gives the cell a new place and takes its value along: added to what is
// there if it is a sum, else in its stead. An addition that is under way
// meanwhile may get lost; register metrics before you use them.
func (c *cell) move(to spot, sum bool) {
	c.misses.Store(0)
	if to.value.Deleted() {
		to.value.Set(0)
	}
	if len(to.rest) > 0 {
		all := append([]*mmapfile.Value{to.value}, to.rest...)
		c.all.Store(&all)
	}
	from := c.at.Load()
	if !sum {
		to.value.Set(from.Load())
		c.at.Store(to.value)
		return
	}
	c.at.Store(to.value)
	to.value.Add(from.Swap(0))
}

// leave moves the cell back to the heap, with its value, and returns the places
// that it had. A sum that stays where it was is left behind: it would count
// twice where the cell is registered again.
func (c *cell) leave(behind bool) []*mmapfile.Value {
	left := c.current()
	if behind {
		left = nil
	}
	total := 0.0
	for _, v := range left {
		if x := v.Load(); !v.Deleted() {
			total += x
		}
	}
	c.heap.Set(total)
	c.at.Store(&c.heap)
	c.all.Store(nil)
	return left
}

// current returns all places that the cell's value is made up of.
func (c *cell) current() []*mmapfile.Value {
	if all := c.all.Load(); all != nil {
		return *all
	}
	return []*mmapfile.Value{c.at.Load()}
}

// add adds x. Goroutines that get into each other's way here are spread over
// several entries of the file, which readers add up.
func (c *cell) add(x float64, s striper) {
	if v := c.at.Load(); v == nil || !v.TryAdd(x) {
		c.addSlow(x, s)
	}
}

func (c *cell) addSlow(x float64, s striper) {
	v := c.at.Load()
	for ; v == nil; v = c.at.Load() {
		// No places at all mean that it has just left them.
		if all := c.all.Load(); all != nil {
			// Goroutines that meet again and again are dealt out anew.
			hint := mmapfile.StripeHint(c.misses.Load()/patience, stripes)
			if v = (*all)[min(int(hint), len(*all)-1)]; !v.TryAdd(x) {
				c.misses.Add(1)
				v.Add(x)
			}
			return
		}
	}
	if c.misses.Add(1) == patience {
		defer s.stripe(c)
	}
	v.Add(x)
}

// stripes is how many places a sum has that many goroutines add to.
const stripes = 8

// spread makes additions go to all places of the cell.
func (c *cell) spread(all []*mmapfile.Value) {
	for _, v := range all {
		if v.Deleted() {
			v.Set(0)
		}
	}
	c.all.Store(&all)
	c.at.Store(nil)
}

// striper gives a cell more entries.
type striper interface{ stripe(*cell) }

// patience is how often an addition may fail because of another before the cell
// gets more entries. They are for good, so a rare coincidence is no reason.
const patience = 128

// Metric is one series, or the few of one histogram or summary.
type Metric interface {
	// Desc describes the family.
	Desc() *Desc
}

// placed is a metric whose values have a place in a file.
type placed interface {
	Metric
	// places returns the values, each with what tells it from the others.
	places() []place
	holds(*cell) bool // whether it is one of them; cheap, for there may be many metrics to ask
	home() bound      // the family
}

// place is one value of a metric.
type place struct {
	suffix string           // of the sample's name
	extra  []mmapfile.Label // labels beyond those of the family
	cell   *cell
	stamp  *cell // of a mostrecent gauge, else nil
}
