package top

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Table is what is shown of two looks.
type Table struct {
	Columns []Column
	Rows    []Row
}

// Column is one column of a table. The first one has the names of the rows.
type Column struct {
	Title  string
	Cells  int  // its width on a screen; of the first it is what is left
	Text   bool // else numbers, which stand to the right, and fall when they are sorted
	Spare  bool // is left out of a narrow screen
	number func(float64) string
	plain  func(float64) string // for programs; default as exact as need be
}

// Row is one row of a table.
type Row struct {
	Name   string
	Type   string // of a row that is a family
	Values []Cell // of all columns, the first included
}

// Cell is one value of a row: a number where there is no text, NaN one that is not known.
type Cell struct {
	Text   string
	Number float64
}

func text(s string) Cell    { return Cell{Text: s} }
func number(v float64) Cell { return Cell{Number: v} }

// orUnknown returns a number, or NaN where it is below 0, which says that it is not known.
func orUnknown(n int64) Cell {
	if n < 0 {
		return number(math.NaN())
	}
	return number(float64(n))
}

func family(id FamilyID, values ...Cell) Row {
	return Row{id.Name, id.Type, append([]Cell{text(id.Name), text(id.Type)}, values...)}
}

// span is the time between two looks.
type span struct{ from, to *Look }

// seconds is NaN if there is no look before.
func (s span) seconds() float64 {
	if s.from == nil {
		return math.NaN()
	}
	if d := s.to.At.Sub(s.from.At).Seconds(); d > 0 {
		return d
	}
	return math.NaN()
}

// rate returns how fast a family rose, or a worker's share of it if there is a worker.
// NaN says that it is not known, or not a count.
func (s span) rate(id FamilyID, worker string) float64 {
	if !id.counts() || s.from == nil {
		return math.NaN()
	}
	return rise(s.from.share(id, worker).Rise, s.to.share(id, worker).Rise) / s.seconds()
}

func (l *Look) share(id FamilyID, worker string) Share {
	f := l.Families[id]
	switch {
	case f == nil:
		return Share{}
	case worker == "":
		return f.Share
	}
	return f.By[worker]
}

// rates returns how fast each worker's counts rose, and all together. An endpoint does
// not tell of workers.
func (s span) rates() (by map[string]float64, all float64) {
	by = make(map[string]float64)
	if s.from == nil {
		return by, math.NaN()
	}
	seconds := s.seconds()
	for id, f := range s.to.Families {
		if !id.counts() {
			continue
		}
		before := s.from.Families[id]
		if before == nil {
			before = new(Family)
		}
		if !s.to.Apart {
			all += rise(before.Rise, f.Rise) / seconds
			continue
		}
		for worker, share := range f.By {
			r := rise(before.By[worker].Rise, share.Rise) / seconds
			by[worker] += r
			all += r
		}
	}
	return by, all
}

// The columns that several tables have.
var (
	entriesColumn = Column{Title: "ENTRIES", Cells: 8, number: short}
	shareColumn   = Column{Title: "SHARE", Cells: 6, number: percent, plain: ratio}
)

func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v*100, 'f', 0, 64) + "%"
}

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

