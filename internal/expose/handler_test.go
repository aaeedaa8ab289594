package expose

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/merge"
)

// source is a Source that always has the same to say.
type source struct {
	s   *merge.Snapshot
	err error
}

func (s source) Snapshot(context.Context) (*merge.Snapshot, error) { return s.s, s.err }

// Select has more to say than was asked for: the handler must not rely on less.
func (s source) Select(context.Context, merge.Choose) (*merge.Snapshot, error) { return s.s, s.err }

// serve answers one request for target, with headers as names and values.
func serve(t testing.TB, h http.Handler, method, target string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func gunzip(t testing.TB, b string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestHandler(t *testing.T) {
	s := merged(t, golden()...)
	h := NewHandler(source{s: s}, nil)
	for _, c := range []struct {
		name, accept, contentType string
		format                    Format
	}{
		{"text", "", "text/plain; version=0.0.4; charset=utf-8", Text},
		{"OpenMetrics", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics},
		{"OpenMetrics 0.0.1", "application/openmetrics-text;version=0.0.1", "application/openmetrics-text; version=0.0.1; charset=utf-8", OpenMetrics},
	} {
		want := string(Append(nil, c.format, s, nil))
		for _, encoding := range []string{"", "gzip"} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				t.Run(c.name+" "+encoding+" "+method, func(t *testing.T) {
					r := serve(t, h, method, "/metrics", "Accept", c.accept, "Accept-Encoding", encoding)
					got := body(t, r)
					if r.StatusCode != http.StatusOK {
						t.Fatalf("status %d: %s", r.StatusCode, got)
					}
					full := serve(t, h, http.MethodGet, "/metrics", "Accept", c.accept, "Accept-Encoding", encoding)
					length := strconv.Itoa(len(body(t, full)))
					for name, want := range map[string]string{
						"Content-Type":     c.contentType,
						"Content-Encoding": encoding,
						"Content-Length":   length,
						"Vary":             "Accept, Accept-Encoding",
					} {
						if got := r.Header.Get(name); got != want {
							t.Errorf("%s: got %q, want %q", name, got, want)
						}
					}
					if method == http.MethodHead {
						if got != "" {
							t.Errorf("HEAD has a body of %d bytes", len(got))
						}
						return
					}
					if encoding == "gzip" {
						if len(got) >= len(want) {
							t.Errorf("%d bytes compressed, %d plain", len(got), len(want))
						}
						got = gunzip(t, got)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("body (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

func TestHandlerMethods(t *testing.T) {
	h := NewHandler(source{err: errors.New("must not be asked")}, nil)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"} {
		r := serve(t, h, method, "/metrics")
		if r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: got status %d, want 405", method, r.StatusCode)
		}
		if got := r.Header.Get("Allow"); got != "GET, HEAD" {
			t.Errorf("%s: got Allow %q", method, got)
		}
		if strings.Contains(body(t, r), "# TYPE") {
			t.Errorf("%s: metrics are served", method)
		}
	}
}

func TestHandlerWithoutSnapshot(t *testing.T) {
	r := serve(t, NewHandler(source{err: errors.New("the disk is on fire")}, nil), http.MethodGet, "/metrics", "Accept-Encoding", "gzip")
	got := body(t, r)
	if r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got, "the disk is on fire") {
		t.Errorf("got status %d: %q", r.StatusCode, got)
	}
	if strings.Contains(got, "# ") || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("the error looks like an exposition: %v %q", r.Header, got)
	}
}

// names returns the names of the families, or of the sample lines, of an exposition.
func names(exposition, of string) []string {
	found := []string{}
	for line := range strings.Lines(exposition) {
		if of == "families" {
			if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
				name, _, _ := strings.Cut(rest, " ")
				found = append(found, name)
			}
		} else if !strings.HasPrefix(line, "#") {
			found = append(found, line[:strings.IndexAny(line, "{ ")])
		}
	}
	return slices.Compact(found)
}

func TestHandlerNames(t *testing.T) {
	h := NewHandler(source{s: merged(t, golden()...)}, nil)
	full := body(t, serve(t, h, http.MethodGet, "/metrics"))
	for _, c := range []struct {
		names             []string
		families, samples []string
	}{
		{[]string{"requests"}, []string{"requests_total"}, []string{"requests_total"}},
		{[]string{"requests_total"}, []string{"requests_total"}, []string{"requests_total"}},
		{[]string{"jobs"}, []string{"jobs"}, []string{"jobs"}},
		{[]string{"took"}, []string{"took"}, []string{"took_bucket", "took_sum", "took_count"}},
		{[]string{"took_bucket"}, []string{"took"}, []string{"took_bucket"}},
		{[]string{"took_sum"}, []string{"took"}, []string{"took_sum"}},
		{[]string{"took_count"}, []string{"took"}, []string{"took_count"}},
		{[]string{"took_count", "took_bucket"}, []string{"took"}, []string{"took_bucket", "took_count"}},
		{[]string{"took_count", "took"}, []string{"took"}, []string{"took_bucket", "took_sum", "took_count"}},
		{[]string{"took", "took_count"}, []string{"took"}, []string{"took_bucket", "took_sum", "took_count"}},
		{[]string{"took_count", "took_count"}, []string{"took"}, []string{"took_count"}},
		{[]string{"size"}, []string{"size"}, []string{"size_count", "size_sum"}},
		{[]string{"size_sum"}, []string{"size"}, []string{"size_sum"}},
		{[]string{"busy"}, []string{"busy", "busy_total"}, []string{"busy", "busy_total"}},
		{[]string{"busy_total"}, []string{"busy_total"}, []string{"busy_total"}},
		{[]string{"uptime", "last", "requests", "last"}, []string{"last", "requests_total", "uptime"}, []string{"last", "requests_total", "uptime"}},
		{[]string{"unknown"}, []string{}, []string{}},
		{[]string{"unknown", "last"}, []string{"last"}, []string{"last"}},
		{[]string{"las"}, []string{}, []string{}},
		{[]string{"LAST"}, []string{}, []string{}},
		{[]string{"last_total"}, []string{}, []string{}},
		{[]string{"last_sum"}, []string{}, []string{}},
		{[]string{"size_bucket"}, []string{}, []string{}},
		{[]string{"took_total"}, []string{}, []string{}},
		{[]string{"never"}, []string{}, []string{}}, // a family that has no sample now
		{[]string{"_total", "_sum", "\x00"}, []string{}, []string{}},
	} {
		t.Run(strings.Join(c.names, ","), func(t *testing.T) {
			target := "/metrics?" + url.Values{"name[]": c.names, "other": {"ignored"}}.Encode()
			got := body(t, serve(t, h, http.MethodGet, target))
			if diff := cmp.Diff(c.families, names(got, "families")); diff != "" {
				t.Errorf("families (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.samples, names(got, "samples")); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			// What is left is as it stands in the whole.
			for line := range strings.Lines(got) {
				if !strings.Contains(full, line) {
					t.Errorf("line %q is not in the whole exposition", line)
				}
			}
			zipped := gunzip(t, body(t, serve(t, h, http.MethodGet, target, "Accept-Encoding", "gzip")))
			if zipped != got {
				t.Error("with gzip the answer is another")
			}
			if om := body(t, serve(t, h, http.MethodGet, target, "Accept", "application/openmetrics-text")); !strings.HasSuffix(om, "# EOF\n") {
				t.Errorf("OpenMetrics does not end with # EOF: %q", om)
			} else if _, err := parse([]byte(om), OpenMetrics); err != nil {
				t.Errorf("OpenMetrics: %v", err)
			}
		})
	}
}

// ownMetrics is a registry with metrics that sort before, among and behind the
// golden ones, one of which has a golden one's name.
func ownMetrics(t testing.TB) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewRegistry()
	for _, name := range []string{"aaa", "last", "promagg_up", "zzz"} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: "Own."}, func() float64 { return 1 }))
	}
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "promagg_scans_total", Help: "Own."}, func() float64 { return 2 }))
	return r
}

