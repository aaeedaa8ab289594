package main

import (
	"context"
	"io"
	"time"
)

// contestant is one way to get the merged values of a directory.
type contestant struct {
	name    string
	about   string // what one scrape is
	scrapes int    // in a turn
	slow    bool   // -quick gives it 3 rounds
	start   func(context.Context, *bench) (scraper, error)
}

// Two contestants are what the others are compared with.
const (
	limitName  = "limit"
	pythonName = "python"
)

// How many scrapes a turn has: enough for a CPU clock that ticks 100 times a
// second, and only one of what has to be made anew for each.
const turnScrapes = 20

var contestants = []contestant{
	{name: limitName, about: "a loop that touches each value once, one core", scrapes: turnScrapes, start: startTouch},
	{name: "promagg library", about: "Dir.Snapshot and its text, steady state", scrapes: turnScrapes, start: startLibrary},
	{name: "promagg http", about: "promagg serve, keep-alive, identity encoding", scrapes: turnScrapes, start: startServe},
	{name: "promagg cold", about: "open, first snapshot and its text", scrapes: 1, start: startCold},
	{name: pythonName, about: "MultiProcessCollector and generate_latest", scrapes: 1, slow: true, start: startPython},
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
func (inProcess) cpu() (time.Duration, error) { return cpuTime("self") }

// answer is what a scrape got.
type answer struct {
	took time.Duration
	// text is the exposition, good until the next scrape. A contestant that makes
	// none has the sum of the values instead.
	text []byte
	own  string // prefix of the names in text that are the contestant's own metrics
	sum  float64
	read int // values that sum is the sum of
}

// bench is one run.
type bench struct {
	options
	dir    directory
	work   string // temporary directory, for programs
	python python
	log    io.Writer
}

// notMeasured is returned by a contestant that is not there to be measured.
type notMeasured struct{ cause error }

func (e notMeasured) Error() string { return "not measured: " + e.cause.Error() }
func (e notMeasured) Unwrap() error { return e.cause }
