package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
)

// sender sends the batches of the queue. The library makes the requests; it is told
// to try once, for its own retries can neither be cut short at the stop nor given up
// when a batch is too old, and don't cover an answer that breaks off.
type sender struct {
	e     *Exporter
	api   *remote.API
	seen  *witness
	shown string // the URL without its password

	v1 bool // the receiver has no 2.0; of the goroutine that sends

	mu         sync.Mutex           // protects all below
	err        error                // the last failure to send
	ailing     bool                 // nothing was confirmed since
	complained map[string]time.Time // when each complaint was logged last
}

func newSender(e *Exporter) (*sender, error) {
	u, err := ParseURL(e.opts.URL)
	if err != nil {
		return nil, err
	}
	s := &sender{e: e, seen: &witness{next: e.opts.Client.Transport}, shown: u.Redacted(), complained: make(map[string]time.Time)}
	if s.seen.next == nil {
		s.seen.next = http.DefaultTransport
	}
	client := *e.opts.Client
	client.Transport = s.seen
	client.CheckRedirect = keepMethod(client.CheckRedirect)
	s.api, err = remote.NewAPI(u.String(), remote.WithAPIHTTPClient(&client), remote.WithAPIPath(""),
		remote.WithAPIBackoff(remote.BackoffConfig{MaxRetries: -1}))
	return s, err
}

// keepMethod follows a redirect only if the samples go with it. After 301, 302 and 303
// a client asks by GET, without them: whatever answers that, a log-in page for
// instance, has confirmed nothing.
func keepMethod(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		switch {
		case r.Method != via[0].Method:
			return http.ErrUseLastResponse
		case next != nil:
			return next(r, via)
		case len(via) >= maxRedirects:
			return fmt.Errorf("stopped after %d redirects", len(via))
		}
		return nil
	}
}

const maxRedirects = 10 // that of net/http

// run sends until the queue is closed and empty, or ctx ends. hurry says that it is
// time to come to an end: what waits for its next try need not wait longer, unless
// the receiver has asked for it.
func (s *sender) run(ctx context.Context, hurry <-chan struct{}) {
	for {
		b := s.e.queue.take(ctx.Done())
		if b == nil || !s.deliver(ctx, b, hurry) {
			return
		}
		s.e.queue.done()
	}
}

// verdict is what is to become of a batch after an attempt.
type verdict uint8

const (
	confirmed verdict = iota
	refused           // for good
	again             // later
	fallback          // now, as 1.0
)

