package main

import (
	"fmt"
	"io"
	"strconv"
)

// printable returns s as it is if it is plain text, else quoted: names come from
// a directory that others write to, and must not speak to the terminal.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
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
