package merge

import (
	"math"
	"runtime"
	"sync"

	"github.com/promagg/promagg/internal/mmapfile"
)

// pass adds the values of parts to accumulators. It is one goroutine's.
type pass struct {
	acc     []float64 // by cell
	rest    []float64 // by cell, what acc lacks; nil while it lacks nothing
	stamps  []float64 // by cell, of gauges that are merged by time
	absent  []uint32  // cells, one for each entry that was found deleted or cut off
	scratch []byte    // for files that are not mapped
	faulted []Fault
	joins   bool // there may be families of which several entries of a part feed one cell
}

// whole returns the part of a whole file.
func (p *Part) whole() *Part {
	if p.of != nil {
		return p.of
	}
	return p
}

// Fault is a part that could not be read to its end, and why.
type Fault struct {
	Part *Part
	Err  error
}

// run adds parts, all their entries or, if wanted is given, those of cells that
// are wanted.
func (w *pass) run(parts []*Part, wanted *selection) {
	for next := 0; next < len(parts); {
		err := mmapfile.Guard(func() {
			for ; next < len(parts); next++ {
				w.part(parts[next], wanted)
			}
		})
		if err != nil {
			w.faulted = append(w.faulted, Fault{parts[next].whole(), err})
			next++
		}
	}
}

// part adds one part. It reads from a mapping and so may fault at any load; what
// it has added by then stays.
func (w *pass) part(p *Part, wanted *selection) {
	if wanted != nil && !wanted.kinds[kind{p.name.Type, p.name.Mode}] {
		return
	}
	bytes := p.bytes
	if p.read != nil {
		var err error
		if bytes, err = p.read(&w.scratch); err != nil {
			w.faulted = append(w.faulted, Fault{p.whole(), err})
		}
	}
	p.sort()
	switch {
	case wanted != nil && p.name.Type == mmapfile.Gauge:
		for _, r := range wanted.entries(p) {
			for i := r.from; i < r.to; i++ {
				w.entry(p, bytes, int(i))
			}
		}
	case wanted != nil:
		for _, r := range wanted.entries(p) {
			w.monotone(p, bytes, r)
		}
	case p.name.Type == mmapfile.Gauge:
		for i := range p.plain {
			w.entry(p, bytes, i)
		}
	default:
		w.monotone(p, bytes, entryRun{0, uint32(len(p.plain))})
	}
	w.cumulative(p, bytes, wanted)
}

// value is what was read of an entry.
type value struct {
	v, stamp float64 // v is that of a deleted series if there is none
}

func (v value) absent() bool { return math.Float64bits(v.v) == mmapfile.StaleBits }

// load reads the i-th plain entry.
func (p *Part) load(bytes mmapfile.Bytes, i int) value {
	e := p.plain[i]
	// The time first: writers store the value before it, so that a value which is set
	// meanwhile is no older than the time that it goes by.
	stamp := 0.0
	if p.stamp && p.name.Mode.Base() == mmapfile.MostRecent {
		stamp, _ = bytes.Float64(e.off + 8)
	}
	v, ok := bytes.Float64(e.off)
	if p.name.Type != mmapfile.Gauge {
		if !ok || !(float32(v) >= p.low[i]) {
			v, ok = doubtful(bytes, e.off, p.low[i])
		}
		if ok {
			p.low[i] = float32(v)
		}
	}
	if !ok {
		return value{v: absent}
	}
	return value{v, stamp}
}

// entry adds the i-th plain entry.
func (w *pass) entry(p *Part, bytes mmapfile.Bytes, i int) {
	w.add(p, p.plain[i].cell, p.load(bytes, i))
}

// add adds a value of a part to a cell.
func (w *pass) add(p *Part, cell uint32, e value) {
	if e.absent() {
		w.absent = append(w.absent, cell)
		return
	}
	v, cur := e.v, &w.acc[cell]
	if p.name.Type != mmapfile.Gauge {
		w.plus(cell, v)
		return
	}
	switch p.name.Mode.Base() {
	case mmapfile.All:
		if w.joins && p.x.owner[cell].fam.joins {
			w.plus(cell, v)
			return
		}
		*cur = v
	case mmapfile.Sum:
		w.plus(cell, v)
	case mmapfile.Min:
		if v < *cur || *cur != *cur {
			*cur = v
		}
	case mmapfile.Max:
		if v > *cur || *cur != *cur {
			*cur = v
		}
	case mmapfile.MostRecent:
		last := &w.stamps[cell]
		if e.stamp > *last || e.stamp == *last && e.stamp > 0 && (v > *cur || *cur != *cur) {
			*last, *cur = e.stamp, v
		}
	}
}