// deliver sends a batch until the receiver has confirmed or refused it, or it is too
// old. It reports false if ctx ended before.
func (s *sender) deliver(ctx context.Context, b *batch, hurry <-chan struct{}) bool {
	counts, n := &s.e.counts, len(b.points)
	end := time.UnixMilli(b.at).Add(s.e.opts.QueueAge)
	backoff := s.e.opts.MinBackoff
	for try := 0; ; try++ {
		if !s.e.opts.Now().Before(end) {
			counts.drop(DroppedAge, n)
			s.complain(dropping, fmt.Errorf("they are older than %s", s.e.opts.QueueAge))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if try > 0 {
			counts.retried.Add(uint64(n))
		}
		written, v, err := s.attempt(ctx, b, try)
		switch v {
		case confirmed:
			counts.sent.Add(uint64(n))
			counts.lastSuccess.Store(s.e.opts.Now().UnixMilli())
			s.recovered()
			return true
		case refused:
			counts.sent.Add(uint64(written))
			counts.failed.Add(uint64(n - written))
			s.complain(refusing, err)
			return true
		case fallback:
			s.v1 = true
			counts.fallback.Store(true)
			s.e.log.Info("the receiver has no remote write 2.0: using 1.0", "url", s.shown, "because", err)
			continue
		}
		if ctx.Err() == nil {
			s.complain(failing, err)
		}
		now := s.e.opts.Now()
		wait := backoff/2 + rand.N(backoff/2+1) // so that those who were cut off together don't come back together
		backoff = min(2*backoff, s.e.opts.MaxBackoff)
		asked := min(s.seen.retryAfter(now), end.Sub(now))
		select {
		case <-hurry:
			hurry = nil // it is known; what fails now is tried again by backoff
			backoff = s.e.opts.MinBackoff
			wait = min(wait, backoff)
		default:
		}
		pause(ctx, hurry, min(wait, end.Sub(now)), asked)
	}
}

// pause waits for at least asked, and unless it is time to hurry for wait.
func pause(ctx context.Context, hurry <-chan struct{}, wait, asked time.Duration) {
	sleep := func(d time.Duration, hurry <-chan struct{}) {
		if d <= 0 {
			return
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-hurry:
		case <-ctx.Done():
		}
	}
	sleep(asked, nil)
	sleep(wait-asked, hurry)
}

// attempt sends a batch once.
func (s *sender) attempt(ctx context.Context, b *batch, try int) (written int, v verdict, err error) {
	s.e.counts.requests.Add(1)
	s.seen.begin(try)
	if s.v1 {
		_, err = s.api.Write(ctx, remote.WriteV1MessageType, messageV1(b))
	} else {
		var stats remote.WriteResponseStats
		stats, err = s.api.Write(ctx, remote.WriteV2MessageType, messageV2(b))
		written = max(0, min(stats.Samples, len(b.points)))
	}
	if err == nil {
		return len(b.points), confirmed, nil
	}
	err = errors.New(clip(err.Error()))
	if s.seen.status/100 == 3 {
		err = fmt.Errorf("%w (a redirect that samples can't follow: give the URL of the receiver itself)", err)
	}
	switch status := s.seen.status; {
	case status == 0 || s.seen.broken || status/100 == 5 || status == http.StatusTooManyRequests:
		return 0, again, err
	case !s.v1 && (status == http.StatusUnsupportedMediaType || status/100 == 2):
		// One that ignores what it does not know takes the message for an empty one.
		return 0, fallback, err
	}
	return written, refused, err
}

// clip makes one line of bounded length of what a receiver says.
func clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

const maxMessage = 500

// What there is to complain of.
const (
	failing    = "remote write fails; trying again"
	refusing   = "the receiver of remote write refuses samples"
	dropping   = "samples for remote write are dropped, the oldest first"
	noSnapshot = "no snapshot to send by remote write"
)

// complainEvery is how often the same is logged.
const complainEvery = time.Minute

// complain logs a failure, unless one of the kind was logged just now.
func (s *sender) complain(what string, err error) {
	s.mu.Lock()
	if what == failing || what == refusing {
		s.err, s.ailing = err, true
	}
	now := s.e.opts.Now()
	last, known := s.complained[what]
	silent := known && now.Sub(last) < complainEvery
	if !silent {
		s.complained[what] = now
	}
	s.mu.Unlock()
	if !silent {
		s.e.log.Warn(what, "url", s.shown, "queued", s.e.queue.len(), "err", err)
	}
}

// recovered notes that a batch was confirmed.
func (s *sender) recovered() {
	s.mu.Lock()
	was := s.ailing
	s.ailing = false
	s.mu.Unlock()
	if was {
		s.e.log.Info("remote write works again", "url", s.shown, "queued", s.e.queue.len())
	}
}

// lastError returns the last failure.
func (s *sender) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errors.New("the receiver has not answered in time")
	}
	return s.err
}

// witness sees what the library does not tell: the status of the answer, when to try
// again, and whether the answer broke off. One goroutine makes requests.
type witness struct {
	next http.RoundTripper

	try    int // of the request that comes
	status int // of the last answer, 0 for none
	after  string
	broken bool
}

func (w *witness) begin(try int) { w.try, w.status, w.after, w.broken = try, 0, "", false }

// RoundTrip implements [http.RoundTripper].
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.try > 0 {
		r = r.Clone(r.Context())
		r.Header.Set("Retry-Attempt", strconv.Itoa(w.try))
	}
	w.status = 0
	answer, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.status, w.after = answer.StatusCode, answer.Header.Get("Retry-After")
	answer.Body = &body{answer.Body, io.LimitReader(answer.Body, maxAnswer), w}
	return answer, nil
}

// maxAnswer is how much of an answer is read. The library reads all that there is.
const maxAnswer = 64 << 10

type body struct {
	io.Closer
	r io.Reader
	w *witness
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.w.broken = true
		err = fmt.Errorf("the answer broke off: %w", err)
	}
	return n, err
}

// retryAfter returns how long the receiver has asked to wait.
func (w *witness) retryAfter(now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(w.after); err == nil {
		return max(0, time.Duration(min(seconds, 24*60*60))*time.Second)
	}
	if at, err := http.ParseTime(w.after); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