func TestHandlerOwn(t *testing.T) {
	own := ownMetrics(t)
	h := NewHandler(source{s: merged(t, golden()...)}, own)
	for name, f := range formats {
		t.Run(name, func(t *testing.T) {
			accept := map[Format]string{Text: "text/plain", OpenMetrics: "application/openmetrics-text"}[f]
			got := body(t, serve(t, h, http.MethodGet, "/metrics", "Accept", accept))
			x, err := parse([]byte(got), f)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, got)
			}
			scans := map[Format]string{Text: "promagg_scans_total", OpenMetrics: "promagg_scans"}[f]
			families := names(got, "families")
			for _, want := range []string{"aaa", "last", "promagg_up", scans, "zzz", "busy", "took", "uptime"} {
				if !slices.Contains(families, want) {
					t.Errorf("family %s is missing", want)
				}
			}
			if !slices.IsSorted(families) {
				t.Errorf("families are not sorted: %v", families)
			}
			if v := x.series[`{__name__="last"}`].value; v != 1 || x.helps["last"] != "Own." {
				t.Errorf("last: got %v (%q), want promagg's own", v, x.helps["last"])
			}
			if v := x.series[`{__name__="promagg_scans_total"}`].value; v != 2 {
				t.Errorf("promagg_scans_total: got %v, want 2", v)
			}
			if n := strings.Count(got, "# EOF"); n != map[Format]int{Text: 0, OpenMetrics: 1}[f] {
				t.Errorf("# EOF is there %d times", n)
			}
		})
	}
	for filter, want := range map[string][]string{
		"aaa":                       {"aaa"},
		"zzz&name[]=took&name[]=aa": {"took", "zzz"},
		"last":                      {"last"},
		"promagg_scans_total":       {"promagg_scans_total"},
		"promagg_scans":             {"promagg_scans_total"},
		"requests":                  {"requests_total"},
		"unknown":                   {},
	} {
		got := names(body(t, serve(t, h, http.MethodGet, "/metrics?name[]="+filter)), "families")
		if !slices.Equal(got, want) {
			t.Errorf("name[]=%s: got %v, want %v", filter, got, want)
		}
	}
	empty := NewHandler(source{s: read(t, t.TempDir())}, own)
	if got := names(body(t, serve(t, empty, http.MethodGet, "/metrics")), "families"); len(got) != 5 {
		t.Errorf("with an empty directory: got %v, want all of promagg's own", got)
	}
}

