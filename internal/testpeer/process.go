package testpeer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take that normally takes no time at all.
// It is generous because the machine may be small and busy.
const patience = 90 * time.Second

// Process is a program that a test started, in a session of its own so that
// its children can be stopped with it.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  outputLog
	done chan struct{} // closed once the process is reaped
	err  error         // what Wait said; valid after done
}

// running holds the processes to stop if the test program is interrupted.
var running struct {
	mu  sync.Mutex // protects set
	set map[*Process]bool
}

// Start starts cmd. Its stderr, and its stdout if the caller does not redirect
// it, are kept and shown if the test fails. The process and all its
// descendants are stopped when the test ends.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.log
	}
	// A descendant that inherited the output must not keep Wait from returning.
	cmd.WaitDelay = 5 * time.Second

	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	// setsid(1) replaces itself with the program, so the PID is the program's own.
	cmd.Args = append([]string{"setsid", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = setsid
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	running.mu.Lock()
	if running.set == nil {
		running.set = map[*Process]bool{}
	}
	running.set[p] = true
	running.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s (pid %d, ended with %v):\n%s", p.name, p.Pid(), p.err, p.Log())
		}
	})
	return p
}

// Pid is the process' own PID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is what the process has written so far (the end of it, if that is much).
func (p *Process) Log() string { return p.log.String() }

// Exited says whether the process has ended, and with what error.
func (p *Process) Exited() (bool, error) {
	select {
	case <-p.done:
		return true, p.err
	default:
		return false, nil
	}
}

// Kill sends SIGKILL to this process alone and returns when it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill %s: %v", p.name, err)
	}
	p.Wait(t)
}

// Signal sends a signal, by its name ("INT"), to the process and all its descendants in
// its session, as a terminal does.
func (p *Process) Signal(name string) error {
	return kill(name, "-"+strconv.Itoa(p.Pid()))
}

// Wait returns when the process has ended, with its exit error.
func (p *Process) Wait(t testing.TB) error {
	t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		t.Fatalf("%s (pid %d) has not ended after %v", p.name, p.Pid(), patience)
		return nil
	}
}

// Stop asks the process and its descendants to end (SIGTERM), kills what has
// not ended in time, and returns the exit error of the process itself.
func (p *Process) Stop() error {
	if ended, _ := p.Exited(); !ended {
		p.Signal("TERM")
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			p.Signal("KILL")
			<-p.done
			p.err = errors.Join(errors.New("had to be killed"), p.err)
		}
	}
	// Whoever is left ignored the SIGTERM or was never told to end.
	for _, pid := range p.session() {
		kill("KILL", strconv.Itoa(pid))
	}
	running.mu.Lock()
	delete(running.set, p)
	running.mu.Unlock()
	return p.err
}

// session lists the processes that live in the session of p.
func (p *Process) session() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		f := statFields(path)
		if len(f) > 3 && f[3] == strconv.Itoa(p.Pid()) && f[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill runs kill(1). A target starting with "-" is a process group.
func kill(name, target string) error {
	out, err := exec.Command("sh", "-c", `kill -s "$1" -- "$2"`, "sh", name, target).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kill -s %s %s: %w: %s", name, target, err, out)
	}
	return nil
}

// SignalPid sends a signal, by its name ("KILL"), to one process.
func SignalPid(t testing.TB, name string, pid int) {
	t.Helper()
	if err := kill(name, strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
}

// Ended returns once a process that somebody else has started holds nothing any more:
// it is gone, or a zombie.
func Ended(t testing.TB, pid int) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("process %d to end", pid), patience, func() error {
		if f := statFields(filepath.Join("/proc", strconv.Itoa(pid), "stat")); len(f) > 0 && f[0] != "Z" {
			return fmt.Errorf("it is in state %s", f[0])
		}
		return nil
	})
}

// statFields are the fields of a /proc/PID/stat from the state on, none of a process
// that is gone.
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	// The program's name is in parentheses and may hold anything; behind it stand
	// state, parent, group and session.
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// Children lists the child processes of pid.
func Children(t testing.TB, pid int) []int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatalf("children: %v", err)
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("children of %d: %v", pid, err)
		}
		pids = append(pids, child)
	}
	return pids
}

// outputLog keeps the end of what a process writes.
type outputLog struct {
	mu  sync.Mutex // protects buf
	buf []byte
}

const outputLogMax = 256 << 10

func (l *outputLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	if over := len(l.buf) - outputLogMax; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(b), nil
}

func (l *outputLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
