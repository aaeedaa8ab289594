package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// systemd is the service manager that promagg was started by, as a service of
// Type=notify. Without one (no NOTIFY_SOCKET) all it does comes to nothing.
type systemd struct{ log *slog.Logger }

// say sends a state. A manager that can't be told is no reason to stop serving.
func (s systemd) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd was not told of the service's state, and may restart it; NotifyAccess=main has to be in force, and NOTIFY_SOCKET to be in reach", "state", state, "err", err)
	}
}

// attend tells that the service is ready once it is, and from then on that it is alive,
// as long as nothing is stuck. A watchdog that is told so by a timer alone would notice
// no more than that the timer runs. It returns when ctx ends.
func (s systemd) attend(ctx context.Context, ready func() bool, stuck func() error) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog is not told that promagg is alive: systemd sets WATCHDOG_USEC", "err", err)
	}
	if !every(ctx, lookForReady, func() bool { return !ready() }) {
		return
	}
	s.say(daemon.SdNotifyReady + "\nSTATUS=serving")
	if within == 0 {
		return
	}
	failing := false
	every(ctx, within/3, func() bool { // twice may come late
		switch err := stuck(); {
		case err == nil:
			failing = false
			s.say(daemon.SdNotifyWatchdog)
		case !failing: // said once; systemd says the rest
			failing = true
			s.log.Error("the watchdog is told nothing until this is over", "err", err, "watchdog", within)
			s.say("STATUS=" + err.Error())
		}
		return true
	})
}

// stopping tells that the service ends, which may take until the last scrape is answered.
func (s systemd) stopping() { s.say(daemon.SdNotifyStopping + "\nSTATUS=answering the last scrapes") }

// reloading tells that the configuration is read anew while reload runs.
func (s systemd) reloading(reload func()) {
	s.say(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer s.say(daemon.SdNotifyReady)
	reload()
}

// lookForReady is how often it is looked whether the directory was read for the first time.
const lookForReady = 20 * time.Millisecond

// every calls do at once and then in that interval, until do returns false or ctx
// ends: then it returns false.
func every(ctx context.Context, interval time.Duration, do func() bool) bool {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for do() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
