package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// contestant is one way to get the merged values of a directory.
type contestant struct {
	name    string
	about   string // what one scrape is
	scrapes int    // in a turn
	slow    bool   // -quick gives it 3 rounds
	cores   int    // GOMAXPROCS of this process for a turn; 0: all
	// on tells for which shapes it is measured; nil: for all.
	on    func(shape) bool
	start func(context.Context, *bench) (scraper, error)
}

// The names that marks and ratios refer to.
const (
	limitName    = "limit"
	limitAllName = "limit all cores"
	libraryName  = "promagg library"
	library1Name = "promagg library 1 core"
	httpName     = "promagg http"
	namedName    = "promagg http name[]"
	herdName     = "promagg http 200 at once"
	bareName     = "bare http"
	bareHerdName = "bare http 200 at once"
	coldName     = "promagg cold"
	pythonName   = "python"
	rubyName     = "ruby"
)

// How many scrapes a turn has: enough for a median, and only one of what has to be
// made anew for each.
const turnScrapes = 20

var contestants = []contestant{
	{name: limitName, about: "a loop that touches each live value once, one core", scrapes: turnScrapes, cores: 1, start: startTouch},
	{name: limitAllName, about: "the loop that touches each live value once, each core with a share of the files", scrapes: turnScrapes, start: startTouchAll},
	{name: library1Name, about: "Dir.Snapshot and its text, steady state, GOMAXPROCS=1", scrapes: turnScrapes, cores: 1, start: startLibrary},
	{name: libraryName, about: "Dir.Snapshot and its text, steady state, all cores", scrapes: turnScrapes, start: startLibrary},
	{name: httpName, about: "promagg serve, keep-alive, identity encoding", scrapes: turnScrapes, start: startServe},
	{name: "promagg http gzip", about: "promagg serve, keep-alive, gzip encoding; unpacking it is not counted", scrapes: 3, on: named("L", "W"), start: startGzip},
	{name: namedName, about: "promagg serve, keep-alive, identity encoding, ?name[]= of one family", scrapes: turnScrapes, on: named("W"), start: startNamed},
	{name: herdName, about: "promagg serve; a scrape is 200 GETs on 200 connections at once, over when the last one is answered", scrapes: 5, on: named("L"), start: startHerd},
	{name: bareName, about: "a server in Go that has the same bytes ready", scrapes: turnScrapes, on: named("L", "L-dead"), start: startBare},
	{name: "bare http name[]", about: "that server with the bytes of the one family", scrapes: turnScrapes, on: named("W"), start: startBareNamed},
	{name: bareHerdName, about: "200 GETs on 200 connections at once of that server", scrapes: 5, on: named("L"), start: startBareHerd},
	{name: coldName, about: "open, first snapshot and its text", scrapes: 1, start: startCold},
	{name: pythonName, about: "MultiProcessCollector and generate_latest", scrapes: 1, slow: true, on: func(s shape) bool { return !s.ruby }, start: startPython},
	{name: rubyName, about: "Formats::Text.marshal_multiprocess of the mmap client", scrapes: 1, slow: true, on: func(s shape) bool { return s.ruby }, start: startRuby},
}

// named returns an on for the shapes of these names.
func named(names ...string) func(shape) bool {
	return func(s shape) bool {
		for _, name := range names {
			if s.name == name {
				return true
			}
		}
		return false
	}
}

// tableFor returns the contestants of a shape.
func tableFor(s shape) []contestant {
	var table []contestant
	for _, c := range contestants {
		if c.on == nil || c.on(s) {
			table = append(table, c)
		}
	}
	return table
}

// scraper is a contestant at work. It is for one goroutine.
type scraper interface {
	// scrape gets the values once and tells how long that took.
	scrape() (answer, error)
	// rest is called after each turn, outside of what is measured.
	rest()
	// cpu is the CPU time used so far by the process that does the work.
	cpu() (time.Duration, error)
	close() error
}

// inProcess is a scraper that works in the benchmark's own process, so that its
// allocations can be counted.
type inProcess struct{}

func (inProcess) here()                       {} // tells it from the others
func (inProcess) rest()                       {}
func (inProcess) cpu() (time.Duration, error) { return cpuTime(os.Getpid()) }

// answer is what a scrape got.
type answer struct {
	took time.Duration
	// text is the exposition, good until the next scrape. A contestant that makes
	// none has the sum of the values instead.
	text   []byte
	others [][]byte // what others got at the same time
	own    string   // prefix of the names in text that are the contestant's own metrics
	only   string   // the one sample name that was asked for; empty for all
	sum    float64
	read   int // values that sum is the sum of
}

// bench is one run.
type bench struct {
	options
	dir          directory
	work         string // temporary directory, for programs
	python, ruby peer
	log          io.Writer
}

// promagg builds the program, once in a run, unless -promagg names one.
func (b *bench) promagg(ctx context.Context) (path string, err error) {
	if b.program != "" {
		return b.program, nil
	}
	path = filepath.Join(b.work, "promagg")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "github.com/promagg/promagg/cmd/promagg")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Makefile builds it
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build promagg: %w: %s", err, out)
	}
	return path, nil
}

// notMeasured is returned where something is not there to be measured.
type notMeasured struct{ cause error }

func (e notMeasured) Error() string { return "not measured: " + e.cause.Error() }
func (e notMeasured) Unwrap() error { return e.cause }

// tolerable reports whether an error says no more than that something is not
// there. With CI=true in the environment nobody would see that.
func tolerable(err error) bool {
	return errors.As(err, new(notMeasured)) && os.Getenv("CI") != "true"
}
