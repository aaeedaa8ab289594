package main

import (
	"fmt"
	"math"
	"strings"
)

// mark is a promise about ratios, and what became of it in this run.
type mark struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	Met  bool   `json:"met"`
}

// atMost and atLeast are marks on one number. ok is false where this run can't
// tell it.
func atMost(what string, want, got float64, unit string, ok bool) []mark {
	if !ok {
		return nil
	}
	return []mark{{what, fmt.Sprintf("at most %g%s", want, unit), fmt.Sprintf("%.3g%s", got, unit), got <= want}}
}

func atLeast(what string, want, got float64, unit string, ok bool) []mark {
	if !ok {
		return nil
	}
	return []mark{{what, fmt.Sprintf("at least %g%s", want, unit), fmt.Sprintf("%.3g%s", got, unit), got >= want}}
}

// ratioOf divides the walls of two contestants.
func ratioOf(a, b *row) (v float64, ok bool) {
	if a == nil || b == nil {
		return 0, false
	}
	return a.Wall / b.Wall, true
}

// judge goes through the marks that a run can tell. They are about directories of
// full size.
func (r *report) judge() {
	l, dead, ruby, w := r.section("L"), r.section("L-dead"), r.section("L-ruby"), r.section("W")
	var marks []mark
	most := func(what string, want float64, a, b *row) {
		v, ok := ratioOf(a, b)
		marks = append(marks, atMost(what, want, v, " x", ok)...)
	}
	least := func(what string, want float64, a, b *row) {
		v, ok := ratioOf(a, b)
		marks = append(marks, atLeast(what, want, v, " x", ok)...)
	}
	most("L, steady scrape on one core, in terms of the limit", 1.6, l.row(library1Name), l.row(limitName))
	most("L, steady scrape on all cores, in terms of their limit", 2, l.row(libraryName), l.row(limitAllName))
	least("L, whole scrape over HTTP, faster than Python", 200, l.row(pythonName), l.row(httpName))
	least("L-ruby, whole scrape over HTTP, faster than Ruby", 40, ruby.row(rubyName), ruby.row(httpName))
	most("L-dead, steady scrape, in terms of L's", 1.0/20, dead.row(libraryName), l.row(libraryName))
	most("L-dead, whole scrape over HTTP, in terms of L's", 1.0/20, dead.row(httpName), l.row(httpName))
	least("W, whole scrape over HTTP, faster than Python", 60, w.row(pythonName), w.row(httpName))
	marks = append(marks, r.constantAllocs()...)
	if c := l.row(coldName); c != nil && l.Directory.Entries > 0 {
		marks = append(marks, atMost("L, cold start per entry", 150, c.Wall/float64(l.Directory.Entries)*1e9, " ns", true)...)
	}
	if l != nil && l.Heap != nil {
		marks = append(marks, atMost("L, heap per live entry", 12, l.Heap.Entry, " B", true)...)
	}
	if w != nil && w.Heap != nil {
		marks = append(marks, atMost("W, heap per series beyond the text of its labels", 200, w.Heap.Series, " B", true)...)
	}
	most("W, ?name[]= of one family, in terms of the full scrape", 1.0/50, w.row(namedName), w.row(httpName))
	if herd, one := l.row(herdName), l.row(httpName); herd != nil && one != nil && one.CPU > 0 {
		marks = append(marks, atMost("L, CPU of 200 scrapes at once, in terms of one", 3, herd.CPU/one.CPU, " x", true)...)
	}
	marks = append(marks, judgeGrowth(r.Growth)...)
	marks = append(marks, judgeFleets(r.Fleets)...)
	r.Marks = marks
}

// constantAllocs compares the allocations of a steady scrape of directories that
// differ in how much of the same they hold.
func (r *report) constantAllocs() []mark {
	var got []string
	least, most := math.Inf(1), math.Inf(-1)
	for _, name := range []string{"S", "M", "L", "W"} {
		if w := r.section(name).row(library1Name); w != nil && w.Allocs != nil {
			got = append(got, fmt.Sprintf("%s %.1f", name, *w.Allocs))
			least, most = min(least, *w.Allocs), max(most, *w.Allocs)
		}
	}
	if len(got) < 2 {
		return nil
	}
	return []mark{{"allocations of a steady scrape, whatever the entries and series", "the same number", strings.Join(got, ", "), most-least < 1}}
}

// writeMarks appends a line for each mark.
func writeMarks(b *strings.Builder, marks []mark) {
	width := 0
	for _, m := range marks {
		width = max(width, len(m.What))
	}
	for _, m := range marks {
		verdict := "met"
		if !m.Met {
			verdict = "NOT MET"
		}
		fmt.Fprintf(b, "%-7s  %-*s  %s, want %s\n", verdict, width, m.What, m.Got, m.Want)
	}
	b.WriteString("Text encoding and gzip have benchmarks of their own: go test -run '^$' -bench 50k ./internal/expose\n")
}
