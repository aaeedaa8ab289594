package expose

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promagg/promagg/internal/merge"
)

// Source makes the snapshot that is served.
type Source interface {
	Snapshot(context.Context) (*merge.Snapshot, error)
}

// NewHandler returns the /metrics handler: GET and HEAD, the format by Accept,
// gzip by Accept-Encoding, families by name[]. The families of own, which may be
// nil, are served among those of the source and win where names are equal.
func NewHandler(source Source, own prometheus.Gatherer) http.Handler {
	return &handler{source: source, own: own}
}

type handler struct {
	source Source
	own    prometheus.Gatherer
	plain  sync.Pool // of *[]byte
	zipped sync.Pool // of *zipped
}

// maxIdle is the most bytes that a buffer may have to be kept for the next
// scrape.
const maxIdle = 32 << 20

// zipped is a compressor with the buffer it fills.
type zipped struct {
	bytes.Buffer
	w *gzip.Writer
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	snapshot, err := h.source.Snapshot(r.Context())
	if err != nil {
		http.Error(w, "no snapshot: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	format := Negotiate(strings.Join(r.Header.Values("Accept"), ","))
	filter := Filter(r.URL.Query()["name[]"])
	own, err := gather(h.own, format, filter)
	if err != nil {
		http.Error(w, "no metrics of promagg itself: "+err.Error(), http.StatusInternalServerError)
		return
	}
	plain, ok := h.plain.Get().(*[]byte)
	if !ok {
		plain = new([]byte)
	}
	defer func() {
		if cap(*plain) <= maxIdle {
			h.plain.Put(plain)
		}
	}()
	*plain = appendWith((*plain)[:0], format, snapshot, filter, own)
	body := *plain

	header := w.Header()
	header.Set("Content-Type", format.ContentType())
	header.Set("Vary", "Accept, Accept-Encoding")
	if acceptsGzip(strings.Join(r.Header.Values("Accept-Encoding"), ",")) {
		header.Set("Content-Encoding", "gzip")
		z, ok := h.zipped.Get().(*zipped)
		if !ok {
			z = &zipped{w: gzip.NewWriter(nil)}
		}
		defer func() {
			if z.Cap() <= maxIdle {
				h.zipped.Put(z)
			}
		}()
		body = z.compress(body)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	// An error here is the client's, who has gone.
	_, _ = w.Write(body)
}

// compress returns the compressed form of plain, good until the next call.
func (z *zipped) compress(plain []byte) []byte {
	z.Reset()
	z.w.Reset(&z.Buffer)
	// Neither can fail: a bytes.Buffer takes everything.
	_, _ = z.w.Write(plain)
	_ = z.w.Close()
	return z.Bytes()
}
