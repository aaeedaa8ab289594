package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func (r *report) writeTable(out io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "machine    %s, %d cores, %s, Linux %s, load %s\n", m.CPU, m.Cores, m.Go, m.Kernel, m.Load)
	if r.Python != "" {
		fmt.Fprintf(&b, "python     %s\n", r.Python)
	}
	if r.Ruby != "" {
		fmt.Fprintf(&b, "ruby       %s\n", r.Ruby)
	}
	for _, s := range r.Sections {
		b.WriteByte('\n')
		s.write(&b)
	}
	if len(r.Growth) > 0 {
		b.WriteByte('\n')
		writeGrowth(&b, r.Growth)
	}
	if len(r.Fleets) > 0 {
		b.WriteByte('\n')
		writeFleets(&b, r.Fleets)
	}
	if len(r.Sections) > 0 {
		b.WriteString(legend)
		r.abouts(&b)
	}
	if len(r.Marks) > 0 {
		b.WriteString("\n")
		writeMarks(&b, r.Marks)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

const legend = `
A time is the median over the rounds of the median over a round's scrapes; min and max are of the rounds.
cpu and allocs are means per scrape, cpu of the process that does the work: of promagg http the server, without the client.
rss: what the process has of memory after the last scrape, heap the part that is its own, peak the most it ever had. mapped: of the value files.
x limit, x all: the time in terms of the limit's on one core, and on all. python/it, ruby/it: how often it fits into that collector's.
`

// abouts appends what each contestant is, once.
func (r *report) abouts(b *strings.Builder) {
	said := make(map[string]bool)
	for _, s := range r.Sections {
		for _, w := range s.Rows {
			if !said[w.Name] {
				said[w.Name] = true
				fmt.Fprintf(b, "%s: %s.\n", w.Name, w.About)
			}
		}
	}
}

// write appends the table of one directory.
func (s *section) write(b *strings.Builder) {
	d := s.Directory
	fmt.Fprintf(b, "%-10s %s\n", d.Name, d.About)
	if d.NotMeasured != "" {
		fmt.Fprintf(b, "           %s\n", d.NotMeasured)
		return
	}
	fmt.Fprintf(b, "directory  %d files", d.Files)
	if d.Live > 0 {
		fmt.Fprintf(b, ", %d of live writers", d.Live)
	}
	if d.Entries > 0 {
		fmt.Fprintf(b, " with %d entries", d.Entries)
	}
	fmt.Fprintf(b, ", %.0f MiB on %s", float64(d.Bytes)/(1<<20), d.FS)
	if d.Generator != "" {
		fmt.Fprintf(b, ", written by %s, seed %d", d.Generator, d.Seed)
	}
	fmt.Fprintf(b, "\nchecked    all read the same %d samples, together %.17g\n\n", d.Samples, d.Sum)
	s.rows(b)
	if h := s.Heap; h != nil {
		fmt.Fprintf(b, "heap: %s MiB, which is %.1f bytes per entry and %.0f per series beyond the %.0f of its labels' text\n", mib(h.All), h.Entry, h.Series, h.Labels)
	}
}

// rows appends the aligned rows. A collector's column is there if it was measured.
func (s *section) rows(b *strings.Builder) {
	head := []string{"contestant", "rounds", "wall", "min", "max", "cpu", "allocs", "alloc KiB", "rss MiB", "heap", "peak", "mapped", "x limit", "x all"}
	python, ruby := s.wall(pythonName) > 0, s.wall(rubyName) > 0
	if python {
		head = append(head, "python/it")
	}
	if ruby {
		head = append(head, "ruby/it")
	}
	table := [][]string{head}
	for _, w := range s.Rows {
		if w.NotMeasured != "" {
			table = append(table, []string{w.Name, w.NotMeasured})
			continue
		}
		cells := []string{
			w.Name, fmt.Sprintf("%dx%d", w.Rounds, w.Scrapes),
			ms(w.Wall), ms(w.WallMin), ms(w.WallMax), ms(w.CPU),
			count(w.Allocs, 1), count(w.AllocBytes, 1<<10),
		}
		if m := w.Memory; m != nil {
			cells = append(cells, mib(m.RSS), mib(m.Heap), mib(m.Peak), mib(m.Mapped))
		} else {
			cells = append(cells, "-", "-", "-", "-")
		}
		cells = append(cells, ratio(w.Limits), ratio(w.AllLimits))
		if python {
			cells = append(cells, ratio(w.Pythons))
		}
		if ruby {
			cells = append(cells, ratio(w.Rubies))
		}
		table = append(table, cells)
	}
	align(b, table)
}

// align appends a table with its first column to the left and the others to the
// right. A row with fewer cells than the first has a reason in the second, as
// long as it is.
func align(b *strings.Builder, table [][]string) {
	width := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			if i == 0 || len(cells) == len(width) {
				width[i] = max(width[i], utf8.RuneCountInString(c))
			}
		}
	}
	for _, cells := range table {
		fmt.Fprintf(b, "%-*s", width[0], cells[0])
		for i, c := range cells[1:] {
			if len(cells) != len(width) {
				b.WriteString("  " + c)
				continue
			}
			fmt.Fprintf(b, "  %*s", width[i+1], c)
		}
		b.WriteByte('\n')
	}
}

func ms(seconds float64) string {
	v, digits := seconds*float64(time.Second/time.Millisecond), 2
	if v < 1 {
		digits = 4
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " ms"
}

func mib(bytes int64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', 1, 64)
}

func count(v *float64, unit float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v/unit, 'f', 1, 64)
}

func ratio(v float64) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
