package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServeSignals: a SIGHUP that comes while serve starts is heeded once it has
// started, and that nobody reads its log any more ends nothing.
func TestServeSignals(t *testing.T) {
	heedHangup()
	rules := newGate(t) // reading it waits for who writes
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command("promagg", "serve", "--dir", t.TempDir(), "--web.listen-address", "127.0.0.1:0", "--rules.file", rules)
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	write.Close()
	signal := func(s os.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}

	starting, err := os.OpenFile(rules, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	signal(unix.SIGHUP)
	starting.Close()
	go func() { // whoever reads it from here on finds it empty
		for t.Context().Err() == nil {
			if f, err := os.OpenFile(rules, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				f.Close()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := read.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	log, reloaded := bufio.NewScanner(read), false
	for !reloaded && log.Scan() {
		reloaded = strings.Contains(log.Text(), `msg="reloaded: nothing has changed" what=rules`)
	}
	if !reloaded {
		t.Fatalf("the log has ended without a word of a reload: %v", log.Err())
	}

	read.Close()
	signal(unix.SIGHUP)
	signal(unix.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
