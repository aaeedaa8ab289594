package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// Of label sets and of lines of a family, how many are worth a hint, and a warning.
const (
	manySeries, tooManySeries = 1000, 10_000
	manyLines, tooManyLines   = 10_000, 100_000
)

// lines is how many lines a family has in an exposition, which is what Prometheus calls
// series.
func lines(f *merge.Family) int {
	n := 0
	for _, s := range f.Series {
		n += f.Width(s)
	}
	return n
}

// cardinality tells of families with very many series, and which label is to blame.
func cardinality(m merged) (found []Finding) {
	for i := range m.Families {
		f := &m.Families[i]
		series, n := len(f.Series), lines(f)
		if series <= manySeries && n <= manyLines {
			continue
		}
		label, values, examples := widest(f)
		if label == "pid" && f.Mode == mmapfile.All {
			found = append(found, finding("PA505", nil, "%s has %s, one for each process there ever was", f.Name, plural(series, "label set")))
			continue
		}
		var details []string
		if label != "" {
			details = []string{fmt.Sprintf("label %q has %s: %s", label, plural(values, "value"), strings.Join(examples, ", "))}
		}
		one := finding("PA504", details, "%s has %s, %s of exposition", f.Name, plural(series, "label set"), plural(n, "line"))
		if series <= tooManySeries && n <= tooManyLines {
			one = one.as(Hint)
		}
		found = append(found, one)
	}
	return found
}

// widest returns the label with the most distinct values, how many those are, and some
// of them.
func widest(f *merge.Family) (label string, values int, examples []string) {
	distinct := make(map[string]map[string]bool)
	for _, s := range f.Series {
		for name, value := range s.Labels.All() {
			if distinct[name] == nil {
				distinct[name] = make(map[string]bool)
			}
			distinct[name][value] = true
		}
	}
	for name, seen := range distinct {
		if len(seen) > values || len(seen) == values && name < label {
			label, values = name, len(seen)
		}
	}
	if seen := distinct[label]; seen != nil {
		for value := range seen {
			examples = append(examples, fmt.Sprintf("%q", short(value)))
		}
		slices.Sort(examples)
		examples = some(examples, 4)
	}
	return label, values, examples
}

// invalid tells of histograms that can't be served.
func invalid(m merged) []Finding {
	if len(m.Invalid) == 0 {
		return nil
	}
	return []Finding{finding("PA506", m.Invalid, "series of %s with negative counts", counted(len(m.Invalid), "histogram", "histograms"))}
}

// dropped tells of entries that no exposition can hold.
func dropped(m merged) []Finding {
	var reasons []string
	n := uint64(0)
	for _, r := range merge.Reasons() {
		if c := m.stats.Dropped[r]; c > 0 && !r.Limit() {
			reasons = append(reasons, fmt.Sprintf("%s: %d", r, c))
			n += c
		}
	}
	if n == 0 {
		return nil
	}
	return []Finding{finding("PA507", reasons, "%s can't be served", counted(int64(n), "entry", "entries"))}
}

// nearlyAll is how much of a limit is nearly all of it.
const nearlyAll = 0.8

// limits tells of limits that are reached, or nearly.
func limits(files []file, m merged, l multiproc.Limits) (found []Finding) {
	left := func(flag string, n int, one, many string) {
		if n > 0 {
			found = append(found, finding("PA410", nil, "--%s is reached: %s", flag, counted(n, one, many)))
		}
	}
	left("limit.files", m.stats.LeftOut, "file is left out", "files are left out")
	left("limit.file-size", m.stats.CutOff, "file is not read to its end", "files are not read to their end")
	for _, r := range merge.Reasons() {
		if r.Limit() {
			left(r.String(), int(m.stats.Dropped[r]), "entry is left out", "entries are left out")
		}
	}
	near := func(flag string, used, limit int64, text func(int64) string) {
		if limit > 0 && float64(used) >= nearlyAll*float64(limit) && !slices.ContainsFunc(found, func(f Finding) bool {
			return strings.Contains(f.What, "--"+flag+" ")
		}) {
			found = append(found, finding("PA411", nil, "--%s is nearly reached: %s of %s", flag, text(used), text(limit)))
		}
	}
	var largest int64
	for i := range files {
		if !files[i].archive {
			largest = max(largest, files[i].size)
		}
	}
	var series, buckets, labels int64
	for i := range m.Families {
		f := &m.Families[i]
		series += int64(lines(f))
		for _, s := range f.Series {
			if n := len(s.Buckets); n > 0 {
				buckets = max(buckets, int64(n-1)) // +Inf is not counted
			}
			n := int64(0)
			for range s.Labels.All() {
				n++
			}
			labels = max(labels, n)
		}
	}
	near("limit.files", int64(m.stats.Files), l.Files, countText)
	near("limit.file-size", largest, l.FileSize, bytesText)
	near("limit.entries", int64(m.stats.Entries), l.Entries, countText)
	near("limit.series", series, l.Series, countText)
	near("limit.buckets", buckets, l.Buckets, countText)
	near("limit.labels", labels, l.Labels, countText)
	return found
}
