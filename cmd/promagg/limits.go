package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/multiproc"
)

// addLimitFlags adds --limit.* with their defaults.
func addLimitFlags(cmd *cobra.Command, l *multiproc.Limits) {
	*l = multiproc.DefaultLimits()
	flags := cmd.Flags()
	flags.Var((*countFlag)(&l.Files), "limit.files", "value files that are read; 0: no limit")
	flags.Var((*sizeFlag)(&l.FileSize), "limit.file-size", "bytes of a value file that are read; 0: no limit")
	flags.Var((*sizeFlag)(&l.KeyLength), "limit.key-length", "bytes of an entry's key: names, labels and help; 0: no limit")
	flags.Var((*countFlag)(&l.Labels), "limit.labels", "labels of a series; 0: no limit")
	flags.Var((*countFlag)(&l.Buckets), "limit.buckets", "buckets of a series of a histogram; 0: no limit")
	flags.Var((*countFlag)(&l.Entries), "limit.entries", "entries of all files together; 0: no limit")
	flags.Var((*countFlag)(&l.Series), "limit.series", "series of all files together, each bucket, sum and count one; 0: no limit")
	flags.Var((*sizeFlag)(&l.SeriesBytes), "limit.series-bytes", "bytes of the names and labels of all series together; 0: no limit")
}

// countFlag is a number of things, not negative, as a flag.
type countFlag int64

func (c *countFlag) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("want a number such as 1000, or 0 for no limit, got %q", s)
	}
	*c = countFlag(n)
	return nil
}

func (c *countFlag) String() string { return strconv.FormatInt(int64(*c), 10) }

func (c *countFlag) Type() string { return "count" }

// sizeFlag is a number of bytes as a flag, with or without a unit.
type sizeFlag int64

var units = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (b *sizeFlag) Set(s string) error {
	number, size := s, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, size = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/size {
		return fmt.Errorf("want a size such as 512MiB, or 0 for no limit, got %q", s)
	}
	*b = sizeFlag(n * size)
	return nil
}

func (b *sizeFlag) String() string {
	for _, u := range units {
		if n := int64(*b); n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return "0"
}

func (b *sizeFlag) Type() string { return "size" }

// printLeftOut tells what a merge has left out, and reports whether it was anything
// that a limit is to blame for.
func printLeftOut(w io.Writer, s multiproc.Stats) (limited bool) {
	if s.LeftOut > 0 {
		fmt.Fprintf(w, "promagg: warning: %d value files left out: --limit.files sets how many are read\n", s.LeftOut)
	}
	for _, r := range merge.Reasons() {
		switch n := s.Dropped[r]; {
		case n > 0 && r.Limit():
			limited = true
			fmt.Fprintf(w, "promagg: warning: %d entries left out: --%s sets how much of that is merged\n", n, r)
		case n > 0:
			fmt.Fprintf(w, "promagg: warning: %d entries left out: no exposition can hold their %s\n", n, r)
		}
	}
	return limited || s.LeftOut > 0 || s.CutOff > 0
}