func fixed(digits int) func(float64) string {
	return func(v float64) string {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "-"
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
}

// Workers returns a row for each worker.
func Workers(from, to *Look) Table {
	t := Table{Columns: []Column{
		{Title: "WORKER", Text: true}, {Title: "STATE", Cells: 7, Text: true},
		{Title: "AGE", Cells: 7, number: age, plain: fixed(0)},
		{Title: "CPU%", Cells: 6, number: fixed(1), plain: fixed(1)},
		{Title: "RSS", Cells: 7, number: size},
		{Title: "THREADS", Cells: 7, Spare: true, number: short},
		{Title: "FILES", Cells: 6, Spare: true, number: short},
		entriesColumn, {Title: "UPDATES/S", Cells: 9, number: short, plain: fixed(3)}, shareColumn,
	}}
	s := span{from, to}
	rates, all := s.rates()
	for id, w := range to.Workers {
		rate := math.NaN()
		if to.Apart && from != nil {
			rate = rates[id]
		}
		old, cpu := math.NaN(), math.NaN()
		p := w.Process
		if p == nil {
			p = noProcess()
		}
		if !p.Start.IsZero() {
			old = max(to.At.Sub(p.Start).Seconds(), 0)
		}
		if from != nil && from.Workers[id] != nil && from.Workers[id].Process != nil {
			before := from.Workers[id].Process
			cpu = (p.CPU - before.CPU) / s.seconds() * 100
			if cpu < 0 || !p.Start.Equal(before.Start) {
				cpu = math.NaN() // another process has the id
			}
		}
		t.Rows = append(t.Rows, Row{Name: id, Values: []Cell{text(id), text(w.State.String()), number(old), number(cpu),
			orUnknown(p.Resident), orUnknown(int64(p.Threads)), orUnknown(int64(w.Files)), orUnknown(int64(w.Entries)),
			number(rate), number(part(rate, all))}})
	}
	return t
}

// part returns what part of a whole something is.
func part(of, all float64) float64 {
	if all == 0 {
		return math.NaN()
	}
	return of / all
}

// Families returns a row for each family.
func Families(from, to *Look) Table {
	t := Table{Columns: []Column{
		{Title: "FAMILY", Text: true}, {Title: "TYPE", Cells: 9, Text: true},
		entriesColumn, {Title: "WORKERS", Cells: 7, number: short},
		{Title: "VALUE", Cells: 9, Spare: true, number: short, plain: value},
		{Title: "RATE/S", Cells: 8, number: short, plain: fixed(3)},
		{Title: "SKEW", Cells: 6, number: fixed(2), plain: fixed(2)},
		{Title: "CV", Cells: 6, number: fixed(2), plain: fixed(2), Spare: true},
	}}
	s := span{from, to}
	for id, f := range to.Families {
		workers := math.NaN()
		if to.Apart || len(f.By) > 0 {
			workers = float64(len(f.By))
		}
		skew, cv := s.evenness(id)
		t.Rows = append(t.Rows, family(id, number(float64(f.Entries)), number(workers), number(valueOf(id, f.Share)),
			number(s.rate(id, "")), number(skew), number(cv)))
	}
	return t
}

// valueOf returns what a share's value is: that of a gauge only where there is but one,
// for what several come to is a matter of its mode.
func valueOf(id FamilyID, s Share) float64 {
	if !id.counts() && s.Entries != 1 {
		return math.NaN()
	}
	return s.Value
}

func value(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// evenness returns how evenly the living workers share a family's rate: the busiest one's
// by the mean, and the standard deviation by the mean (the coefficient of variation).
// Where all do the same that is 1 and 0; where one of n does it all, n and √(n-1).
//
// Workers that have none of the family count, for that is the most uneven there is.
func (s span) evenness(id FamilyID) (skew, cv float64) {
	f := s.to.Families[id]
	if s.from == nil || !id.counts() || f == nil || len(f.By) == 0 {
		return math.NaN(), math.NaN()
	}
	var n, sum, squares, most float64
	add := func(worker string) {
		r := s.rate(id, worker)
		n++
		sum += r
		squares += r * r
		most = max(most, r)
	}
	for worker, w := range s.to.Workers {
		if w.State != mmapfile.Dead {
			add(worker)
		}
	}
	if n == 0 || !(sum > 0) {
		return math.NaN(), math.NaN()
	}
	mean := sum / n
	return most / mean, math.Sqrt(max(squares/n-mean*mean, 0)) / mean
}

// ByWorker returns a row for each worker that has a family.
func ByWorker(from, to *Look, id FamilyID) Table {
	t := Table{Columns: []Column{{Title: "WORKER", Text: true}, {Title: "STATE", Cells: 7, Text: true}, entriesColumn,
		{Title: "VALUE", Cells: 9, number: short, plain: value}, {Title: "RATE/S", Cells: 8, number: short, plain: fixed(3)}, shareColumn}}
	f := to.Families[id]
	if f == nil {
		return t
	}
	s := span{from, to}
	all := 0.0
	for worker := range f.By {
		all += s.rate(id, worker)
	}
	has := func(worker string, share Share) {
		state := "-"
		if w := to.Workers[worker]; w != nil {
			state = w.State.String()
		}
		rate := s.rate(id, worker)
		t.Rows = append(t.Rows, Row{Name: worker, Values: []Cell{text(worker), text(state), number(float64(share.Entries)),
			number(valueOf(id, share)), number(rate), number(part(rate, all))}})
	}
	for worker, share := range f.By {
		has(worker, share)
	}
	for worker, w := range to.Workers {
		if _, ok := f.By[worker]; !ok && w.State != mmapfile.Dead && to.Apart {
			has(worker, Share{})
		}
	}
	return t
}

// ByFamily returns a row for each family that a worker has.
func ByFamily(from, to *Look, worker string) Table {
	t := Table{Columns: []Column{{Title: "FAMILY", Text: true}, {Title: "TYPE", Cells: 9, Text: true}, entriesColumn,
		{Title: "VALUE", Cells: 9, number: short, plain: value}, {Title: "RATE/S", Cells: 8, number: short, plain: fixed(3)}, shareColumn}}
	s := span{from, to}
	for id, f := range to.Families {
		if share, ok := f.By[worker]; ok {
			rate := s.rate(id, worker)
			t.Rows = append(t.Rows, family(id, number(float64(share.Entries)), number(valueOf(id, share)),
				number(rate), number(part(rate, s.rate(id, "")))))
		}
	}
	return t
}

// Sort sorts the rows by a column, text rising and numbers falling, or the other way
// round. What is not known comes last either way; equal ones are in the order of their
// names.
func (t *Table) Sort(column int, reverse bool) {
	isText := t.Columns[column].Text
	slices.SortFunc(t.Rows, func(a, b Row) int {
		x, y := a.Values[column], b.Values[column]
		var order int
		switch {
		case isText:
			order = byName(x.Text, y.Text)
		case math.IsNaN(x.Number) || math.IsNaN(y.Number):
			return cmp.Or(cmp.Compare(b2i(math.IsNaN(x.Number)), b2i(math.IsNaN(y.Number))), byName(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
		default:
			order = cmp.Compare(y.Number, x.Number)
		}
		if reverse {
			order = -order
		}
		return cmp.Or(order, byName(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// byName compares names, PIDs by number.
func byName(a, b string) int {
	x, errX := strconv.ParseUint(a, 10, 63)
	y, errY := strconv.ParseUint(b, 10, 63)
	switch {
	case errX == nil && errY == nil:
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}

// Filter keeps the rows that have the text in one of their texts, in whatever case.
func (t *Table) Filter(s string) {
	s = strings.ToLower(s)
	t.Rows = slices.DeleteFunc(t.Rows, func(r Row) bool {
		for i, c := range t.Columns {
			if c.Text && strings.Contains(strings.ToLower(r.Values[i].Text), s) {
				return false
			}
		}
		return true
	})
}

// Column returns the number of the column of that title, in whatever case.
func (t *Table) Column(title string) (int, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Title, title) })
	return i, i >= 0
}

// shown returns a value as a screen shows it.
func (c Column) shown(v Cell) string {
	if c.Text {
		return clean(v.Text)
	}
	return c.number(v.Number)
}

// printed returns a value as a program takes it: one word.
func (c Column) printed(v Cell) string {
	switch {
	case c.Text && (v.Text == "" || strings.ContainsAny(v.Text, ` "`) || clean(v.Text) != v.Text):
		return strings.ReplaceAll(strconv.QuoteToASCII(v.Text), " ", `\x20`)
	case c.Text:
		return v.Text
	case c.plain == nil:
		return fixed(0)(v.Number)
	}
	return c.plain(v.Number)
}
