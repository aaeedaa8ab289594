package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/promslog"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// BenchmarkSmallScrape answers a scrape of one small file: what every scrape costs,
// however little there is to merge. handler is without a connection.
func BenchmarkSmallScrape(b *testing.B) {
	dir := b.TempDir()
	w, err := mmapfile.Create(filepath.Join(dir, "counter_1.db"), mmapfile.ValueTimestamp, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	for i := range 10 {
		if _, err := w.Append(fmt.Appendf(nil, `["c", "c_total", {"i": "%d"}, "What it is about."]`, i)); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		noOwn bool
	}{{"own=yes", false}, {"own=no", true}} {
		d := multiproc.Open(multiproc.Options{Path: dir})
		defer d.Close()
		h := (&serveFlags{path: "/metrics", noOwn: c.noOwn}).handler(multiproc.NewGroup(d), limit.NewListener(nil, 0), promslog.NewNopLogger())
		b.Run("handler/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				r.Header.Set("Accept", prometheusAccept)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
		b.Run("http/"+c.name, func(b *testing.B) {
			server := httptest.NewServer(h)
			defer server.Close()
			b.ReportAllocs()
			for b.Loop() {
				resp, err := server.Client().Get(server.URL + "/metrics")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// prometheusAccept is what Prometheus 3 asks for.
const prometheusAccept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
