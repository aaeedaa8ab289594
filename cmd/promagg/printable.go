package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable returns s as it is if it is plain text, else quoted: names come from
// a directory that others write to, and must not speak to the terminal.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// escaped returns s with all that is not plain text spelled as in a Go string. It is
// for sentences, in which an error may have what a file is called or a server answers.
func escaped(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteString(s[:n])
		} else {
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// printNames writes names, one a line, each behind a prefix.
func printNames(w io.Writer, prefix string, names []string) error {
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "%s%s\n", prefix, printable(name)); err != nil {
			return err
		}
	}
	return nil
}
