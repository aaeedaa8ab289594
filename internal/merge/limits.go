package merge

import "strings"

// Limits bound what an index takes in, and with it its memory, whatever is in the
// files. 0 is no limit. What is there when a limit is reached stays and is served:
// first come, first served. Of what all parts share a part gets no more than it
// leaves to others, so that one that is out of hand does not keep the next ones from
// their few series. An archive, in which many parts have become one, is taken in whole: what
// it has was taken in before, and to lose it now would make counters fall.
type Limits struct {
	KeyLength int64 // bytes of an entry's key
	Labels    int64 // of a series, as its key has them
	Buckets   int64 // of a series of a histogram, +Inf not counted
	// Entries are those of all parts.
	Entries int64
	// Series are those of all families as Prometheus counts them: each line of an
	// exposition is one, so a histogram has one for each bucket, its sum and count.
	Series int64
	// SeriesBytes are those of all lines of an exposition but for values and bounds,
	// and of help texts.
	SeriesBytes int64
}

// Limit sets the limits. Call it before anything is added.
func (x *Index) Limit(l Limits) {
	x.limits = l
	x.entries.limit, x.lines.limit, x.text.limit = l.Entries, l.Series, l.SeriesBytes
}

// Taken returns how much of the limits on series and their bytes is used.
func (x *Index) Taken() (series, bytes int64) { return x.lines.taken, x.text.taken }

// quota is something of which there is only so much for all parts.
type quota struct{ limit, taken int64 }

// has reports whether there is that much for a part that has own of it.
func (q *quota) has(n, own int64) bool { return q.limit == 0 || q.taken+own+n <= q.limit }

// roomy reports whether a part that has own of it could get a good part of it.
func (q *quota) roomy(own int64) bool { return q.has(q.limit/8, own) }

// room returns an error if there are not so many lines and bytes for a part.
func (x *Index) room(p *Part, lines, bytes int64) error {
	switch {
	case p.archive:
	case lines > 0 && !x.lines.has(lines, p.lines):
		return x.refuse(p, PastSeries)
	case bytes > 0 && !x.text.has(bytes, p.text):
		return x.refuse(p, PastSeriesBytes)
	}
	return nil
}

// take takes lines and bytes for a part, if there are so many. freeCell gives them
// back; what the part has brought remains its own until it is removed.
func (x *Index) take(p *Part, lines, bytes int64) error {
	if err := x.room(p, lines, bytes); err != nil {
		return err
	}
	x.lines.taken += lines
	x.text.taken += bytes
	p.lines += lines
	p.text += bytes
	return nil
}

// admit is resolve for an entry that is within the limits.
func (x *Index) admit(p *Part, key []byte) (target, error) {
	more := int64(1)
	if p.heirOf != nil {
		if p.heirOf.x == nil {
			p.heirOf = nil // it has gone
		} else {
			more -= int64(p.heirOf.Entries())
		}
	}
	switch {
	case x.limits.KeyLength > 0 && int64(len(key)) > x.limits.KeyLength:
		return target{}, &droppedError{PastKeyLength}
	case !p.archive && !x.entries.has(more, int64(p.Entries())):
		return target{}, x.refuse(p, PastEntries)
	}
	return x.resolve(p, key)
}

// refuse notes that a part was refused something that others have.
func (x *Index) refuse(p *Part, r Reason) error {
	p.refused = true
	return &droppedError{r}
}

// Refused reports whether entries of the part were left out because there was no
// room for them.
func (p *Part) Refused() bool { return p.refused }

// Roomy reports whether there is a good deal of room by now for a part to which
// some was refused.
func (p *Part) Roomy() bool {
	x := p.x
	return x.entries.roomy(int64(p.Entries())) && x.lines.roomy(p.lines) && x.text.roomy(p.text)
}

// AddHeir adds a part for the file of another one, which the caller is going to
// remove in its favour: as long as both are there, their entries count once.
func (x *Index) AddHeir(of *Part) *Part {
	p := x.Add(of.name)
	p.heirOf = of
	return p
}

// lineBytes is what a line of a series counts for.
func lineBytes(fam *family, labels Labels) int64 { return int64(len(fam.name) + len(labels)) }

// help takes note of an entry's help text. One for which there is no room is not
// served; what was served before it still is.
func (x *Index) help(p *Part, fam *family, help string) {
	if !fam.prefers(help) {
		return
	}
	if x.take(p, 0, int64(len(help)-len(fam.help))) == nil {
		fam.help = strings.Clone(help) // it is part of a whole key
		x.catalog = nil
	}
}

// overgrown reports whether far more is known of keys than the series that there are
// can have: of series that are gone, or of many spellings of the same.
func (x *Index) overgrown() bool {
	return int64(len(x.keys.nodes)) > 1<<16+4*x.lines.taken || x.keys.text > 1<<20+2*x.text.taken
}

// overdue reports whether so much is left of what has gone that it is to be swept.
func (x *Index) overdue() bool {
	return x.orphans > 1024 && x.orphans > x.series || x.orphanText > 1<<20+x.text.taken
}

// compact forgets the bounds of a histogram that no bucket has any more, if they are
// most. Buckets refer to bounds by their number, so all series are replaced.
func (x *Index) compact(fam *family) {
	fed := make([]bool, len(fam.bounds))
	n := 0
	for s := range fam.byLabels.all {
		for _, b := range s.Buckets {
			if !fed[b.Bound] {
				fed[b.Bound] = true
				n++
			}
		}
	}
	if len(fam.bounds) <= 16+2*n {
		return
	}
	moved := make([]int32, len(fam.bounds))
	bounds := make([]Bound, 0, n)
	fam.boundAt = make(map[float64]int32, n)
	for i, b := range fam.bounds {
		if fed[i] {
			moved[i] = int32(len(bounds))
			fam.boundAt[b.Upper] = moved[i]
			bounds = append(bounds, b)
		}
	}
	fam.bounds = bounds
	for s := range fam.byLabels.all {
		s = x.replace(s)
		for i := range s.Buckets {
			s.Buckets[i].Bound = moved[s.Buckets[i].Bound]
		}
	}
}
