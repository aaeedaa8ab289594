package expose

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promagg/promagg/internal/merge"
)

// Source makes the snapshot that is served. Several callers may get the same one
// of all families.
type Source interface {
	Snapshot(context.Context) (*merge.Snapshot, error)
	// Select makes a snapshot of some families only.
	Select(context.Context, merge.Choose) (*merge.Snapshot, error)
}

// NewHandler returns the /metrics handler: GET and HEAD, the format by Accept,
// gzip by Accept-Encoding, families by name[]. The families of own, which may be
// nil, are served among those of the source and win where names are equal.
func NewHandler(source Source, own prometheus.Gatherer) http.Handler {
	return NewLimitedHandler(source, own, Limits{})
}

// NewLimitedHandler is NewHandler with limits.
func NewLimitedHandler(source Source, own prometheus.Gatherer, limits Limits) http.Handler {
	h := &handler{source: source, limits: limits, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	h.shared.max = maxHeld
	h.own.g = own
	return h
}

type handler struct {
	source Source
	limits Limits
	own    own
	shared shared
	// turns has one for each core, for those that encode: more of them at a time
	// would not be done sooner, and each holds a buffer.
	turns chan struct{}
	// accepted is what was made of the last Accept header. Scrapers ask for the same
	// each time, and there is more to it than to many an answer.
	accepted atomic.Pointer[accepted]
}

type accepted struct {
	header string
	format Format
}

func (h *handler) negotiate(header string) Format {
	last := h.accepted.Load()
	if last == nil || last.header != header {
		last = &accepted{header, Negotiate(header)}
		h.accepted.Store(last)
	}
	return last.format
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := h.limits.answer(w)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		out.fail("method not allowed: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	format := h.negotiate(strings.Join(r.Header.Values("Accept"), ","))
	filter, err := ParseQuery(r.URL.RawQuery)
	if err != nil {
		h.limits.refused(BadQuery)
		out.fail(err.Error(), http.StatusBadRequest)
		return
	}
	zip := acceptsGzip(strings.Join(r.Header.Values("Accept-Encoding"), ","))
	b, err := h.body(r.Context(), renderKey{format: format, zip: zip, all: filter.all()}, filter)
	if err != nil {
		if errors.Is(err, errHeld) {
			h.limits.refused(NoMemory)
			w.Header().Set("Retry-After", "1")
		}
		out.fail(err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer h.shared.release(b)
	if b.err != nil {
		out.fail("no metrics of promagg itself: "+b.err.Error(), http.StatusInternalServerError)
		return
	}

	header := w.Header()
	header.Set("Content-Type", format.ContentType())
	header.Set("Vary", "Accept, Accept-Encoding")
	body := b.plain
	if zip {
		header.Set("Content-Encoding", "gzip")
		body = b.zipped.Bytes()
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	// Any other error is the client's, who has gone.
	if err := out.send(body); errors.Is(err, os.ErrDeadlineExceeded) {
		h.limits.refused(TooSlow)
	}
}

// body returns a body that is rendered; who gets it must release it.
func (h *handler) body(ctx context.Context, k renderKey, filter Filter) (b *rendered, err error) {
	if filter.all() {
		k.snapshot, err = h.source.Snapshot(ctx)
	} else {
		// A selection is nobody else's: its turn comes before it has anything to hold.
		select {
		case h.turns <- struct{}{}:
			defer func() { <-h.turns }()
		case <-ctx.Done():
			return nil, fmt.Errorf("no snapshot: %w", ctx.Err())
		}
		k.snapshot, err = h.source.Select(ctx, filter.choose)
	}
	if err != nil {
		return nil, fmt.Errorf("no snapshot: %w", err)
	}
	if b, err = h.shared.take(k); err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			h.shared.release(b) // it panics
		}
	}()
	b.render(func() error {
		if filter.all() {
			h.turns <- struct{}{}
			defer func() { <-h.turns }()
		}
		return h.render(b, filter)
	})
	done = true
	return b, nil
}

// render fills a body.
func (h *handler) render(b *rendered, filter Filter) error {
	own, err := h.own.gather(b.format, filter)
	if err != nil {
		return err
	}
	if b.zip {
		plain := h.shared.takePlain()
		plain = appendWith(plain, b.format, b.snapshot, filter, own)
		b.zipped.compress(plain)
		h.shared.keepPlain(plain)
	} else {
		b.plain = appendWith(b.plain[:0], b.format, b.snapshot, filter, own)
	}
	h.shared.weigh(b)
	return nil
}