// TestHandlerOwnClash has files whose families would share samples, or in
// OpenMetrics a header, with promagg's own.
func TestHandlerOwnClash(t *testing.T) {
	own := prometheus.NewRegistry()
	own.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "x_total", Help: "Own."}, func() float64 { return 2 }))
	own.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "y", Help: "Own."}, func() float64 { return 2 }))
	h := NewHandler(source{s: merged(t,
		valueFile{name: "gauge_max_1.db", entries: []entry{{key: `["x", "x", {}, "Not own."]`, value: 1}}},
		counter("y", "Not own.", 1),
	)}, own)
	for name, f := range formats {
		accept := map[Format]string{Text: "text/plain", OpenMetrics: "application/openmetrics-text"}[f]
		got := body(t, serve(t, h, http.MethodGet, "/metrics", "Accept", accept))
		x, err := parse([]byte(got), f)
		if err != nil {
			t.Errorf("%s: %v in:\n%s", name, err, got)
		}
		for _, series := range []string{"x_total", "y"} {
			if v := x.series[`{__name__="`+series+`"}`].value; v != 2 {
				t.Errorf("%s: %s: got %v, want promagg's own 2", name, series, v)
			}
		}
	}
}

// TestHandlerOwnFails wants no half of an exposition.
func TestHandlerOwnFails(t *testing.T) {
	own := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("no metrics today") })
	r := serve(t, NewHandler(source{s: merged(t, golden()...)}, own), http.MethodGet, "/metrics")
	if got := body(t, r); r.StatusCode != http.StatusInternalServerError || strings.Contains(got, "# TYPE") {
		t.Errorf("got status %d: %q", r.StatusCode, got)
	}
}

// TestHandlerConcurrent has many requests of all kinds share the handler's
// buffers.
func TestHandlerConcurrent(t *testing.T) {
	s := merged(t, golden()...)
	server := httptest.NewServer(NewHandler(source{s: s}, ownMetrics(t)))
	defer server.Close()
	kinds := []struct{ accept, encoding, query string }{
		{"", "identity", ""},
		{"", "gzip", ""},
		{"application/openmetrics-text", "identity", ""},
		{"application/openmetrics-text", "gzip", ""},
		{"", "gzip", "?name[]=took_sum"},
		{"", "identity", "?name[]=unknown"},
	}
	get := func(i int) (string, error) {
		k := kinds[i%len(kinds)]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+k.query, nil)
		if err != nil {
			return "", err
		}
		r.Header.Set("Accept", k.accept)
		r.Header.Set("Accept-Encoding", k.encoding)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(res.Body)
		if err == nil && res.ContentLength != int64(b.Len()) {
			err = fmt.Errorf("Content-Length %d of %d bytes", res.ContentLength, b.Len())
		}
		return b.String(), err
	}
	var want []string
	for i := range kinds {
		b, err := get(i)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, b)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < g+60; i++ {
				if got, err := get(i); err != nil || got != want[i%len(kinds)] {
					t.Errorf("request of kind %d: %v, %d bytes, want %d", i%len(kinds), err, len(got), len(want[i%len(kinds)]))
					return
				}
			}
		})
	}
	wg.Wait()
}
