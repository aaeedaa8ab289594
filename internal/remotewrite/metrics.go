package remotewrite

import (
	"sync/atomic"
	"time"
)

// Dropped is why points left the queue without having been sent.
type Dropped uint8

// The reasons for which points are dropped.
const (
	DroppedQueue     Dropped = iota // the queue was full
	DroppedAge                      // they were too old
	DroppedAtStop                   // the time for the last flush was up
	DroppedDuplicate                // their series has had a value in this snapshot: labels differ in ones without a value only
	droppedCount
)

var droppedNames = [...]string{DroppedQueue: "queue-full", DroppedAge: "age", DroppedAtStop: "stop", DroppedDuplicate: "duplicate"}

// String returns the reason as a label value.
func (d Dropped) String() string { return droppedNames[d] }

// DroppedReasons returns all reasons.
func DroppedReasons() []Dropped {
	all := make([]Dropped, droppedCount)
	for i := range all {
		all[i] = Dropped(i)
	}
	return all
}

// Stats counts what an exporter has done since its start. Samples are points, stale
// markers included.
type Stats struct {
	Snapshots        uint64 // that were taken and queued
	SnapshotFailures uint64 // that could not be taken
	Sent             uint64 // samples that the receiver has confirmed
	Retried          uint64 // samples that were sent again, each time
	Failed           uint64 // samples that the receiver has refused for good
	Dropped          map[Dropped]uint64
	Queued           int       // samples that wait, or are being sent
	Requests         uint64    // that were made, each retry one
	LastSuccess      time.Time // of the last request that was confirmed; zero for none
	Fallback         bool      // the receiver gets remote write 1.0
}

// lost is how many samples were dropped.
func (s *Stats) lost() (n uint64) {
	for _, dropped := range s.Dropped {
		n += dropped
	}
	return n
}

// counts is what Stats is made of. It is safe for concurrent use.
type counts struct {
	snapshots, snapshotFailures, sent, retried, failed, requests atomic.Uint64
	dropped                                                      [droppedCount]atomic.Uint64
	lastSuccess                                                  atomic.Int64 // Unix milliseconds
	fallback                                                     atomic.Bool
}

func (c *counts) drop(why Dropped, points int) {
	if points > 0 {
		c.dropped[why].Add(uint64(points))
	}
}

// Stats returns what the exporter has done so far.
func (e *Exporter) Stats() Stats {
	c := &e.counts
	s := Stats{
		Snapshots: c.snapshots.Load(), SnapshotFailures: c.snapshotFailures.Load(),
		Sent: c.sent.Load(), Retried: c.retried.Load(), Failed: c.failed.Load(), Requests: c.requests.Load(),
		Queued: e.queue.len(), Fallback: c.fallback.Load(), Dropped: make(map[Dropped]uint64, droppedCount),
	}
	for why := range c.dropped {
		s.Dropped[Dropped(why)] = c.dropped[why].Load()
	}
	if at := c.lastSuccess.Load(); at != 0 {
		s.LastSuccess = time.UnixMilli(at)
	}
	return s
}
