package check

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// width is how many columns a terminal has for certain.
const width = 80

// shown is how many details of a finding are printed.
const shown = 5

// Print writes the report for people to read.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	f := &r.Facts
	wrap(&b, "", printable(r.Directory)+": "+f.String())
	for _, found := range r.Findings {
		b.WriteByte('\n')
		head := fmt.Sprintf("%-7s %s  ", found.Severity, found.ID)
		wrap(&b, head, printable(found.What))
		all := len(found.Details)
		if found.more > 0 {
			all += found.more - 1 // the line that tells of them is none
		}
		for _, line := range someOf(found.Details, shown, all) {
			wrap(&b, "    - ", printable(line))
		}
		wrap(&b, "    why: ", found.Why)
		wrap(&b, "    do:  ", found.Do)
	}
	b.WriteByte('\n')
	closing := "nothing to report"
	if len(r.Findings) > 0 {
		closing = fmt.Sprintf("%s, %s, %s", plural(r.Errors, "error"), plural(r.Warnings, "warning"), plural(r.Hints, "hint"))
	}
	if r.Ignored > 0 {
		closing += fmt.Sprintf(" (%d ignored)", r.Ignored)
	}
	b.WriteString(closing + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// String says in short what there is.
func (f *Facts) String() string {
	if f.Filesystem == "" && f.Files == 0 && f.Archives == 0 && f.Bytes == 0 {
		return "nothing was looked at"
	}
	var s []string
	place := f.Filesystem
	if place == "" {
		place = "filesystem unknown"
	}
	if f.Bytes > 0 {
		place += fmt.Sprintf(", %s of %s free", bytesText(f.FreeBytes), bytesText(f.Bytes))
	}
	s = append(s, place, fmt.Sprintf("%s of %s (%s dead), %s", plural(f.Files, "value file"),
		plural(f.Writers+f.Dead, "writer"), strconv.Itoa(f.Dead), bytesText(f.FileBytes)))
	if f.Archives > 0 {
		s = append(s, plural(f.Archives, "archive"))
	}
	s = append(s, fmt.Sprintf("%s, %s", counted(f.Families, "family", "families"), plural(f.Lines, "series line")))
	s = append(s, fmt.Sprintf("lease %s, flock %s", f.Lease, f.Flock))
	if f.Folder > 0 {
		s = append(s, fmt.Sprintf("folded by PID %d", f.Folder))
	}
	return strings.Join(s, "; ")
}

// wrap writes text in lines of at most width columns, the first behind a head and the
// others indented as far. A word that is longer than a line is not broken.
func wrap(b *strings.Builder, head, text string) {
	indent := strings.Repeat(" ", len(head))
	b.WriteString(head)
	column := len(head)
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		if i > 0 && column+1+n > width {
			b.WriteString("\n" + indent)
			column = len(indent)
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	b.WriteByte('\n')
}

// printable keeps what others have chosen (names, labels, command lines) from playing
// tricks on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func countText(n int64) string { return strconv.FormatInt(n, 10) }

func bytesText(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 || unit == "GiB" {
			if v == float64(int64(v)) || v >= 100 {
				return fmt.Sprintf("%.0f %s", v, unit)
			}
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1024
	}
	panic("check: bug: no unit")
}

// ageText is a duration in its largest unit.
func ageText(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int64(d/time.Second)))
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
