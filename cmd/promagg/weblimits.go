package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/multiproc"
)

// webLimits are what clients may take of serve. docs/security.md lists them.
type webLimits struct {
	requests, connections uint // at once; 0 is no limit

	header time.Duration // for a request to come
	stall  time.Duration // for the next piece of an answer to be taken
	whole  time.Duration // for a scrape
	idle   time.Duration // between two requests
}

func newWebLimits() webLimits {
	return webLimits{
		header: 10 * time.Second,
		stall:  10 * time.Second, // what Prometheus itself waits for by default
		whole:  2 * time.Minute,
		idle:   5 * time.Minute, // as long as Prometheus keeps a connection
	}
}

func (l *webLimits) addFlags(cmd *cobra.Command) {
	cmd.Flags().UintVar(&l.requests, "web.max-requests", 40, "most scrapes that are answered at the same time; others get 503 (0: no limit)")
	// An eighth of the descriptors that a process often has; files take half. Each can
	// hold half a megabyte of headers.
	cmd.Flags().UintVar(&l.connections, "web.max-connections", 128, "most open connections; one more takes the place of the one that is idle the longest (0: no limit)")
}

// maxHeader is the most bytes of a request without its body. net/http adds 4 KiB
// to what it is told. Much of what a connection costs are short headers, of which
// there are the more the larger this is.
const maxHeader = 16 << 10

// maxLandings is how many landing pages are made at the same time: each waits for
// the directory as scrapes do, and must not take all connections meanwhile.
const maxLandings = 4

// maxStreams is how many requests one connection of HTTP/2 may have at the same
// time. Prometheus has one.
const maxStreams = 16

// server is a server that keeps the limits on time and size. Bodies have no time
// of their own: there are none, see [limit.Small].
func (l *webLimits) server(handler http.Handler, connections *limit.Listener) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: l.header,
		ReadTimeout:       l.header,
		WriteTimeout:      l.stall, // scrapes set their own
		IdleTimeout:       l.idle,
		MaxHeaderBytes:    maxHeader - 4<<10,
		ConnState:         connections.State,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			WriteByteTimeout:     l.stall,
		},
	}
}

// scrapes is the handler of /metrics with all of its limits.
func (l *webLimits) scrapes(dirs *multiproc.Group, own prometheus.Gatherer, seen *webMetrics) http.Handler {
	h := expose.NewLimitedHandler(dirs, own, expose.Limits{
		Stall:   l.stall,
		Whole:   l.whole,
		Refused: func(why expose.Refusal) { seen.refused(string(why)) },
	})
	why := fmt.Sprintf("%d scrapes are being answered, the limit (--web.max-requests): try again later", l.requests)
	return limit.AtOnce(l.requests, seen.timed(h), why, seen.refused)
}
