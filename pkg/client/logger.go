package client

import (
	"log/slog"
	"sync"
)

// logger logs from goroutines of its own: who tells it something holds locks that
// a log handler, which may count its lines with our metrics, can want.
type logger struct {
	to *slog.Logger

	mu      sync.Mutex // protects pending
	pending int        // lines that are not written yet
	idle    *sync.Cond // pending is 0
}

func newLogger(to *slog.Logger) *logger {
	l := &logger{to: to}
	l.idle = sync.NewCond(&l.mu)
	return l
}

// tell logs an error.
func (l *logger) tell(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending++
	go func() {
		l.to.Error(msg, args...)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.pending--; l.pending == 0 {
			l.idle.Broadcast()
		}
	}()
}

// wait returns once all lines are written.
func (l *logger) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.pending > 0 {
		l.idle.Wait()
	}
}
