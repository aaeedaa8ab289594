package supervise

import (
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSameStop: a stop that is sent twice at once, as timeout(1) does, is one; one that
// is sent again, or another one, is a second.
func TestSameStop(t *testing.T) {
	begin := time.Now()
	for _, c := range []struct {
		second unix.Signal
		after  time.Duration
		kills  bool
	}{
		{unix.SIGTERM, 0, false},
		{unix.SIGTERM, sameStop - 1, false},
		{unix.SIGTERM, sameStop, true},
		{unix.SIGINT, 0, true},
	} {
		s := &supervisor{Program: Program{Log: slog.New(slog.DiscardHandler)}, asked: map[int]bool{}}
		s.signal(unix.SIGTERM, begin)
		s.signal(c.second, begin.Add(c.after))
		if !s.stopped || s.killing != c.kills {
			t.Errorf("%s after %s: stopped %t, killing %t, want %t", c.second, c.after, s.stopped, s.killing, c.kills)
		}
	}
}
