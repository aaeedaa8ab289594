package mmapfile

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// StopSignals are the signals that ask a daemon to stop. They stand here
// because no other package of promagg imports syscall.
func StopSignals() []os.Signal { return []os.Signal{syscall.SIGINT, syscall.SIGTERM} }

// Terminate is the signal that asks another process to stop. It stands here for
// the same reason as [StopSignals].
var Terminate os.Signal = syscall.SIGTERM

// Hangup is the signal by which daemons are told to begin anew.
var Hangup os.Signal = syscall.SIGHUP

// BrokenPipe is the signal that tells who writes to standard output or standard error
// that nobody reads it any more.
var BrokenPipe os.Signal = syscall.SIGPIPE

// LossSignals tell a program in the foreground that its terminal is gone, or who
// was reading its output.
func LossSignals() []os.Signal { return []os.Signal{Hangup, BrokenPipe} }

// Exists reports whether there is a process of that PID, one that has ended and was
// not waited for included. It does not need /proc, which may not show the processes
// of others.
func Exists(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// Refused reports whether an error says that nobody listens on a socket that is there.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
