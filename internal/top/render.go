package top

import (
	"fmt"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Frame is what a screen shows.
type Frame struct {
	Lines  []string // each takes the width of the screen
	Head   int      // the line of the titles, -1 for none
	Chosen int      // the line of the chosen row, -1 for none
}

// spareFrom is from how many cells on a screen has room for all columns.
const spareFrom = 110

// Render lays out what is to be seen of two looks on a screen of that size. from is nil
// after the first look and to before it; failure is why there was no look.
func (s *State) Render(from, to *Look, failure error, wide, high int) Frame {
	f := Frame{Head: -1, Chosen: -1}
	add := func(line string) { f.Lines = append(f.Lines, fit(line, wide, false)) }
	if to == nil {
		to = &Look{}
	}
	add(s.first(to, wide))
	add(" " + summary(from, to))
	t := s.table(s.at, from, to)
	s.columns = t.Columns
	o := s.orders[s.at]
	t.Sort(o.column, o.reverse)
	all := len(t.Rows)
	if filter := s.filter(); filter != "" {
		t.Filter(filter)
	}
	add(s.status(t, all))
	bottom := s.bottom(to, failure, wide)
	if s.help {
		for _, line := range helpText {
			add(line)
		}
		bottom = nil
	} else {
		f.Head = len(f.Lines)
		page := max(high-len(f.Lines)-1-len(bottom), 1)
		columns, cells := visible(t.Columns, wide)
		add(" " + line(columns, cells, func(i int, c Column) string {
			if i == o.column {
				return c.Title + "*"
			}
			return c.Title
		}))
		c := s.follow(t.Rows, page)
		for i := c.top; i < min(c.top+page, len(t.Rows)); i++ {
			mark := " "
			if i == c.row {
				mark, f.Chosen = ">", len(f.Lines)
			}
			add(mark + line(columns, cells, func(j int, c Column) string { return c.shown(t.Rows[i].Values[j]) }))
		}
		if len(t.Rows) == 0 {
			add(" " + s.nothing(to, all))
		}
	}
	for len(f.Lines) < high {
		add("")
	}
	f.Lines = f.Lines[:max(high, 0)]
	for i, line := range bottom {
		if y := high - len(bottom) + i; y >= 0 {
			f.Lines[y] = fit(line, wide, false)
		}
	}
	if f.Head >= len(f.Lines) {
		f.Head = -1
	}
	if f.Chosen >= len(f.Lines) {
		f.Chosen = -1
	}
	return f
}

// first returns the first line: what is looked at, when and how often.
func (s *State) first(to *Look, wide int) string {
	when := "every " + s.Interval.String()
	if s.Paused {
		when = "PAUSED"
	}
	if !to.At.IsZero() {
		when = to.At.Format("15:04:05") + "  " + when
	}
	const title = "promagg top  "
	room := wide - width(title) - width(when) - 2
	if room < 8 {
		return title + clean(to.Of)
	}
	return title + fit(clean(to.Of), room, false) + "  " + when
}

// summary returns how much there is of all.
func summary(from, to *Look) string {
	if to.At.IsZero() {
		return "waiting for the first look"
	}
	var by [mmapfile.Dead + 1]int
	for _, w := range to.Workers {
		by[w.State]++
	}
	var states []string
	for _, state := range []mmapfile.State{mmapfile.Alive, mmapfile.Unknown, mmapfile.Dead} {
		if by[state] > 0 {
			states = append(states, fmt.Sprintf("%d %s", by[state], state))
		}
	}
	text := fmt.Sprintf("%d workers", len(to.Workers))
	if len(states) > 0 {
		text += ": " + strings.Join(states, ", ")
	}
	_, rate := span{from, to}.rates()
	return text + fmt.Sprintf("   %d families   %s updates/s", len(to.Families), short(rate))
}

// status returns where the user is.
func (s *State) status(t Table, all int) string {
	var b strings.Builder
	for p, title := range []string{"Workers", "Families"} {
		if place(p) == s.at.view() {
			title = "[" + title + "]"
		} else {
			title = " " + title + " "
		}
		b.WriteString(title)
	}
	switch s.at {
	case oneWorker:
		b.WriteString(" > " + fit(clean(s.worker), min(width(clean(s.worker)), 30), false))
	case oneFamily:
		b.WriteString(" > " + fit(clean(s.family.Name), min(width(clean(s.family.Name)), 30), false))
	}
	o := s.orders[s.at]
	falling := !t.Columns[o.column].Text != o.reverse
	fmt.Fprintf(&b, "   by %s, %s", t.Columns[o.column].Title, map[bool]string{true: "falling", false: "rising"}[falling])
	if filter := s.filter(); filter != "" && !s.typing {
		fmt.Fprintf(&b, "   filter %s: %d of %d", clean(filter), len(t.Rows), all)
	}
	return b.String()
}

// bottom returns the last lines: what is being typed, what is wrong, or the keys.
func (s *State) bottom(to *Look, failure error, wide int) []string {
	switch {
	case s.typing:
		return []string{"/" + clean(s.typed) + "_"}
	case failure != nil:
		return wrap("error: "+clean(failure.Error()), wide)
	case len(to.Notes) > 0:
		return wrap("note: "+clean(strings.Join(to.Notes, "; ")), wide)
	case s.at != s.at.view():
		return []string{" Esc back  Tab view  < > sort  r reverse  / filter  p pause  ? help  q quit"}
	}
	return []string{" Tab view  Enter open  < > sort  r reverse  / filter  p pause  ? help  q quit"}
}

// wrap breaks what is too long for a line between two words, once.
func wrap(s string, wide int) []string {
	for i := len(s) - 1; i > 0 && width(s) > wide; i-- {
		if s[i] == ' ' && width(s[:i]) <= wide {
			return []string{s[:i], s[i:]}
		}
	}
	return []string{s}
}

// nothing returns why a table has no rows.
func (s *State) nothing(to *Look, all int) string {
	switch {
	case to.At.IsZero():
		return ""
	case all > 0:
		return "no row has what the filter asks for"
	case s.at == workers && !to.Apart:
		return "no workers one by one: promagg serve --worker-metrics=per-process has them"
	case s.at == workers:
		return "no value files: nobody has written here yet"
	case s.at == oneWorker, s.at == oneFamily && !to.Apart:
		return "nothing is known of it by worker"
	}
	return "no families"
}

// visible returns how many cells each column gets on a screen of that width; 0 is one
// that is left out.
func visible(columns []Column, wide int) ([]Column, []int) {
	cells := make([]int, len(columns))
	rest := wide - 2 // the mark, and a space at the end
	for i, c := range columns[1:] {
		if !c.Spare || wide >= spareFrom {
			cells[i+1] = c.Cells + 1 // the star
			rest -= c.Cells + 2
		}
	}
	// On a screen that is too narrow the name comes before the last columns.
	for i := len(columns) - 1; i > 0 && rest < 8; i-- {
		if cells[i] > 0 {
			rest += cells[i] + 1
			cells[i] = 0
		}
	}
	cells[0] = max(rest, 1)
	return columns, cells
}

// line returns the values of a row in its columns.
func line(columns []Column, cells []int, of func(i int, c Column) string) string {
	var b strings.Builder
	for i, c := range columns {
		if cells[i] == 0 {
			continue
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		text := of(i, c)
		if !c.Text && !strings.HasSuffix(text, "*") {
			text += " " // the star of the title stands to the right of the numbers
		}
		b.WriteString(fit(text, cells[i], !c.Text))
	}
	return b.String()
}
