package main

import (
	"os"
	"os/signal"

	"github.com/promagg/promagg/internal/mmapfile"
)

// caught are the signals that would end a daemon by default, and do not.
type caught struct {
	hangup chan os.Signal // SIGHUP, for who reloads
	pipe   chan os.Signal // SIGPIPE, which nobody reads
}

// catch is the first thing that a daemon does: a SIGHUP that comes while it starts waits
// until there is something to reload. That nobody reads its log any more is no reason to
// end.
func catch() *caught {
	c := &caught{make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(c.hangup, mmapfile.Hangup)
	signal.Notify(c.pipe, mmapfile.BrokenPipe)
	return c
}

func (c *caught) release() {
	signal.Stop(c.hangup)
	signal.Stop(c.pipe)
}
