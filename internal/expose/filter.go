package expose

import (
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/merge"
)

// Filter restricts an exposition to what has one of its names; none means
// everything. The name of a family stands for all of it, with or without the
// _total of a counter; the name of a sample for the lines of that name.
type Filter []string

func (f Filter) all() bool { return len(f) == 0 }

// pick is a family to be served, whole or only its samples of some names.
type pick struct {
	family  *merge.Family
	samples []string // nil for all
}

// picks looks the names up in a snapshot. It costs a few look-ups a name,
// however many families there are. The order is the snapshot's.
func (f Filter) picks(find func(string) *merge.Family) []pick {
	var picks []pick
	whole := func(fam *merge.Family) {
		if fam != nil {
			picks = append(picks, pick{family: fam})
		}
	}
	for _, name := range f {
		whole(find(name))
		if fam := find(name + "_total"); fam != nil && fam.Type == merge.Counter {
			whole(fam)
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			base, ok := strings.CutSuffix(name, suffix)
			if !ok {
				continue
			}
			fam := find(base)
			if fam == nil || fam.Type != merge.Histogram && fam.Type != merge.Summary {
				continue
			}
			picks = append(picks, pick{fam, []string{name}})
		}
	}
	slices.SortStableFunc(picks, func(a, b pick) int { return strings.Compare(a.family.Name, b.family.Name) })
	// Several names of one family make one pick, which is whole if any of them is.
	joined := picks[:0]
	for _, p := range picks {
		if n := len(joined); n == 0 || joined[n-1].family != p.family {
			joined = append(joined, p)
		} else if last := &joined[n-1]; p.samples == nil {
			last.samples = nil
		} else if last.samples != nil {
			last.samples = append(last.samples, p.samples...)
		}
	}
	return joined
}

// choose chooses the families that the filter needs anything of.
func (f Filter) choose(find func(string) *merge.Family) (chosen []*merge.Family) {
	for _, p := range f.picks(find) {
		chosen = append(chosen, p.family)
	}
	return chosen
}

// wanted reports whether a sample name is among those asked for.
func wanted(name string, only []string) bool {
	return only == nil || slices.Contains(only, name)
}
