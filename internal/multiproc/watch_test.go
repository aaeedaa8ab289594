package multiproc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// run keeps the directory watched until the test ends.
func run(t *testing.T, d *Dir) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

func waitFiles(t *testing.T, d *Dir, what string, n int, watching bool) {
	t.Helper()
	testpeer.WaitFor(t, what, 30*time.Second, func() error {
		if s := d.Stats(); s.Files != n || s.Watching != watching {
			return fmt.Errorf("%d files, watching %v", s.Files, s.Watching)
		}
		return nil
	})
}

// TestRunFindsFiles: new files are indexed before anyone asks for a snapshot,
// with a rescan interval that never comes.
func TestRunFindsFiles(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	run(t, d)
	waitFiles(t, d, "a watch", 0, true)
	if !d.Ready() {
		t.Error("not ready after the first scan")
	}
	for i := range 5 {
		write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		waitFiles(t, d, "a new file", i+1, true)
	}
	if err := os.Remove(filepath.Join(dir, "counter_0.db")); err != nil {
		t.Fatal(err)
	}
	waitFiles(t, d, "a deleted file", 4, true)
}

// TestRunFollowsDirectory: the watch moves to whatever directory has the name,
// and one that is missing is logged once each time.
func TestRunFollowsDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "metrics")
	d, log := open(t, dir, mmapfile.ProbeOff)
	d.opts.Rescan = 20 * time.Millisecond
	run(t, d)
	testpeer.WaitFor(t, "the log to miss the directory", 30*time.Second, func() error {
		if log.count("is not there") != 1 {
			return fmt.Errorf("log: %s", log)
		}
		return nil
	})
	for i := range 3 {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "counter_1.db", "c_total", 1)
		waitFiles(t, d, "the new directory", 1, true)
		if err := os.Rename(dir, fmt.Sprint(dir, i)); err != nil {
			t.Fatal(err)
		}
		waitFiles(t, d, "no directory", 0, false)
	}
	if n := log.count("is not there"); n != 4 {
		t.Errorf("the directory was missed 4 times and %d times in the log:\n%s", n, log)
	}
}

// TestRunSameInode: a directory that is removed and made again often gets the
// inode of the old one. The watch must be a new one all the same.
func TestRunSameInode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, _ := open(t, dir, mmapfile.ProbeOff)
	run(t, d)
	waitFiles(t, d, "a watch", 0, true)
	for round := range 5 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		// The old watch's end and the new watch are news of their own; a file has
		// to be found by the watch that there is in the end.
		testpeer.WaitFor(t, "a watch that works", 30*time.Second, func() error {
			base := filepath.Join(dir, fmt.Sprintf("counter_%d.db", time.Now().UnixNano()))
			if err := os.WriteFile(base, nil, 0o644); err != nil {
				return err
			}
			defer os.Remove(base)
			for range 20 {
				if d.Stats().Files > 0 {
					return nil
				}
				time.Sleep(5 * time.Millisecond)
			}
			return fmt.Errorf("round %d: a new file is not seen", round)
		})
		waitFiles(t, d, "its deletion", 0, true)
	}
}

// TestRunUnderEvents: events that never end do not keep a new file from being
// found.
func TestRunUnderEvents(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	run(t, d)
	waitFiles(t, d, "a watch", 0, true)
	stop := make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = os.WriteFile(filepath.Join(dir, "counter_noise.db"), make([]byte, 8*(i%100)), 0o644)
			}
		}
	})
	defer noise.Wait()
	defer close(stop)
	for i := range 3 {
		write(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
		waitFiles(t, d, "a new file", i+2, true)
	}
}

// TestOverflow fills the kernel's event queue while nobody reads it. Afterwards
// promagg knows all files all the same, without being asked for a snapshot.
func TestOverflow(t *testing.T) {
	dir := t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeOff)
	run(t, d)
	waitFiles(t, d, "a watch", 0, true)
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var events int
	if _, err := fmt.Sscan(string(limit), &events); err != nil || events > 1<<20 {
		t.Fatalf("max_queued_events %s: %v", limit, err)
	}
	d.mu.Lock() // the watcher's next look waits here
	other := filepath.Join(dir, "other")
	for range events {
		if err := os.WriteFile(other, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "counter_1.db", "c_total", 1) // its events are dropped
	d.mu.Unlock()
	waitFiles(t, d, "the file whose event was lost", 1, true)
	if n := log.count("level=WARN"); n > 0 {
		t.Errorf("an overflow is no reason to warn:\n%s", log)
	}
}

// TestBehind: the age of the last look grows as long as nobody looks.
func TestBehind(t *testing.T) {
	d, _ := open(t, t.TempDir(), mmapfile.ProbeOff)
	now := time.Unix(1000, 0)
	d.opts.Now = func() time.Time { return now }
	if d.Behind() != 0 || d.Ready() {
		t.Error("ready before the first look")
	}
	d.Sync(true)
	now = now.Add(time.Minute)
	if d.Behind() != time.Minute || !d.Ready() {
		t.Errorf("behind by %v, ready %v", d.Behind(), d.Ready())
	}
}