// monotone sums values that only grow: entry, for a run of entries and in little time.
func (w *pass) monotone(p *Part, bytes mmapfile.Bytes, r entryRun) {
	acc, plain := w.acc, p.plain[r.from:r.to]
	low := p.low[r.from:][:len(plain)]
	for i, e := range plain {
		v, ok := bytes.Float64(e.off)
		// Rounding keeps order, so a value that has not fallen never looks as if
		// it had. The comparison is also false for NaN.
		if !ok || !(float32(v) >= low[i]) {
			if v, ok = doubtful(bytes, e.off, low[i]); !ok {
				w.absent = append(w.absent, e.cell)
				continue
			}
		}
		low[i] = float32(v)
		// What nearly always loses nothing, which a greater number plus a smaller one can be
		// asked with a single subtraction.
		if cur := acc[e.cell]; cur >= math.Abs(v) {
			if sum := cur + v; sum-cur == v {
				acc[e.cell] = sum
				continue
			}
		}
		w.plus(e.cell, v)
	}
}

// cumulative adds buckets that are cumulative in the file, each with what it has
// more than the one below. While its writer is between two buckets of one
// observation, a lower one may be ahead of a higher one: the higher one is then
// taken to have caught up, as it is about to.
func (w *pass) cumulative(p *Part, bytes mmapfile.Bytes, wanted *selection) {
	series, below := uint32(noCell), 0.0
	for i := range p.cumulative {
		e := &p.cumulative[i]
		if wanted != nil && !wanted.cells[e.cell] {
			continue
		}
		if e.series != series {
			series, below = e.series, 0
		}
		v := p.loadCumulative(bytes, i)
		if v.absent() {
			w.absent = append(w.absent, e.cell)
		} else if v.v > below {
			w.plus(e.cell, v.v-below)
			below = v.v
		}
	}
}

// loadCumulative reads the i-th cumulative entry.
func (p *Part) loadCumulative(bytes mmapfile.Bytes, i int) value {
	if p.frozen != nil {
		return value{v: p.frozen[len(p.plain)+i]}
	}
	e := &p.cumulative[i]
	v, ok := bytes.Float64(e.off)
	if !ok || !(float32(v) >= e.low) {
		if v, ok = doubtful(bytes, e.off, e.low); !ok {
			return value{v: absent}
		}
	}
	e.low = float32(v)
	return value{v: v}
}

// doubtful decides on a value that is lower than it was or not a number. Some
// writers store a value in more than one piece, so a lower one is read again a
// few times before it is believed. It reports false for an entry that was
// deleted or that the file no longer reaches.
func doubtful(bytes mmapfile.Bytes, off uint32, low float32) (v float64, ok bool) {
	for range 4 {
		if v, ok = bytes.Float64(off); !ok || !(float32(v) < low) {
			break
		}
		runtime.Gosched()
	}
	if !ok || math.Float64bits(v) == mmapfile.StaleBits {
		return 0, false
	}
	return v, true
}

// share is how many entries are worth another goroutine. Tests lower it.
var share = 1 << 15

// passAll adds all parts that are not frozen to x.acc, on several cores where
// that pays: each makes its own sums, which are then added up. Gauges, most of
// which are merged otherwise, are the first core's.
func (x *Index) passAll() (faulted []Fault) {
	entries := 0
	for _, p := range x.sums {
		entries += p.Entries()
	}
	gauges := 0
	for _, p := range x.gauges {
		gauges += p.Entries()
	}
	n := max(1, min(runtime.GOMAXPROCS(0), (entries+gauges)/share))
	for len(x.passes) < n {
		x.passes = append(x.passes, pass{})
	}
	first, others := x.firstPass(), x.passes[1:n]
	var adding sync.WaitGroup
	parts := x.sums
	for i := range others {
		w := &others[i]
		if len(w.acc) != len(x.acc) {
			w.acc, w.rest = make([]float64, len(x.acc)), nil
		}
		clear(w.acc)
		clear(w.rest)
		w.absent = w.absent[:0]
		from := len(parts)
		for rest := (entries + gauges) / n; from > 0 && rest > 0; {
			from--
			rest -= parts[from].Entries()
		}
		some := parts[from:]
		parts = parts[:from]
		adding.Go(func() { w.run(some, nil) })
	}
	first.run(x.gauges, nil)
	first.run(parts, nil)
	adding.Wait()
	for _, w := range others {
		for cell, v := range w.acc {
			if v != 0 {
				first.plus(uint32(cell), v)
			}
		}
		for cell, v := range w.rest {
			if v != 0 {
				first.keep(uint32(cell), v)
			}
		}
		first.absent = append(first.absent, w.absent...)
	}
	x.rest = first.rest
	return x.takeFaulted()
}

// firstPass returns the pass that adds to x.acc itself, as the frozen parts have
// left it.
func (x *Index) firstPass() *pass {
	if len(x.passes) == 0 {
		x.passes = make([]pass, 1)
	}
	w := &x.passes[0]
	w.acc, w.rest, w.stamps = x.acc, x.rest, x.stamps
	w.joins = len(x.rules.DropLabels) > 0
	w.absent = append(w.absent[:0], x.cold.absent...)
	return w
}

// takeFaulted returns the parts that the passes could not read to their end.
func (x *Index) takeFaulted() (faulted []Fault) {
	for i := range x.passes {
		w := &x.passes[i]
		faulted = append(faulted, w.faulted...)
		clear(w.faulted)
		w.faulted = w.faulted[:0]
	}
	return faulted
}
