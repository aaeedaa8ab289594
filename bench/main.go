// Command bench measures what a scrape costs: promagg, the collectors that
// people use today, and the limit that the hardware sets, on the same directory
// in the same run.
//
//	go run ./bench                  # all shapes
//	go run ./bench -shape L,W       # some of them
//	go run ./bench -quick           # S, M and L, under a minute
//	go run ./bench -growth          # how the cost grows, from 10^4 to 10^6 entries
//	go run ./bench -growth -big     # to 10^7, which takes 3 GiB
//	go run ./bench -fleet           # 1000 living writers of 6 files: between scrapes, and beside one that grows
//	go run ./bench -fleet -big      # also 20 000, more files than a process may map
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
// A new shape or contestant is an entry of its table. At the end stand the marks:
// what promagg promises of these numbers, and whether it holds.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

func main() {
	if os.Getenv(helperEnv) != "" {
		exitOn(playHelper(os.Stdin, os.Stdout))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), mmapfile.StopSignals()...)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	exitOn(err)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// options are the settings of a run.
type options struct {
	quick, json, keep bool
	growth, big       bool
	fleet             bool
	shape             string
	dir               string
	generator         string
	program           string
	writers, entries  int // 0: the shape's own
	runs              int
	seed              uint64
	wait              time.Duration
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.shape, "shape", "", "what to measure: all, or some of "+strings.Join(shapeNames(), ",")+" (default: all, with -quick S,M,L)")
	fs.BoolVar(&o.quick, "quick", false, "3 rounds of the slow contestants")
	fs.BoolVar(&o.growth, "growth", false, "measure how the cost grows with the entries instead")
	fs.BoolVar(&o.fleet, "fleet", false, "measure what a daemon costs beside 1000 living writers of 6 files, or -writers of them, instead")
	fs.BoolVar(&o.big, "big", false, "with -growth: up to 10^7 entries; with -fleet: 20 000 writers, too")
	fs.BoolVar(&o.json, "json", false, "print JSON instead of tables")
	fs.BoolVar(&o.keep, "keep", false, "leave the directories that were built where they are")
	fs.StringVar(&o.dir, "dir", "", "directory to measure as it is found, or to build one shape in if it is empty or not there (default: a temporary one, on tmpfs if it has room)")
	fs.StringVar(&o.generator, "generator", "go", "what writes the value files, but for L-ruby: go or python")
	fs.StringVar(&o.program, "promagg", "", "promagg program to measure over HTTP (default: built from this tree)")
	fs.IntVar(&o.writers, "writers", 0, "writers, each with one value file (default: the shape's)")
	fs.IntVar(&o.entries, "entries", 0, "series of each writer (default: the shape's)")
	fs.IntVar(&o.runs, "runs", 7, "rounds; the table has their median")
	fs.Uint64Var(&o.seed, "seed", 0, "seed of the values (default: from the clock)")
	fs.DurationVar(&o.wait, "wait", 16*time.Second, "how long a daemon gets to find out which writers live: its rescan interval and some more")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.seed = cmp.Or(o.seed, uint64(time.Now().UnixNano())%1e9) // short enough to retype
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("want no arguments, got %q", fs.Args())
	case o.writers < 0 || o.entries < 0 || o.runs < 1:
		return o, fmt.Errorf("-writers, -entries, -runs: want at least 0, 0 and 1, got %d, %d, %d", o.writers, o.entries, o.runs)
	case o.generator != "go" && o.generator != "python":
		return o, fmt.Errorf("-generator: want go or python, got %q", o.generator)
	case o.big && !o.growth && !o.fleet:
		return o, errors.New("-big: want it with -growth or -fleet")
	case o.fleet && (o.growth || o.dir != "" || o.shape != "" || o.entries > 0):
		return o, errors.New("-fleet: want it without -growth, -dir, -shape and -entries")
	case o.growth && (o.dir != "" || o.shape != "" || o.writers > 0 || o.entries > 0):
		return o, errors.New("-growth: want it without -dir, -shape, -writers and -entries")
	}
	chosen, err := o.shapes()
	if err == nil && o.dir != "" && len(chosen) != 1 {
		err = fmt.Errorf("-dir: want one shape with -shape, got %d", len(chosen))
	}
	return o, err
}

// shapes returns what to measure.
func (o options) shapes() ([]shape, error) {
	if o.shape != "" {
		return shapesOf(o.shape)
	}
	if !o.quick {
		return shapes, nil
	}
	return slices.DeleteFunc(slices.Clone(shapes), func(s shape) bool { return !s.quick }), nil
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
	b := &bench{options: o, work: work, python: findPython(ctx, pythons), ruby: findRuby(ctx, rubies), log: stderr}
	r := &report{Machine: thisMachine(), Python: b.python.version, Ruby: b.ruby.version} // before we make load of our own
	switch {
	case o.fleet:
		if r.Fleets, err = b.measureFleets(ctx); err != nil {
			return err
		}
	case o.growth:
		if r.Growth, err = b.measureGrowth(ctx, growthSizes(o.big)); err != nil {
			return err
		}
	default:
		if r.Sections, err = b.measureShapes(ctx); err != nil {
			return err
		}
	}
	if o.writers == 0 && o.entries == 0 && o.dir == "" {
		r.judge()
	}
	if o.json {
		return r.writeJSON(stdout)
	}
	return r.writeTable(stdout)
}

// measureShapes measures one shape after the other.
func (b *bench) measureShapes(ctx context.Context) (sections []*section, err error) {
	chosen, err := b.shapes()
	if err != nil {
		return nil, err
	}
	for _, s := range chosen {
		measured, err := b.measureShape(ctx, s.sized(b.options))
		if tolerable(err) {
			measured, err = &section{Directory: directoryReport{Name: s.name, About: s.about, NotMeasured: err.Error()}}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		sections = append(sections, measured)
	}
	return sections, nil
}

func (b *bench) measureShape(ctx context.Context, s shape) (*section, error) {
	if err := b.obtain(ctx, s); err != nil {
		return nil, err
	}
	defer b.dir.remove(b.keep, b.log)
	if b.dir.shape.churn {
		return b.measureChurn(ctx)
	}
	return b.measure(ctx, tableFor(b.dir.shape))
}
