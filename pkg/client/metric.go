package client

import (
	"sync/atomic"

	"github.com/promagg/promagg/internal/mmapfile"
)

// cell is one value of a metric. Until its metric is registered it lives on the
// heap, from then on wherever the registry's store has put it.
type cell struct {
	at      atomic.Pointer[mmapfile.Value] // nil once there are stripes
	heap    mmapfile.Value
	stripes atomic.Pointer[[stripes]*mmapfile.Value] // the places of a sum that many goroutines add to
	misses  atomic.Uint32                            // additions that met another
}

func (c *cell) init() { c.at.Store(&c.heap) }

// move gives the cell a new place and takes its value along: added to what is
// there if it is a sum, else in its stead. An addition that is under way
// meanwhile may get lost; register metrics before you use them.
func (c *cell) move(to *mmapfile.Value, sum bool) {
	if to.Deleted() {
		to.Set(0)
	}
	from := c.at.Load()
	if from == to {
		return
	}
	if !sum {
		to.Set(from.Load())
		c.at.Store(to)
		return
	}
	c.at.Store(to)
	to.Add(from.Swap(0))
}

// leave moves the cell back to the heap, with its value.
func (c *cell) leave() {
	total := 0.0
	for _, v := range c.current() {
		total += v.Load()
	}
	c.heap.Set(total)
	c.at.Store(&c.heap)
	c.misses.Store(0)
}

// current returns all places that the cell's value is made up of.
func (c *cell) current() []*mmapfile.Value {
	if v := c.at.Load(); v != nil {
		return []*mmapfile.Value{v}
	}
	return c.stripes.Load()[:]
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
	if v == nil {
		v = c.stripes.Load()[mmapfile.StripeHint()%stripes]
	} else if c.misses.Add(1) == patience {
		defer s.stripe(c)
	}
	v.Add(x)
}

// stripes is how many places a sum has that many goroutines add to.
const stripes = 8

// spread gives the cell more places beside the one it has.
func (c *cell) spread(more [stripes - 1]*mmapfile.Value) {
	all := &[stripes]*mmapfile.Value{c.at.Load()}
	copy(all[1:], more[:])
	c.stripes.Store(all)
	c.at.Store(nil)
}

// striper gives a cell more entries.
type striper interface{ stripe(*cell) }

// patience is how often an addition may fail because of another before the cell
// gets more entries. They are for good, so a rare coincidence is no reason.
const patience = 100

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
}

// place is one value of a metric.
type place struct {
	suffix string           // of the sample's name
	extra  []mmapfile.Label // labels beyond those of the family
	cell   *cell
	stamp  *cell // of a mostrecent gauge, else nil
}
