// Package duration counts how long something takes, in a histogram that is cheap
// enough for what happens at every scrape: a few additions, and no allocation.
package duration

import "time"

// bounds are the upper bounds of the buckets but for the last, which has none. They
// reach from what a small directory takes to the time-out of a scrape.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 10 * time.Millisecond, 25 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

// Bounds returns the upper bounds of all buckets but the last, which has none.
func Bounds() []time.Duration { return bounds[:] }

// Histogram is how often something took how long. It is a value: a copy is what it
// was at that moment. Its methods are for one goroutine at a time.
type Histogram struct {
	// Counts are those of each bucket alone, the one without a bound last.
	Counts [len(bounds) + 1]uint64
	Sum    time.Duration
}

// Observe counts one time.
func (h *Histogram) Observe(took time.Duration) {
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += took
}
