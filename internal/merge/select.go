package merge

import "slices"

// Choose chooses families, which find returns by name, nil for none.
type Choose func(find func(name string) *Family) []*Family

// Select is Snapshot for some families only. It costs what reading their entries
// costs, and little for others.
func (x *Index) Select(choose Choose) (s *Snapshot, faulted []Fault) {
	x.prepare()
	chosen := make(map[*Family]bool)
	for _, f := range choose(x.catalog.find) {
		chosen[f] = true
	}
	c := &catalog{wholes: []*catalog{x.catalog}}
	wanted := &selection{kinds: make(map[kind]bool), picked: make(map[*entry]picked)}
	for i := range x.catalog.Families {
		f := &x.catalog.Families[i]
		if !chosen[f] {
			continue
		}
		to := len(x.catalog.cells)
		if i+1 < len(x.catalog.Families) {
			to = x.catalog.Families[i+1].first
		}
		part := *f
		part.first = len(c.cells)
		c.cells = append(c.cells, x.catalog.cells[f.first:to]...)
		c.Families = append(c.Families, part)
		wanted.kinds[kind{f.Type, f.Mode}] = true
	}
	if len(c.cells) == 0 {
		return &Snapshot{catalog: c}, nil
	}
	wanted.cells = make([]bool, len(x.acc))
	wanted.first, wanted.last = slices.Min(c.cells), slices.Max(c.cells)
	for _, cell := range c.cells {
		wanted.cells[cell] = true
	}
	x.beginWith(c.cells)
	w := x.firstPass()
	w.run(x.gauges, wanted)
	w.run(x.sums, wanted)
	x.rest = w.rest
	x.markAbsent()
	return x.values(c), x.takeFaulted()
}

// selection is what entries are wanted.
type selection struct {
	kinds map[kind]bool
	cells []bool
	// No wanted cell is outside of these. Those of a family are mostly close to each
	// other, so that most entries need no look at cells.
	first, last uint32
	// picked has the wanted ones among entries that parts may share, by the first
	// of them.
	picked map[*entry]picked
}

// picked are some among the first n entries, in runs.
type picked struct {
	n    int
	runs []entryRun
}

// entryRun are plain entries from one to before another.
type entryRun struct{ from, to uint32 }

// entries returns the part's plain entries that are wanted.
func (s *selection) entries(p *Part) []entryRun {
	if len(p.plain) == 0 {
		return nil
	}
	known := s.picked[&p.plain[0]]
	if known.n != len(p.plain) {
		known = picked{n: len(p.plain)}
		for i, e := range p.plain {
			if e.cell-s.first > s.last-s.first || !s.cells[e.cell] {
				continue
			}
			at := uint32(i)
			if last := len(known.runs) - 1; last >= 0 && known.runs[last].to == at {
				known.runs[last].to++
			} else {
				known.runs = append(known.runs, entryRun{at, at + 1})
			}
		}
		s.picked[&p.plain[0]] = known
	}
	return known.runs
}
