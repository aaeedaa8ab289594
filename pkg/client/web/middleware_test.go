package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
	"github.com/promagg/promagg/pkg/client"
)

// do serves one request through the middleware, as net/http does, and returns
// the response.
func do(t *testing.T, m func(http.Handler) http.Handler, method string, h http.HandlerFunc) (*http.Response, error) {
	t.Helper()
	server := httptest.NewUnstartedServer(m(h))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	defer server.Close() // and so waits for the handler
	req, err := http.NewRequest(method, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

// TestCodes: what is counted is what the client got.
func TestCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		method, code string
		size         float64
		broken       bool // the client gets no whole response
		h            http.HandlerFunc
	}{
		"nothing written": {method: "GET", code: "200", h: func(http.ResponseWriter, *http.Request) {}},
		"implicit":        {method: "POST", code: "200", size: 5, h: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }},
		"explicit": {method: "PUT", code: "404", size: 2, h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			fmt.Fprint(w, "no")
		}},
		"informational": {method: "GET", code: "202", h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(202)
		}},
		"twice": {method: "GET", code: "201", h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(500)
		}},
		"flushed": {method: "GET", code: "200", h: func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(500)
		}},
		"flushed by a controller": {method: "GET", code: "200", h: func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
			w.WriteHeader(500)
		}},
		"file": {method: "GET", code: "200", size: 100_000, h: func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }},
		"head": {method: "HEAD", code: "200", h: func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }},
		"head, written": {method: "HEAD", code: "404", h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			fmt.Fprint(w, "no")
		}},
		"head, copied": {method: "HEAD", code: "200", h: func(w http.ResponseWriter, _ *http.Request) {
			if n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("hello")); n != 5 || err != nil {
				panic(err)
			}
		}},
		"panic": {method: "GET", code: "500", broken: true, h: func(http.ResponseWriter, *http.Request) { panic("p") }},
		"panic after the header": {method: "GET", code: "204", broken: true, h: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			panic(http.ErrAbortHandler)
		}},
		"invalid code": {method: "GET", code: "500", broken: true, h: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(7) }},
		"hijacked": {method: "GET", code: "101", broken: true, h: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			conn.Close()
		}},
		"unknown method": {method: "MKCOL", code: "200", h: func(http.ResponseWriter, *http.Request) {}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := inProcess(t)
			resp, err := do(t, NewMiddleware(MiddlewareOpts{Registry: r}), tt.method, tt.h)
			if (err != nil) != tt.broken {
				t.Fatal(err)
			}
			if err == nil && fmt.Sprint(resp.StatusCode) != tt.code {
				t.Errorf("the client got %d", resp.StatusCode)
			}
			method := strings.ToLower(tt.method)
			if method == "mkcol" {
				method = "unknown"
			}
			// A client whose connection is taken over or cut off is told before the
			// middleware is.
			var got map[string]float64
			testpeer.WaitFor(t, "the request to be counted", 30*time.Second, func() error {
				if got = scrape(t, HandlerFor(r)); got[fmt.Sprintf("http_requests_total code=%q method=%q", tt.code, method)] != 1 || got["http_requests_in_flight"] != 0 {
					return fmt.Errorf("got %v", got)
				}
				return nil
			})
			for sample, want := range map[string]float64{
				fmt.Sprintf("http_requests_total code=%q method=%q", tt.code, method): 1,
				fmt.Sprintf("http_request_duration_seconds_count method=%q", method):  1,
				fmt.Sprintf("http_response_size_bytes_count method=%q", method):       1,
				"http_requests_in_flight": 0,
			} {
				if v, ok := got[sample]; !ok || v != want {
					t.Errorf("%s: want %v, got %v", sample, want, got)
				}
			}
			if got := got[fmt.Sprintf("http_response_size_bytes_sum method=%q", method)]; !tt.broken && got != tt.size {
				t.Errorf("size: want %v, got %v", tt.size, got)
			}
		})
	}
}

