package multiproc

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// handClock is a clock that a test moves.
type handClock struct{ ahead atomic.Int64 }

func (c *handClock) now() time.Time          { return time.Unix(0, 0).Add(time.Duration(c.ahead.Load())) }
func (c *handClock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func stuck(t *testing.T, d *Dir, want string) {
	t.Helper()
	err := d.Stuck(30 * time.Second)
	if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
		t.Errorf("stuck: %v, want %q", err, want)
	}
}

// TestStuckMerge: a merge that does not end is told of while it holds the directory,
// and is forgotten when it has ended after all.
func TestStuckMerge(t *testing.T) {
	clock := new(handClock)
	d := Open(Options{Path: t.TempDir(), Now: clock.now})
	defer d.Close()
	d.Sync(true)
	stuck(t, d, "")
	// What a filesystem that hangs does, the clock does here: it is asked under the lock.
	entered, leave, hang := make(chan bool), make(chan bool), atomic.Bool{}
	hang.Store(true)
	d.opts.Now = func() time.Time {
		if d.pulse.merging.ns.Load() != 0 && hang.CompareAndSwap(true, false) {
			entered <- true
			<-leave
		}
		return clock.now()
	}
	done := make(chan error)
	go func() {
		_, err := d.Snapshot(context.Background())
		done <- err
	}()
	<-entered
	clock.advance(30 * time.Second)
	stuck(t, d, "")
	clock.advance(time.Second)
	stuck(t, d, "a merge has taken 31s so far: see whether the filesystem of "+d.opts.Path+" hangs")
	leave <- true
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stuck(t, d, "")
}

// TestStuckLook: the first look counts from the start, the others from the last one.
func TestStuckLook(t *testing.T) {
	clock := new(handClock)
	d := Open(Options{Path: t.TempDir(), Now: clock.now})
	defer d.Close()
	clock.advance(40 * time.Second)
	stuck(t, d, "the first look at the directory has taken 40s so far")
	d.Sync(false)
	stuck(t, d, "")
	clock.advance(31 * time.Second)
	stuck(t, d, "the directory was last looked at 31s ago")
}

// TestStuckWatch: that scrapes look at the directory does not hide that the watch has
// stopped.
func TestStuckWatch(t *testing.T) {
	clock := new(handClock)
	d := Open(Options{Path: t.TempDir(), Now: clock.now, Rescan: 10 * time.Millisecond})
	defer d.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() {
		d.Run(ctx)
		close(ended)
	}()
	testpeer.WaitFor(t, "Run", time.Minute, func() error {
		if d.pulse.watching.ns.Load() == 0 || !d.Ready() {
			return context.DeadlineExceeded
		}
		return nil
	})
	clock.advance(time.Hour)
	testpeer.WaitFor(t, "a turn", time.Minute, func() error { return d.Stuck(30 * time.Second) })
	// Whatever Run does waits for this lock.
	d.mu.Lock()
	testpeer.WaitFor(t, "the watch to stand still", time.Minute, func() error {
		clock.advance(time.Minute) // it may be about to note one more turn
		d.syncLocked(false)
		if err := d.Stuck(30 * time.Second); err == nil || !strings.HasPrefix(err.Error(), "the watch on the directory has stood still for ") {
			return fmt.Errorf("stuck: %v", err)
		}
		return nil
	})
	d.mu.Unlock()
	testpeer.WaitFor(t, "the watch to go on", time.Minute, func() error { return d.Stuck(30 * time.Second) })
	stop()
	<-ended
	clock.advance(time.Hour)
	d.Sync(false)
	stuck(t, d, "") // nobody says that Run must be there
}
