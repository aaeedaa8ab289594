package expose

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/merge"
)

// Filter restricts an exposition to what has one of its names; none means
// everything. The name of a family stands for all of it, with or without the
// _total of a counter; the name of a sample for the lines of that name.
type Filter []string

// Bounds of a query. What asks for more names may as well ask for everything.
const (
	// MaxNames is how many different names a query may have.
	MaxNames = 256
	// MaxName is the most bytes of one.
	MaxName = 1024
)

// ParseQuery returns the filter of a URL's query: its values of name[], each
// once. A query that can't be read is an error, lest it be answered with
// everything.
func ParseQuery(raw string) (Filter, error) {
	if raw == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("bad query: %w", err)
	}
	filter := Filter(query["name[]"])
	for _, name := range filter {
		if len(name) > MaxName {
			return nil, fmt.Errorf("bad query: a name[] has %d bytes: use at most %d", len(name), MaxName)
		}
	}
	slices.Sort(filter)
	filter = slices.Compact(filter)
	if len(filter) > MaxNames {
		return nil, fmt.Errorf("bad query: it has %d different name[]: use at most %d, or several scrapes", len(filter), MaxNames)
	}
	return filter, nil
}

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
