// Command bench measures what a scrape costs: promagg, the collectors that
// people use today, and the limit that the hardware sets, on the same directory
// in the same run.
//
//	go run ./bench            # 1000 writers x 1000 entries
//	go run ./bench -quick     # 200 x 500, under a minute
//
// Words. A shape says what a directory of value files looks like (shapes, in
// shape.go). A contestant is one way to get the merged values of a directory
// (contestants, in contestant.go). A scrape is one time that it gets them; a
// turn is a few scrapes in a row; a round gives each contestant one turn, so
// that whatever else the machine does hits all of them alike.
//
// Promises. No contestant is timed before all of them have read the same: the
// generator counts what it writes, the expositions are compared with that and,
// series by series, with each other. The last scrape of every turn is checked
// again. A disagreement ends the run with an error, since a benchmark that
// measures less work measures nothing. What is not there to be measured is named
// in the table; with CI=true in the environment it is an error.
//
// A new shape or contestant is an entry of its table.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), mmapfile.StopSignals()...)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// options are the settings of a run.
type options struct {
	quick, json, keep bool
	dir               string
	generator         string
	writers, entries  int
	runs              int
	seed              uint64
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.quick, "quick", false, "200 writers of 500 entries, and 3 rounds of the slow contestants")
	fs.BoolVar(&o.json, "json", false, "print JSON instead of the table")
	fs.BoolVar(&o.keep, "keep", false, "leave the directory that was built where it is")
	fs.StringVar(&o.dir, "dir", "", "directory to measure as it is found, or to build if it is empty or not there (default: a temporary one, on tmpfs if it has room)")
	fs.StringVar(&o.generator, "generator", "go", "what writes the value files: go or python")
	fs.IntVar(&o.writers, "writers", 1000, "writers, each with one value file")
	fs.IntVar(&o.entries, "entries", 1000, "entries of each writer")
	fs.IntVar(&o.runs, "runs", 7, "rounds; the table has their median")
	fs.Uint64Var(&o.seed, "seed", 0, "seed of the values (default: from the clock)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.quick && !set["writers"] {
		o.writers = 200
	}
	if o.quick && !set["entries"] {
		o.entries = 500
	}
	o.seed = cmp.Or(o.seed, uint64(time.Now().UnixNano())%1e9) // short enough to retype
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("want no arguments, got %q", fs.Args())
	case o.writers < 1 || o.entries < 1 || o.runs < 1:
		return o, fmt.Errorf("-writers, -entries, -runs: want at least 1, got %d, %d, %d", o.writers, o.entries, o.runs)
	case o.generator != "go" && o.generator != "python":
		return o, fmt.Errorf("-generator: want go or python, got %q", o.generator)
	}
	return o, nil
}

// run executes one command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "promagg-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	py := findPython(ctx, pythons)
	dir, err := obtain(ctx, o, shapes[0], py, stderr)
	if err != nil {
		return err
	}
	defer dir.remove(o.keep, stderr)

	b := bench{options: o, dir: dir, work: work, python: py, log: stderr}
	report, err := b.measure(ctx, contestants)
	if err != nil {
		return err
	}
	if o.json {
		return report.writeJSON(stdout)
	}
	return report.writeTable(stdout)
}
