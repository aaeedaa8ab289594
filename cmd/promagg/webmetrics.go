package main

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promagg/promagg/internal/duration"
	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/limit"
)

// refusalReasons are why HTTP requests are refused or cut off.
var refusalReasons = []string{limit.Busy, limit.URL, limit.Body, string(expose.BadQuery), string(expose.NoMemory), string(expose.TooSlow)}

// webMetrics tell what the HTTP server refuses and how many connections it has. They
// are safe for concurrent use.
type webMetrics struct {
	refusals    []atomic.Uint64 // by the index of the reason
	connections *limit.Listener

	mu      sync.Mutex // protects scrapes
	scrapes duration.Histogram
}

func newWebMetrics(connections *limit.Listener) *webMetrics {
	return &webMetrics{refusals: make([]atomic.Uint64, len(refusalReasons)), connections: connections}
}

// refused counts a request that was refused.
func (w *webMetrics) refused(reason string) {
	w.refusals[slices.Index(refusalReasons, reason)].Add(1) // of a reason that is not among them it is our bug
}

// timed counts how long h takes.
func (w *webMetrics) timed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		defer func() {
			took := time.Since(begun)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.scrapes.Observe(took)
		}()
		h.ServeHTTP(out, r)
	})
}

func (w *webMetrics) gather(g *gathered) {
	w.mu.Lock()
	scrapes := w.scrapes
	w.mu.Unlock()
	g.durations("scrape_duration_seconds", "How long scrapes took from the request until the answer was taken, those before this one.", scrapes)
	refused := g.counter("http_requests_refused_total", "HTTP requests that were refused, or whose answer was cut off because it was not taken, by reason.")
	for i, reason := range refusalReasons {
		refused.add(float64(w.refusals[i].Load()), "reason", reason)
	}
	g.gauge("http_connections", "Open HTTP connections.").add(float64(w.connections.Open()))
	g.counter("http_connections_evicted_total", "HTTP connections that were closed while they waited for a request, to make room for others.").add(float64(w.connections.Evicted()))
}
