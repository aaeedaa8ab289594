package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// suspected are families that writers disagree on.
type suspected struct{ names map[string]bool }

func suspects(s *merge.Snapshot) *suspected {
	names := make(map[string]bool)
	for _, c := range s.Conflicts {
		names[c.Family] = true
	}
	return &suspected{names}
}

// claim is what a file says of a family that writers disagree on.
type claim struct {
	family string // the one that is disagreed on
	name   string // the one that the file has, which may have a sample of that name
	shape  string // type and mode
	helps  []string
	bounds []float64
}

// suffixes are what histograms and summaries have behind their names.
var suffixes = []string{"_bucket", "_count", "_sum"}

// note adds what an entry says to a file's claims.
func (s *suspected) note(claims []claim, n mmapfile.Name, k *mmapfile.Key) []claim {
	name := k.Family
	if n.Type == mmapfile.Counter {
		name = k.Sample // a counter's family is served with the name of its samples
	}
	takes := []string{name}
	if n.Type == mmapfile.Histogram || n.Type == mmapfile.Summary {
		for _, suffix := range suffixes {
			takes = append(takes, name+suffix)
		}
	}
	for i, family := range takes {
		if s.names[family] {
			claims = add(claims, claim{family: family, name: name, shape: shape(n)}, n, k)
		}
		// The other way round: the family's samples have this name.
		for _, suffix := range suffixes {
			if stem, ok := strings.CutSuffix(family, suffix); ok && i == 0 && s.names[stem] {
				claims = add(claims, claim{family: stem, name: name, shape: shape(n)}, n, k)
			}
		}
	}
	return claims
}

func add(claims []claim, c claim, n mmapfile.Name, k *mmapfile.Key) []claim {
	i := slices.IndexFunc(claims, func(o claim) bool { return o.family == c.family && o.name == c.name && o.shape == c.shape })
	if i < 0 {
		i = len(claims)
		claims = append(claims, c)
	}
	found := &claims[i]
	if k.Help != "" && !slices.Contains(found.helps, k.Help) {
		found.helps = append(found.helps, k.Help)
	}
	if n.Type == mmapfile.Histogram {
		for _, l := range k.Labels {
			if bound, err := strconv.ParseFloat(l.Value, 64); l.Name == "le" && err == nil && !slices.Contains(found.bounds, bound) {
				found.bounds = append(found.bounds, bound)
			}
		}
	}
	return claims
}

func shape(n mmapfile.Name) string {
	if n.Type == mmapfile.Gauge {
		return "gauge of mode " + n.Mode.String()
	}
	return n.Type.String()
}

// parties says which files say what of a family: of the claims that the family has, say
// tells in words what this is about.
func parties(family string, files []file, say func(claim) []string) []string {
	who := make(map[string][]string)
	var said []string
	for i := range files {
		for _, c := range files[i].claims {
			if c.family != family {
				continue
			}
			for _, words := range say(c) {
				if who[words] == nil {
					said = append(said, words)
				}
				who[words] = append(who[words], files[i].base)
			}
		}
	}
	if len(said) < 2 {
		return nil // it is over by now, or only a dead writer's
	}
	// Few first: they are likely the odd ones.
	slices.SortStableFunc(said, func(a, b string) int { return cmp.Or(len(who[a])-len(who[b]), strings.Compare(a, b)) })
	lines := make([]string, 0, len(said))
	for _, words := range said {
		lines = append(lines, fmt.Sprintf("%s: %s", words, strings.Join(some(who[words], 4), ", ")))
	}
	return lines
}

// conflicts tells of each family on which writers disagree, and who says what.
func conflicts(m merged, files []file) (found []Finding) {
	done := make(map[merge.Conflict]bool)
	for _, c := range m.Conflicts {
		if done[c] {
			continue
		}
		done[c] = true
		switch c.Kind {
		case merge.NameConflict:
			lines := parties(c.Family, files, func(c claim) []string { return []string{c.shape + " " + c.name} })
			found = append(found, finding("PA501", lines, "writers disagree on the type or mode of %s", c.Family))
		case merge.HelpConflict:
			lines := parties(c.Family, files, func(c claim) (words []string) {
				for _, help := range c.helps {
					words = append(words, strconv.Quote(short(help)))
				}
				return words
			})
			found = append(found, finding("PA502", lines, "writers disagree on the help text of %s", c.Family))
		case merge.BoundsConflict:
			lines := parties(c.Family, files, func(c claim) []string { return []string{boundsText(c.bounds)} })
			found = append(found, finding("PA503", lines, "writers disagree on the buckets of %s", c.Family))
		}
	}
	return found
}

func boundsText(bounds []float64) string {
	var text []string
	for _, b := range slices.Sorted(slices.Values(bounds)) {
		text = append(text, mmapfile.FormatBound(b))
	}
	if n := len(text); n > 12 {
		text = append(append(text[:5:5], fmt.Sprintf("... (%d)", n)), text[n-3:]...)
	}
	return strings.Join(text, " ")
}

// short cuts text that would fill a screen.
func short(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-3]) + "..."
	}
	return text
}