// TestInFlight: many at once are seen as many, also where handlers panic.
func TestInFlight(t *testing.T) {
	const n = 8
	r := inProcess(t)
	var here, done sync.WaitGroup
	here.Add(n)
	leave := make(chan struct{})
	h := NewMiddleware(MiddlewareOpts{Registry: r, Namespace: "app", ConstLabels: client.Labels{"server": "a"}})(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			here.Done()
			<-leave
			panic("p")
		}))
	for range n {
		done.Go(func() {
			defer func() {
				if recover() != "p" {
					t.Error("the panic has changed")
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		})
	}
	here.Wait()
	const gauge, counter = `app_http_requests_in_flight server="a"`, `app_http_requests_total code="500" method="get" server="a"`
	if got := scrape(t, HandlerFor(r)); got[gauge] != n || got[counter] != 0 {
		t.Errorf("in flight: %v", got)
	}
	close(leave)
	done.Wait()
	if got := scrape(t, HandlerFor(r)); got[gauge] != 0 || got[counter] != n {
		t.Errorf("afterwards: %v", got)
	}
}

func TestRoute(t *testing.T) {
	r := inProcess(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(http.ResponseWriter, *http.Request) {})
	h := NewMiddleware(MiddlewareOpts{Registry: r, Route: func(r *http.Request) string { return r.Pattern }})(mux)
	for _, path := range []string{"/items/1", "/items/2", "/nowhere"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	got := scrape(t, HandlerFor(r))
	for sample, want := range map[string]float64{
		`http_requests_total code="200" method="get" route="GET /items/{id}"`:      2,
		`http_requests_total code="404" method="get" route=""`:                     1,
		`http_request_duration_seconds_count method="get" route="GET /items/{id}"`: 2,
	} {
		if got[sample] != want {
			t.Errorf("%s: want %v, got %v", sample, want, got)
		}
	}
}

// TestShared: two middlewares of one registry are one; another collector's name
// is not taken.
func TestShared(t *testing.T) {
	r := inProcess(t)
	for range 2 {
		NewMiddleware(MiddlewareOpts{Registry: r})(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if got := scrape(t, HandlerFor(r))[`http_requests_total code="404" method="get"`]; got != 2 {
		t.Errorf("got %v", got)
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "http_requests_total") {
			t.Errorf("another set of labels: %s", got)
		}
	}()
	NewMiddleware(MiddlewareOpts{Registry: r, Route: func(*http.Request) string { return "" }})
}

// bare is a ResponseWriter that can do nothing else.
type bare struct{ http.ResponseWriter }

type hijackable struct{ bare }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errHijack }

var errHijack = errors.New("hijacked")

// TestCapabilities: the handler is told no lie about what its writer can do.
func TestCapabilities(t *testing.T) {
	inner := httptest.NewRecorder() // a Flusher, no Hijacker
	for name, tt := range map[string]struct {
		w                http.ResponseWriter
		flushes, hijacks bool
	}{
		"neither":  {bare{inner}, false, false},
		"flusher":  {inner, true, false},
		"hijacker": {hijackable{bare{inner}}, false, true},
		"both": {struct {
			*httptest.ResponseRecorder
			http.Hijacker
		}{inner, hijackable{}}, true, true},
	} {
		w := (&recorder{ResponseWriter: tt.w}).asCapable()
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		if flushes != tt.flushes || hijacks != tt.hijacks {
			t.Errorf("%s: flushes %v, hijacks %v", name, flushes, hijacks)
		}
		c := http.NewResponseController(w)
		if err := c.Flush(); (err == nil) != tt.flushes || err != nil && !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("%s: flush: %v", name, err)
		}
		if _, _, err := c.Hijack(); tt.hijacks != errors.Is(err, errHijack) || !tt.hijacks && !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("%s: hijack: %v", name, err)
		}
	}
}
