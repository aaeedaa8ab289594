package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// daemon is a promagg process.
type daemon struct {
	n    int
	cmd  *exec.Cmd
	up   chan struct{} // closed once it listens
	done chan struct{} // closed once it has ended and its log is read
	// floor is what its scrapes must not be below; it is of who scrapes it.
	floor map[string]float64

	mu      sync.Mutex         // protects all below
	address string             // where it listens
	self    map[string]float64 // what it said of itself last
	exit    error              // valid after done
}

// daemons starts promaggs and adds up what they say of themselves.
type daemons struct {
	program string
	dir     string
	logs    string
	level   string
	events  *events
	lowest  func() map[string]float64 // the floor of one that starts

	mu      sync.Mutex // protects all below
	started int
	kills   int
	folding int // kills while there was a sign of a fold
	running map[*daemon]bool
	self    map[string]float64
	says    map[string]int // messages of warnings and errors
}

var (
	listening = regexp.MustCompile(`msg="?listening"? .*address="?([0-9.:]+)`)
	complaint = regexp.MustCompile(`level=(?:WARN|ERROR) .*msg=("[^"]*"|\S+)`)
)

// keptLogs is how many daemons' logs are kept.
const keptLogs = 20

// start starts a promagg that folds at this interval.
func (ds *daemons) start(interval time.Duration) (*daemon, error) {
	ds.mu.Lock()
	ds.started++
	d := &daemon{n: ds.started, up: make(chan struct{}), done: make(chan struct{}), floor: ds.lowest()}
	ds.mu.Unlock()
	d.cmd = exec.Command(ds.program, "serve", "--dir="+ds.dir, "--web.listen-address=127.0.0.1:0",
		"--fold.interval="+interval.String(), "--log.level="+ds.level)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	name := func(n int) string { return filepath.Join(ds.logs, fmt.Sprintf("promagg-%d.log", n)) }
	log, err := os.Create(name(d.n))
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	_ = os.Remove(name(d.n - keptLogs)) // there is none at first
	ds.mu.Lock()
	ds.running[d] = true
	ds.mu.Unlock()
	ds.events.add("promagg %d starts, pid %d, fold interval %s", d.n, d.cmd.Process.Pid, interval)
	go ds.watch(d, stderr, log)
	return d, nil
}

// watch reads a daemon's log until it ends.
func (ds *daemons) watch(d *daemon, stderr io.Reader, log *os.File) {
	defer close(d.done)
	defer log.Close()
	out := bufio.NewWriter(log)
	defer out.Flush()
	up := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Bytes()
		out.Write(line)
		out.WriteByte('\n')
		if m := listening.FindSubmatch(line); m != nil && !up {
			up = true
			d.mu.Lock()
			d.address = string(m[1])
			d.mu.Unlock()
			close(d.up)
		}
		if m := complaint.FindSubmatch(line); m != nil {
			ds.mu.Lock()
			ds.says[string(m[1])]++
			ds.mu.Unlock()
		}
	}
	err := d.cmd.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exit = err
}

// listens waits until a daemon answers. It reports false where it ends before.
func (d *daemon) listens(ctx context.Context) bool {
	select {
	case <-d.up:
		return true
	case <-d.done:
	case <-ctx.Done():
	}
	return false
}

// url is where it is scraped. It must listen.
func (d *daemon) url() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return "http://" + d.address + "/metrics"
}

// said keeps what a daemon said of itself.
func (d *daemon) said(self map[string]float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self = self
}

// kill ends a daemon: by SIGKILL, or as an operator does. It returns an error if it had
// ended before by itself.
func (ds *daemons) kill(d *daemon, gently bool) error {
	ds.events.add("promagg %d is ended, gently=%v", d.n, gently)
	select {
	case <-d.done:
		return fmt.Errorf("promagg %d has ended by itself: %v, see promagg-%d.log", d.n, d.exit, d.n)
	default:
	}
	end := d.cmd.Process.Kill
	if gently {
		end = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	}
	if err := end(); err != nil {
		return fmt.Errorf("end promagg %d: %w", d.n, err)
	}
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	// One that does not listen yet may not have got to its signal handler.
	if gently && d.exit != nil && d.address != "" {
		return fmt.Errorf("promagg %d, told to stop: %w", d.n, d.exit)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.running, d)
	if !gently {
		ds.kills++
	}
	for name, v := range d.self {
		ds.self[name] += v
	}
	return nil
}

// killAll ends what runs, whatever comes of it.
func (ds *daemons) killAll() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for d := range ds.running {
		_ = d.cmd.Process.Kill() // it may be gone
	}
}
