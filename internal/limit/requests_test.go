package limit

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// count counts refusals by reason.
type count struct {
	sync.Mutex
	of map[string]int
}

func (c *count) refused(reason string) {
	c.Lock()
	defer c.Unlock()
	if c.of == nil {
		c.of = make(map[string]int)
	}
	c.of[reason]++
}

func TestAtOnce(t *testing.T) {
	for _, max := range []uint{0, 1, 3, math.MaxUint} {
		t.Run(fmt.Sprintf("max=%d", max), func(t *testing.T) {
			const asked = 5
			var refusals count
			running, release := make(chan struct{}, asked), make(chan struct{})
			h := AtOnce(max, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				running <- struct{}{}
				<-release
			}), "three is a crowd", refusals.refused)
			get := func() *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
				return w
			}
			admitted := asked
			if max > 0 {
				admitted = int(min(max, asked))
			}
			var all sync.WaitGroup
			for range admitted {
				all.Go(func() {
					if w := get(); w.Code != http.StatusOK {
						t.Errorf("status %d", w.Code)
					}
				})
				<-running
			}
			for range asked - admitted {
				w := get()
				if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || w.Body.String() != "three is a crowd\n" {
					t.Errorf("status %d, header %v, body %q", w.Code, w.Header(), w.Body)
				}
			}
			close(release)
			all.Wait()
			if w := get(); w.Code != http.StatusOK {
				t.Errorf("status %d when nobody else asks", w.Code)
			}
			if got := refusals.of[Busy]; got != asked-admitted {
				t.Errorf("%d refusals were counted, want %d", got, asked-admitted)
			}
		})
	}
}

// TestAtOnceAfterPanic: a request that panics gives its place back.
func TestAtOnceAfterPanic(t *testing.T) {
	h := AtOnce(1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }), "", func(string) { t.Error("refused") })
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not get through")
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		}()
	}
}

// TestSmall sends requests as they stand on the wire.
func TestSmall(t *testing.T) {
	var refusals count
	s := httptest.NewServer(Small(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "no", http.StatusMethodNotAllowed)
		}
	}), refusals.refused))
	defer s.Close()
	long := "/" + strings.Repeat("x", MaxURL-1)
	for _, c := range []struct {
		name, request string
		status        int
		closes        bool
		reason        string
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, false, ""},
		{"empty body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200, false, ""},
		{"longest URL", "GET " + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 200, false, ""},
		{"URL too long", "GET " + long + "x HTTP/1.1\r\nHost: x\r\n\r\n", 414, false, URL},
		{"query too long", "GET /?" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 414, false, URL},
		{"body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 413, true, Body},
		{"HEAD with a body", "HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 413, true, Body},
		{"chunks", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 413, true, Body},
		{"body that does not come", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 413, true, Body},
		{"chunks that do not come", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413, true, Body},
		{"huge body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n", 413, true, Body},
		{"body that waits to be asked for", "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n", 413, true, Body},
		{"body of another method", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 405, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(refusals.of)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			method, _, _ := strings.Cut(c.request, " ")
			reader := bufio.NewReader(conn)
			// No 100 Continue comes before it: nobody wants the body.
			r, err := http.ReadResponse(reader, &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != c.status || r.Close != c.closes {
				t.Errorf("status %d (Connection: close %t), want %d (%t): %s", r.StatusCode, r.Close, c.status, c.closes, body)
			}
			if n := strings.Count(string(body), "\n"); c.status != 200 && method != "HEAD" && n != 1 {
				t.Errorf("the answer has %d lines: %q", n, body)
			}
			if c.reason != "" && (len(refusals.of) != 1 || refusals.of[c.reason] != 1) || c.reason == "" && len(refusals.of) > 0 {
				t.Errorf("counted %v, want one for %q", refusals.of, c.reason)
			}
			if !c.closes {
				return
			}
			// However slowly the body comes, it is not waited for.
			for began := time.Now(); ; {
				if time.Since(began) > patience/2 {
					t.Fatalf("the connection is not closed after %s", patience/2)
				}
				if _, err := io.WriteString(conn, "x"); err != nil {
					break
				}
				if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				_, err := reader.ReadByte()
				if timeout, ok := err.(net.Error); err != nil && !(ok && timeout.Timeout()) {
					break
				}
			}
		})
	}
}
