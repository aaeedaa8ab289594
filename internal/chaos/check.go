package main

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// checker compares scrapes with what is known of the workers, and with each other.
type checker struct {
	began time.Time

	mu    sync.Mutex // protects all below
	floor map[string]float64
	// aged are former floors, about one a second, the oldest first.
	aged []agedFloor
}

type agedFloor struct {
	floor map[string]float64
	at    time.Time
}

func newChecker(began time.Time) *checker {
	return &checker{began: began, floor: make(map[string]float64)}
}

// lowest returns what the scrapes of a promagg that starts now must not be below:
// what any other has answered.
func (c *checker) lowest() map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.floor)
}

// lift lifts the floor of a promagg to what others have answered that long ago that it
// has noticed what they had.
func (c *checker) lift(floor map[string]float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.aged) > 1 && time.Since(c.aged[1].at) > noticedIn {
		c.aged = c.aged[1:]
	}
	if len(c.aged) > 0 && time.Since(c.aged[0].at) > noticedIn {
		raise(floor, c.aged[0].floor)
	}
}

// answered notes what a scrape has answered.
func (c *checker) answered(got map[string]float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raise(c.floor, got)
	if n := len(c.aged); n == 0 || time.Since(c.aged[n-1].at) > time.Second {
		c.aged = append(c.aged, agedFloor{maps.Clone(c.floor), time.Now()})
	}
}

// raise raises what must not fall to what was seen of it.
func raise(floor, got map[string]float64) {
	for _, s := range samples {
		floor[s.line] = max(floor[s.line], got[s.line])
	}
	floor[newestLine] = max(floor[newestLine], got[newestLine])
}

const (
	newestLine = "chaos_newest"
	latestLine = "chaos_latest"
	livingLine = "chaos_living"
	serialLine = `chaos_serial{pid="`
)

// check returns what is wrong with a scrape, that must not be below floor.
func (c *checker) check(got map[string]float64, v *view, floor map[string]float64) (wrong []string) {
	fault := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, s := range samples {
		low, high := s.value(&v.done), s.value(&v.begun)
		if x := got[s.line]; !(x >= low && x <= high) { // a NaN is neither
			fault("%s is %v, want %v (done before) to %v (begun by its end): %+v or %+v", s.line, x, low, high, x-low, x-high)
		}
	}
	for line, low := range floor {
		if x := got[line]; !(x >= low) {
			fault("%s is %v, and was %v in an earlier scrape", line, x, low)
		}
	}
	now := float64(time.Now().UnixMicro() - c.began.UnixMicro())
	for _, line := range []string{newestLine, latestLine} {
		if x := got[line]; !(x >= v.newest && x <= now) {
			fault("%s is %v, want %v (set before) to %v (now)", line, x, v.newest, now)
		}
	}
	if x := got[livingLine]; !(x >= float64(len(v.must)) && x <= float64(v.most)) {
		fault("%s is %v, want %d (alive all the while) to %d (alive at some time)", livingLine, x, len(v.must), v.most)
	}
	serials := make(map[string]float64)
	for line, x := range got {
		if rest, ok := strings.CutPrefix(line, serialLine); ok {
			serials[strings.TrimSuffix(rest, `"}`)] = x
		}
	}
	for id := range serials {
		if !v.may[id] {
			fault("live gauges of %s are there, which had been dead before", id)
		}
	}
	for id, serial := range v.must {
		if x, there := serials[id]; !there || x != float64(serial) {
			fault("live gauge of %s is %v (there: %v), want %v", id, x, there, serial)
		}
	}
	return wrong
}
