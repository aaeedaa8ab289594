package supervise

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Caught is the signals that have come to this process since [Catch].
type Caught struct {
	c     chan os.Signal
	pipes chan os.Signal // SIGPIPE, which nobody reads
}

// Catch begins to collect signals, so that none of them ends this process, and none
// is lost that comes before there is an application to pass it to.
func Catch() *Caught {
	c := &Caught{make(chan os.Signal, 128), make(chan os.Signal, 1)}
	// Who reads our log may end before the application does. Writing to it fails then,
	// and is no reason to die, as the application would with us. It is caught and not
	// ignored, as what is ignored is inherited.
	signal.Notify(c.pipes, unix.SIGPIPE)
	for _, s := range passed() {
		// Who starts us with nohup(1) wants that neither we nor the application hear of it.
		if !signal.Ignored(s) {
			signal.Notify(c.c, s)
		}
	}
	return c
}

// passed are the signals that are passed on. Not among them are those that can't be
// caught, that tell a process of its own faults and children, or that Go uses itself.
func passed() []os.Signal {
	all := []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, unix.SIGCONT, unix.SIGALRM,
	}
	for s := firstRealTime; s <= lastRealTime; s++ {
		all = append(all, syscall.Signal(s))
	}
	return all
}

// stop reports whether a signal asks to stop.
func stop(s os.Signal) bool { return s == unix.SIGTERM || s == unix.SIGINT }

// Release ends what Catch has begun.
func (c *Caught) Release() {
	signal.Stop(c.c)
	signal.Stop(c.pipes)
}

// Await returns after d, or as soon as a signal comes that would end the process if it
// were not caught and that people send for that.
func (c *Caught) Await(d time.Duration) {
	over := time.After(d)
	for {
		select {
		case <-over:
			return
		case s := <-c.c:
			if stop(s) || s == unix.SIGQUIT || s == unix.SIGHUP {
				return
			}
		}
	}
}

// Waiting reports whether a signal has come that nobody has seen yet.
func (c *Caught) Waiting() bool { return len(c.c) > 0 }
