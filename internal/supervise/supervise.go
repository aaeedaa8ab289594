package supervise

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is what to run.
type Program struct {
	Path string   // its file
	Argv []string // its arguments, its name first
	Env  []string
	// Grace is how long leftovers have, once the application has ended, between SIGTERM
	// and SIGKILL.
	Grace time.Duration
	Log   *slog.Logger
}

// Ended says how a program has ended.
type Ended struct {
	Status int  // as a shell has it: 128+n for signal n
	Asked  bool // whether a signal that was passed on had asked it to stop
}

// unkillable is how long a process may take to be gone after SIGKILL. One that hangs in
// the kernel can take for ever, and is left then.
const unkillable = 5 * time.Second

// Run starts the program and returns when it and its leftovers have ended. An error is
// that of the start: nothing has run then. It may be called once.
func (c *Caught) Run(p Program) (Ended, error) {
	// The parent-death signal is sent when the thread ends that has started the child,
	// not only when the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := reapOrphans(); err != nil {
		p.Log.Warn("processes that the application leaves behind will not be waited for", "err", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	pid, err := syscall.ForkExec(p.Path, p.Argv, &syscall.ProcAttr{Env: p.Env, Files: []uintptr{0, 1, 2}, Sys: childAttr()})
	if err != nil {
		return Ended{}, fmt.Errorf("start %s: %w", p.Path, err)
	}
	p.Log.Info("application started", "pid", pid)
	s := &supervisor{Program: p, app: pid, first: pid, asked: map[int]bool{}}
	for !s.reap() {
		select {
		case <-ended:
		case sig := <-c.c:
			s.signal(sig.(syscall.Signal), time.Now())
		case <-s.due:
			if s.killing {
				p.Log.Error("some processes that the application has left behind can't be killed and are left")
				return s.end, nil
			}
			p.Log.Warn("processes that the application has left behind are killed", "after", p.Grace)
			s.kill()
		}
	}
	return s.end, nil
}

// supervisor is a program under way. All of it belongs to the goroutine of Run. As the
// same goroutine reaps and sends signals, no signal goes to a PID that is somebody
// else's by now.
type supervisor struct {
	Program
	app      int // 0 once it has ended
	first    int // the process that was started, and its process group
	end      Ended
	stopped  bool             // a stop has been passed on
	last     syscall.Signal   // the last stop
	lastAt   time.Time        // and when it came
	killing  bool             // everything is to be killed
	upgrade  *upgrade         // what SIGUSR2 may have begun
	asked    map[int]bool     // the leftovers that were told to end
	due      <-chan time.Time // when leftovers have had their time
	leftover bool             // leftovers have been looked for
}

// reap waits for all children that have ended, and reports whether that was all of
// them.
func (s *supervisor) reap() (over bool) {
	for pid := -1; pid != 0 && !over; {
		var status unix.WaitStatus
		var err error
		pid, err = unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // ECHILD: there are none
			over = true
		case pid == 0: // none of them has ended
		case pid == s.app:
			s.app, s.end.Status = 0, statusOf(status)
		default:
			delete(s.asked, pid)
		}
	}
	if s.app != 0 {
		return false
	}
	if next := s.successor(); next != 0 && !over {
		s.Log.Info("the application has handed over to another process", "pid", next)
		s.app, s.upgrade = next, nil
		return false
	}
	if !over {
		s.endLeftovers()
	}
	return over
}

func statusOf(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// sameStop is how soon after a stop the same signal is still the same stop: timeout(1),
// and whoever signals a process and then its group, sends it twice and means it once.
const sameStop = 200 * time.Millisecond

// signal passes a signal on that came at now, or does what it is for.
func (s *supervisor) signal(sig syscall.Signal, now time.Time) {
	if stop(sig) {
		if sig == s.last && now.Sub(s.lastAt) < sameStop {
			return
		}
		s.last, s.lastAt = sig, now
	}
	second := s.stopped && stop(sig)
	s.stopped = s.stopped || stop(sig)
	s.end.Asked = s.end.Asked || stop(sig) || sig == unix.SIGQUIT
	switch {
	case second && !s.killing:
		s.Log.Warn("asked to stop again: the application is killed")
		s.kill()
		return
	case s.app == 0:
		// The leftovers have been told to end. This is no application to tell more.
		return
	}
	switch sig {
	case unix.SIGUSR2:
		s.upgrade = beginUpgrade(s.app)
	case unix.SIGTSTP:
		s.suspend()
		return
	case unix.SIGCONT:
		s.sendGroup(sig)
		return
	}
	_ = unix.Kill(s.app, sig) // an error: it runs as another user by now, who is told by nobody else either
}

// suspend stops the application and this process, as Ctrl-Z does with programs that
// share a terminal. SIGTSTP would do nothing to the application, which has no terminal.
// Where there is no shell that could continue us, it does nothing.
func (s *supervisor) suspend() {
	if sid, err := unix.Getsid(0); err != nil || sid == os.Getpid() {
		return
	}
	s.sendGroup(unix.SIGSTOP)
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
}

// sendGroup sends a signal to the application with its process group, if it is still
// the one that was given a group of its own.
func (s *supervisor) sendGroup(sig syscall.Signal) {
	if s.app == s.first && unix.Kill(-s.app, sig) == nil {
		return
	}
	_ = unix.Kill(s.app, sig)
}

// kill kills the application; what it leaves behind is killed when it is gone.
func (s *supervisor) kill() {
	s.killing, s.due = true, time.After(unkillable)
	if s.app != 0 {
		s.sendGroup(unix.SIGKILL)
	} else {
		s.endLeftovers()
	}
}

// endLeftovers tells each leftover once to end, or kills them all. When one ends, those
// that it leaves behind become ours, and this is called again.
func (s *supervisor) endLeftovers() {
	if !s.leftover && !s.killing {
		s.leftover, s.due = true, time.After(s.Grace)
	}
	for _, p := range children() {
		switch {
		case s.killing:
			_ = unix.Kill(p.pid, unix.SIGKILL)
		case !s.asked[p.pid]:
			s.asked[p.pid] = true
			s.Log.Warn("the application has left a process behind, which is told to end", "pid", p.pid, "name", p.name, "hint", "a server is not to make itself a daemon here")
			_ = unix.Kill(p.pid, unix.SIGTERM)
			_ = unix.Kill(p.pid, unix.SIGCONT) // one that is stopped hears nothing
		}
	}
}
