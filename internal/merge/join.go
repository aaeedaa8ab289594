package merge

import (
	"cmp"
	"slices"
	"strings"
)

// Joiner makes one snapshot of those of several indexes, whose series must differ in a
// label that [Rules] give each. Families of one name become one; of those that conflict
// one is left out, see [NameConflict], but that gauges of different modes are served
// beside each other. It is not safe for concurrent use.
type Joiner struct {
	of     []*catalog // of which joined was made
	joined *catalog
	parts  []joinedPart
	// leftOut is how many families of each of them are left out.
	leftOut []int
}

// LeftOut returns how many families of each of the snapshots that were joined last are
// left out because one of another has a name of theirs.
func (j *Joiner) LeftOut() []int { return j.leftOut }

// joinedPart is where some of the values of a joined snapshot come from.
type joinedPart struct{ from, first, n int }

// Join joins snapshots. As long as no series comes or goes it only copies values.
func (j *Joiner) Join(all []*Snapshot) *Snapshot {
	same := len(j.of) == len(all)
	for i := 0; same && i < len(all); i++ {
		same = j.of[i] == all[i].catalog
	}
	if !same {
		j.make(all)
	}
	s := &Snapshot{catalog: j.joined}
	n := 0
	for _, p := range j.parts {
		n += p.n
	}
	s.values = make([]float64, 0, n)
	for _, p := range j.parts {
		s.values = append(s.values, all[p.from].values[p.first:][:p.n]...)
	}
	s.Conflicts = slices.Clone(j.joined.conflicts)
	for _, one := range all {
		s.Conflicts = append(s.Conflicts, one.Conflicts...)
		s.Invalid = append(s.Invalid, one.Invalid...)
	}
	slices.Sort(s.Invalid)
	s.Invalid = slices.Compact(s.Invalid)
	return s
}

// member is a family of one of the snapshots.
type member struct {
	*Family
	from int
}

// make makes the catalog.
func (j *Joiner) make(all []*Snapshot) {
	c := &catalog{}
	j.of, j.joined, j.parts, j.leftOut = nil, c, nil, make([]int, len(all))
	var members []member
	for i, s := range all {
		j.of = append(j.of, s.catalog)
		c.wholes = append(c.wholes, s.wholes...)
		if s.wholes == nil {
			c.wholes = append(c.wholes, s.catalog)
		}
		for k := range s.Families {
			members = append(members, member{&s.Families[k], i})
		}
	}
	slices.SortStableFunc(members, func(a, b member) int {
		return cmp.Or(precedence(a.Type)-precedence(b.Type), strings.Compare(a.Name, b.Name))
	})
	taken := make(map[string]bool)
	var served []member
	for len(members) > 0 {
		first := members[0]
		n := 1
		for n < len(members) && members[n].Name == first.Name && members[n].Type == first.Type {
			n++
		}
		names := namesOf(first.Name, first.Type)
		if slices.ContainsFunc(names, func(name string) bool { return taken[name] }) {
			c.conflicts = append(c.conflicts, Conflict{first.Name, NameConflict})
			for _, m := range members[:n] {
				j.leftOut[m.from]++
			}
		} else {
			for _, name := range names {
				taken[name] = true
			}
			served = append(served, members[:n]...)
		}
		members = members[n:]
	}
	slices.SortStableFunc(served, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	at := 0
	for _, m := range served {
		n := len(c.Families)
		if n == 0 || c.Families[n-1].Name != m.Name {
			f := *m.Family
			f.first, f.Series = at, slices.Clip(f.Series)
			c.Families = append(c.Families, f)
		} else {
			c.Families[n-1].join(m.Family)
		}
		width := 0
		for _, s := range m.Series {
			width += m.Width(s)
		}
		j.parts = append(j.parts, joinedPart{m.from, m.first, width})
		at += width
	}
}

// join adds the series of another family of the same name and type. Those of f itself
// remain as they are.
func (f *Family) join(o *Family) {
	if f.Help == "" || o.Help != "" && o.Help < f.Help {
		f.Help = o.Help
	}
	if f.Type != Histogram {
		f.Series = append(f.Series, o.Series...)
		return
	}
	bounds := slices.Clone(f.Bounds)
	moved := make([]int32, len(o.Bounds))
	for i, b := range o.Bounds {
		at := slices.IndexFunc(bounds, func(have Bound) bool { return have.Upper == b.Upper })
		if at < 0 {
			at = len(bounds)
			bounds = append(bounds, b)
		} else if bounds[at].Text != b.Text {
			bounds[at].Text = b.Canonical // as where writers of one directory differ
		}
		moved[i] = int32(at)
	}
	f.Bounds = bounds
	for _, s := range o.Series {
		c := &Series{Labels: s.Labels, Buckets: make([]Bucket, len(s.Buckets))}
		for i, b := range s.Buckets {
			c.Buckets[i].Bound = moved[b.Bound]
		}
		f.Series = append(f.Series, c)
	}
}
