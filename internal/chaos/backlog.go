package main

import (
	"context"
	"os"
	"sync/atomic"
	"time"
)

// backlog holds workers back while the directory has many files of dead ones: promaggs
// that live for a second do not catch up with what a busy machine makes them miss, and
// would be killed while they read a directory rather than while they fold one.
type backlog struct {
	high atomic.Bool
	held atomic.Int64 // times that it was high
}

// The directory is crowded from so many files on, until there are so few again.
const (
	crowded   = 4000
	uncrowded = 1000
)

// watch keeps an eye on a directory until ctx ends.
func (b *backlog) watch(ctx context.Context, dir string) {
	for sleep(ctx, 100*time.Millisecond) {
		names, err := namesIn(dir)
		if err != nil {
			continue // the next look may tell
		}
		switch n := len(names); {
		case n > crowded && !b.high.Swap(true):
			b.held.Add(1)
		case n < uncrowded:
			b.high.Store(false)
		}
	}
	b.high.Store(false)
}

// await waits until the backlog is low, and reports false if ctx ends first.
func (b *backlog) await(ctx context.Context) bool {
	for b.high.Load() {
		if !sleep(ctx, 50*time.Millisecond) {
			return false
		}
	}
	return true
}

// namesIn lists a directory, in no order.
func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
