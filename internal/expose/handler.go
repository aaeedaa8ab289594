package expose

import (
	"context"
	"net/http"
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
	h := &handler{source: source}
	h.own.g = own
	return h
}

type handler struct {
	source Source
	own    own
	shared shared
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
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	format := h.negotiate(strings.Join(r.Header.Values("Accept"), ","))
	filter := Filter(r.URL.Query()["name[]"])
	snapshot, err := h.snapshot(r.Context(), filter)
	if err != nil {
		http.Error(w, "no snapshot: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	zip := acceptsGzip(strings.Join(r.Header.Values("Accept-Encoding"), ","))
	b := h.shared.take(renderKey{snapshot, format, zip, filter.all()})
	defer h.shared.release(b)
	b.render(func() error { return h.render(b, snapshot, format, filter, zip) })
	if b.err != nil {
		http.Error(w, "no metrics of promagg itself: "+b.err.Error(), http.StatusInternalServerError)
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
	// An error here is the client's, who has gone.
	_, _ = w.Write(body)
}

func (h *handler) snapshot(ctx context.Context, filter Filter) (*merge.Snapshot, error) {
	if filter.all() {
		return h.source.Snapshot(ctx)
	}
	return h.source.Select(ctx, filter.choose)
}

// render fills a body.
func (h *handler) render(b *rendered, s *merge.Snapshot, format Format, filter Filter, zip bool) error {
	own, err := h.own.gather(format, filter)
	if err != nil {
		return err
	}
	b.plain = appendWith(b.plain[:0], format, s, filter, own)
	if zip {
		b.zipped.compress(b.plain)
	}
	return nil
}
