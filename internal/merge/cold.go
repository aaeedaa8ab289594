package merge

import (
	"math"

	"github.com/promagg/promagg/internal/mmapfile"
)

// cold is what the frozen parts come to: where the accumulators begin. It is made
// anew when a frozen part has gone, and else only added to.
type cold struct {
	valid  bool
	acc    []float64 // by cell
	rest   []float64 // by cell, see plus; nil or as long as acc
	stamps []float64 // by cell, if any gauge is merged by time
	absent []uint32  // see pass
}

// spoil notes that it has to be made anew.
func (c *cold) spoil() { *c = cold{} }

// cell makes room for a cell that is new.
func (c *cold) cell(x *Index, cell uint32) {
	if !c.valid {
		return
	}
	for len(c.acc) < len(x.acc) {
		c.acc = append(c.acc, 0)
	}
	if c.rest != nil {
		for len(c.rest) < len(x.acc) {
			c.rest = append(c.rest, 0)
		}
		c.rest[cell] = 0
	}
	for len(c.stamps) < len(x.stamps) {
		c.stamps = append(c.stamps, 0)
	}
	c.acc[cell] = x.empty(cell)
	if len(c.stamps) > 0 {
		c.stamps[cell] = 0
	}
}

// empty returns what the cell has before anything is added to it.
func (x *Index) empty(cell uint32) float64 {
	if s := x.owner[cell]; s != nil {
		switch s.fam.mode.Base() {
		case mmapfile.Min, mmapfile.Max, mmapfile.MostRecent:
			return math.NaN()
		}
	}
	return 0
}

// add adds a frozen part.
func (c *cold) add(p *Part) {
	w := pass{acc: c.acc, rest: c.rest, stamps: c.stamps, absent: c.absent, joins: len(p.x.rules.DropLabels) > 0}
	for i, e := range p.plain {
		v := value{v: p.frozen[i]}
		if p.frozenStamps != nil {
			v.stamp = p.frozenStamps[i]
		}
		w.add(p, e.cell, v)
	}
	w.cumulative(p, nil, nil)
	c.absent, c.rest = w.absent, w.rest
}

// begin sets the accumulators to what the frozen parts come to.
func (x *Index) begin() {
	if len(x.frozen) == 0 {
		clear(x.acc)
		clear(x.rest)
		clear(x.stamps)
		nan := math.NaN()
		for _, cell := range x.catalog.unset {
			x.acc[cell] = nan
		}
		x.cold.spoil()
		return
	}
	x.refreeze()
	copy(x.acc, x.cold.acc)
	clear(x.rest)
	if x.cold.rest != nil {
		if x.rest == nil {
			x.rest = make([]float64, len(x.acc))
		}
		copy(x.rest, x.cold.rest)
	}
	copy(x.stamps, x.cold.stamps)
}

// beginWith is begin for some cells only; what the others hold is of no use then.
func (x *Index) beginWith(cells []uint32) {
	if len(x.frozen) > 0 {
		x.refreeze()
	}
	for _, cell := range cells {
		if x.acc[cell] = x.empty(cell); x.cold.valid {
			x.acc[cell] = x.cold.acc[cell]
		}
		if x.rest == nil && x.cold.rest != nil {
			x.rest = make([]float64, len(x.acc))
		}
		if x.rest != nil {
			if x.rest[cell] = 0; x.cold.rest != nil {
				x.rest[cell] = x.cold.rest[cell]
			}
		}
		if x.stamps == nil {
			continue
		}
		if x.stamps[cell] = 0; x.cold.valid {
			x.stamps[cell] = x.cold.stamps[cell]
		}
	}
}

// refreeze makes cold where it has to be made anew.
func (x *Index) refreeze() {
	if !x.cold.valid {
		x.cold = cold{valid: true, acc: make([]float64, len(x.acc)), stamps: make([]float64, len(x.stamps))}
		for cell := range x.acc {
			x.cold.acc[cell] = x.empty(uint32(cell))
		}
		for _, p := range x.frozen {
			x.cold.add(p)
		}
	}
}

// Freeze reads the part's values a last time and keeps them: its file, which
// nobody writes any more, need not be mapped from then on. It reports false where
// the file can't be read to its end; the part then remains as it was.
func (p *Part) Freeze() (ok bool) {
	p.sort()
	p.Trim()
	bytes := p.bytes
	if p.read != nil {
		var scratch []byte
		var err error
		if bytes, err = p.read(&scratch); err != nil {
			return false
		}
	}
	all := append([]*Part{p}, p.others...)
	values, stamps := make([][]float64, len(all)), make([][]float64, len(all))
	fault := mmapfile.Guard(func() {
		for n, one := range all {
			values[n], stamps[n] = one.loadAll(bytes)
		}
	})
	if fault != nil {
		return false
	}
	for n, one := range all {
		one.frozen, one.frozenStamps = values[n], stamps[n]
		one.bytes, one.read, one.low = nil, nil, nil
		if p.x.cold.valid {
			p.x.cold.add(one)
		}
	}
	p.x.untidy = true
	return true
}

// loadAll reads all that the part itself has.
func (p *Part) loadAll(bytes mmapfile.Bytes) (values, stamps []float64) {
	values = make([]float64, 0, len(p.plain)+len(p.cumulative))
	for i := range p.plain {
		v := p.load(bytes, i)
		values = append(values, v.v)
		if p.name.Mode.Base() == mmapfile.MostRecent {
			stamps = append(stamps, v.stamp)
		}
	}
	for i := range p.cumulative {
		values = append(values, p.loadCumulative(bytes, i).v)
	}
	return values, stamps
}
