package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// target is a serve that hostile clients are let loose on. What they may not do
// is to keep others from being served.
type target struct {
	address string
	tls     *tls.Config // of its clients; nil for none
}

// jobs makes a directory with one counter, jobs_total 3, and with large also the
// 10 MB of many.
func jobs(t *testing.T, large bool) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, size int64, entries func(append func(key string, v float64))) {
		w, err := mmapfile.Create(filepath.Join(dir, name), mmapfile.ValueTimestamp, size)
		if err != nil {
			t.Fatal(err)
		}
		entries(func(key string, v float64) {
			off, err := w.Append([]byte(key))
			if err != nil {
				t.Fatal(err)
			}
			w.Set(off, v)
		})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("counter_1.db", 1, func(add func(string, float64)) { add(`["jobs", "jobs_total", {}, "Jobs."]`, 3) })
	if large {
		write("counter_2.db", 16<<20, func(add func(string, float64)) {
			for i := range 2500 {
				add(fmt.Sprintf(`["many", "many_total", {"i": "%04d", "pad": "%s"}]`, i, strings.Repeat("x", 4000)), 1)
			}
		})
	}
	return dir
}

// startServe runs promagg serve as its users do.
func startServe(t *testing.T, dir string, args ...string) *target {
	t.Helper()
	cmd := exec.Command("promagg", append([]string{"serve", "--dir", dir, "--web.listen-address", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
	p := testpeer.Start(t, cmd)
	v := new(target)
	testpeer.WaitFor(t, "the bound address", patience, func() error {
		m := regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(p.Log())
		if m == nil {
			return fmt.Errorf("not in the log: %s", p.Log())
		}
		v.address = m[1]
		return nil
	})
	t.Cleanup(func() {
		if ended, err := p.Exited(); ended {
			t.Errorf("promagg has ended: %v", err)
		}
		if err := p.Stop(); err != nil {
			t.Errorf("promagg ended with %v", err)
		}
		if log := p.Log(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
			t.Errorf("the log has more than it should:\n%s", log)
		}
	})
	v.served(t)
	return v
}

// serveHere runs serve in this process, with settings that have no flag.
func serveHere(t *testing.T, dir string, set func(*serveFlags)) *target {
	t.Helper()
	return serveSecure(t, dir, nil, set)
}

// serveSecure is serveHere for clients that speak TLS.
func serveSecure(t *testing.T, dir string, secure *tls.Config, set func(*serveFlags)) *target {
	t.Helper()
	before := runtime.NumGoroutine()
	f := newServeFlags()
	f.path, f.web.requests, f.web.connections = "/metrics", 40, 128
	set(&f)
	// The kernel is to take little of what nobody reads, lest it take long to fill.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 32<<10)
		})
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.serve(ctx, l, []multiproc.Options{{Path: dir, Logger: promslog.NewNopLogger()}}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
		testpeer.WaitFor(t, "all goroutines to end", patience, func() error {
			if n := runtime.NumGoroutine(); n > before {
				stacks := make([]byte, 1<<20)
				return fmt.Errorf("%d, there were %d:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
			}
			return nil
		})
	})
	v := &target{address: l.Addr().String(), tls: secure}
	v.served(t)
	return v
}

func (v *target) url(path string) string {
	if v.tls != nil {
		return "https://" + v.address + path
	}
	return "http://" + v.address + path
}

// get asks as a well-behaved client does, on a connection of its own.
func (v *target) get(path string) (status int, header http.Header, body string, err error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: v.tls}}
	r, err := client.Get(v.url(path))
	if err != nil {
		return 0, nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, r.Header, string(b), err
}

// healthy fails the test unless health checks are answered.
func (v *target) healthy(t *testing.T) {
	t.Helper()
	for path, want := range map[string]string{"/-/healthy": "promagg is healthy.\n", "/-/ready": "promagg is ready.\n"} {
		testpeer.WaitFor(t, path, patience, func() error { // it is not ready at once
			if status, _, body, err := v.get(path); err != nil {
				t.Fatal(err)
			} else if status != http.StatusOK || body != want {
				return fmt.Errorf("status %d: %q", status, body)
			}
			return nil
		})
	}
}

// served fails the test unless others are served.
func (v *target) served(t *testing.T) {
	t.Helper()
	v.healthy(t)
	if status, _, body, err := v.get("/metrics?name[]=jobs"); err != nil || status != http.StatusOK || !strings.Contains(body, "\njobs_total 3\n") {
		t.Fatalf("/metrics: status %d: %q, %v", status, body, err)
	}
}

// metric returns the value of one of promagg's own metrics.
func (v *target) metric(t *testing.T, series string) float64 {
	t.Helper()
	name, _, _ := strings.Cut(series, "{")
	status, _, body, err := v.get("/metrics?name[]=" + name)
	if err != nil || status != http.StatusOK {
		t.Fatalf("status %d: %q, %v", status, body, err)
	}
	for line := range strings.Lines(body) {
		var value float64
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no %s in %q", series, body)
	return 0
}

// refused returns how many requests were refused for a reason.
func (v *target) refused(t *testing.T, reason string) float64 {
	t.Helper()
	return v.metric(t, fmt.Sprintf("promagg_http_requests_refused_total{reason=%q}", reason))
}

// dial connects and sends something.
func (v *target) dial(t *testing.T, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", v.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// short is a time limit that a test can wait for. What is well-behaved keeps it
// with ease, on a busy machine too.
const short = 2 * time.Second

// drip sends byte after byte, for ever, and returns once the connection is closed.
func drip(t *testing.T, conn net.Conn) {
	t.Helper()
	began := time.Now()
	for {
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, conn)
		if timeout := net.Error(nil); err == nil || !(errors.As(err, &timeout) && timeout.Timeout()) {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("the connection is not closed after %s", patience)
		}
	}
}

// TestHostileSlowRequests: a request that comes byte by byte must be there in
// time, and so must the body that nobody wants.
func TestHostileSlowRequests(t *testing.T) {
	v := serveHere(t, jobs(t, false), func(f *serveFlags) { f.web.header = short })
	var all sync.WaitGroup
	for _, text := range []string{
		"G",
		"GET /",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ",
		"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nX-A: ", // the second on its connection
		"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
		"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n",
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 200000\r\n\r\n",
	} {
		conn := v.dial(t, text)
		all.Go(func() { drip(t, conn) })
	}
	v.served(t)
	all.Wait()
	v.served(t)
}

// TestHostileFew: with room for two connections only, and no time limit to help,
// others are served.
func TestHostileFew(t *testing.T) {
	v := serveHere(t, jobs(t, false), func(f *serveFlags) { f.web.connections, f.web.header = 2, time.Hour })
	for range 3 {
		for _, text := range []string{"", "GET /metrics HTTP/1.1\r\nX-A: ", "GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n"} {
			v.dial(t, text)
			v.dial(t, text)
			v.served(t)
		}
	}
}

// takeLittle keeps the kernel from taking much that the test does not read.
func takeLittle(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
}

// unread begins a scrape of 10 MB of which nothing more than the first line of
// the answer is taken.
func (v *target) unread(t *testing.T) net.Conn {
	t.Helper()
	conn := v.dial(t, "GET /metrics?name[]=many HTTP/1.1\r\nHost: x\r\n\r\n")
	takeLittle(t, conn)
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 OK"))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestHostileReaders: scrapers that don't read take up the places there are, but
// no others, and one that goes gives its place back.
func TestHostileReaders(t *testing.T) {
	// They are not to be cut off before the test is through, however busy the machine is.
	v := serveHere(t, jobs(t, true), func(f *serveFlags) {
		f.web.requests, f.web.connections, f.web.stall = 3, 5, time.Hour
		f.web.whole = time.Hour
	})
	var readers []net.Conn
	for range 3 {
		readers = append(readers, v.unread(t))
	}
	for range 3 {
		status, header, body, err := v.get("/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "1" || body != "3 scrapes are being answered, the limit (--web.max-requests): try again later\n" {
			t.Errorf("status %d, Retry-After %q, %q", status, header.Get("Retry-After"), body)
		}
		v.healthy(t)
	}
	if status, _, _, err := v.get("/"); err != nil || status != http.StatusOK {
		t.Errorf("landing page: status %d, %v", status, err)
	}
	// Those who come must not take the connections of those who are being answered.
	for range 20 {
		v.dial(t, "")
	}
	v.healthy(t)
	if n, err := io.CopyN(io.Discard, readers[1], 10_000_000); err != nil {
		t.Errorf("an answer ends after %d bytes: %v", n, err)
	}
	readers[0].Close()
	testpeer.WaitFor(t, "a scrape to be answered", patience, func() error {
		status, _, body, err := v.get("/metrics?name[]=jobs")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %q", status, body)
		}
		return err
	})
	if n := v.refused(t, "busy"); n < 3 {
		t.Errorf("%g refusals were counted, want at least 3", n)
	}
}

// TestHostileReadersAreCutOff: a scraper that takes nothing any more loses its
// connection, and its place goes to others.
func TestHostileReadersAreCutOff(t *testing.T) {
	v := serveHere(t, jobs(t, true), func(f *serveFlags) { f.web.requests, f.web.stall = 3, short })
	var readers []net.Conn
	for range 3 {
		readers = append(readers, v.unread(t))
	}
	v.healthy(t)
	testpeer.WaitFor(t, "a place", patience, func() error {
		status, _, body, err := v.get("/metrics?name[]=jobs")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %q", status, body)
		}
		return err
	})
	testpeer.WaitFor(t, "all of them to be cut off", patience, func() error {
		if n := v.refused(t, "slow"); n != 3 {
			return fmt.Errorf("%g are", n)
		}
		return nil
	})
	for _, conn := range readers {
		if n, err := io.Copy(io.Discard, conn); n >= 10_000_000 {
			t.Errorf("%d bytes were there, %v: want less than all", n, err)
		}
	}
	v.served(t)
}

// TestHostilePipeline sends requests without end and reads no answer.
func TestHostilePipeline(t *testing.T) {
	v := serveHere(t, jobs(t, false), func(f *serveFlags) { f.web.stall = short })
	var all sync.WaitGroup
	for _, path := range []string{"/-/healthy", "/metrics", "/metrics?name[]=%"} {
		request := strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", 100)
		conn := v.dial(t, "")
		takeLittle(t, conn)
		all.Go(func() {
			for {
				_, err := io.WriteString(conn, request)
				if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
					return // it is closed
				}
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		})
	}
	v.served(t)
	all.Wait()
	v.served(t)
}

// TestHostileCrowd has many scrape at once what few may. Each gets all of it or
// is told to come back.
func TestHostileCrowd(t *testing.T) {
	v := startServe(t, jobs(t, true), "--web.max-requests=2")
	var crowd sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for i := range 40 {
		crowd.Go(func() {
			path := []string{"/metrics", "/metrics?name[]=many"}[i%2]
			status, header, body, err := v.get(path)
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
			switch {
			case err != nil:
				t.Error(err)
			case status == http.StatusOK && len(body) < 10_000_000:
				t.Errorf("%d bytes of 10 MB", len(body))
			case status == http.StatusServiceUnavailable && header.Get("Retry-After") == "":
				t.Error("no Retry-After")
			}
		})
	}
	v.healthy(t)
	crowd.Wait()
	if answers[http.StatusOK] == 0 || answers[http.StatusOK]+answers[http.StatusServiceUnavailable] != 40 {
		t.Errorf("answers by status: %v", answers)
	}
	if n := v.refused(t, "busy"); n != float64(answers[http.StatusServiceUnavailable]) {
		t.Errorf("%g refusals were counted of %d", n, answers[http.StatusServiceUnavailable])
	}
	v.served(t)
}

// TestHostileRequests sends what no scraper should, as it stands on the wire.
func TestHostileRequests(t *testing.T) {
	v := startServe(t, jobs(t, false))
	const host = " HTTP/1.1\r\nHost: x\r\n"
	get := func(path string, headers ...string) string {
		text := "GET " + path + host
		for _, header := range headers {
			text += header + "\r\n"
		}
		return text + "\r\n"
	}
	names := func(n int) string {
		var b strings.Builder
		b.WriteString("/metrics?name[]=jobs")
		for i := range n - 1 {
			fmt.Fprintf(&b, "&name[]=%d", i)
		}
		return b.String()
	}
	const whole, some = "\npromagg_files{", "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total 3\n"
	for _, c := range []struct {
		name, request string
		status        int
		body          string // what the body has in it
		reason        string // for which it is counted as refused
	}{
		{"plain", get("/metrics"), 200, whole, ""},
		{"HTTP/1.0", "GET /metrics HTTP/1.0\r\n\r\n", 200, whole, ""},
		{"HEAD", "HEAD /metrics" + host + "\r\n", 200, "", ""},
		{"HEAD of HTTP/1.0", "HEAD /metrics HTTP/1.0\r\n\r\n", 200, "", ""},

		{"header too large", get("/metrics", "X-A: "+strings.Repeat("x", maxHeader)), 431, "431", ""},
		{"headers too many", get("/metrics", strings.TrimSpace(strings.Repeat("a: b\r\n", maxHeader/6+1))), 431, "431", ""},
		{"headers as many as fit", get("/metrics?name[]=jobs", strings.TrimSpace(strings.Repeat("a: b\r\n", maxHeader/6-20))), 200, some, ""},
		{"request line without end", "GET /" + strings.Repeat("x", maxHeader), 431, "431", ""},
		{"URL too long", get("/metrics?" + strings.Repeat("x", limit.MaxURL)), 414, "use at most 8192", "url"},
		{"URL as long as may be", get("/metrics?name[]=jobs&" + strings.Repeat("x", limit.MaxURL-len("/metrics?name[]=jobs&"))), 200, some, ""},
		{"path too long", get("/" + strings.Repeat("x", limit.MaxURL)), 414, "use at most 8192", "url"},

		{"name[] without end", get("/metrics?name[]=jobs" + strings.Repeat("&name[]=x", 900)), 200, some, ""},
		{"as many name[] as may be", get(names(256)), 200, some, ""},
		{"too many name[]", get(names(257)), 400, "use at most 256", "query"},
		{"long name[]", get("/metrics?name[]=" + strings.Repeat("x", 1025)), 400, "use at most 1024", "query"},
		{"bad escape", get("/metrics?name[]=%zz"), 400, `invalid URL escape "%zz"`, "query"},
		{"semicolon", get("/metrics?name[]=a;b"), 400, "semicolon", "query"},
		{"bad escape in the path", get("/metrics%zz"), 400, "400 Bad Request", ""},
		{"parameters of others", get("/metrics?match[]=a&collect[]=b&name[]=jobs"), 200, some, ""},

		{"body", get("/metrics", "Content-Length: 5") + "12345", 413, "send none", "body"},
		{"endless body", get("/metrics", "Content-Length: 1000000000000") + "12345", 413, "send none", "body"},
		{"body in chunks", get("/metrics", "Transfer-Encoding: chunked") + "5\r\n12345\r\n", 413, "send none", "body"},
		{"body of a health check", get("/-/healthy", "Content-Length: 5") + "12345", 413, "send none", "body"},
		{"POST", "POST /metrics" + host + "Content-Length: 5\r\n\r\n12345", 405, "use GET or HEAD", ""},
		{"two lengths", get("/metrics", "Content-Length: 5", "Content-Length: 6") + "12345", 400, "400 Bad Request", ""},
		{"negative length", get("/metrics", "Content-Length: -1"), 400, "400 Bad Request", ""},
		{"unknown transfer encoding", get("/metrics", "Transfer-Encoding: gzip"), 501, "transfer encoding", ""},
		{"Expect and a body", get("/metrics", "Expect: 100-continue", "Content-Length: 5"), 413, "send none", "body"},
		{"Expect without a body", get("/metrics", "Expect: 100-continue"), 200, whole, ""},
		{"Expect of something else", get("/metrics", "Expect: wonders"), 417, "", ""},

		{"Range", get("/metrics?name[]=jobs", "Range: bytes=0-3"), 200, some, ""},
		{"ranges without end", get("/metrics?name[]=jobs", "Range: bytes=0-0"+strings.Repeat(",0-0", 2000)), 200, some, ""},
		{"If-None-Match", get("/metrics?name[]=jobs", "If-None-Match: *", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"), 200, some, ""},
		{"Accept without end", get("/metrics?name[]=jobs", "Accept: "+strings.Repeat("a/b;q=0.9;c=d,", 1000)+"text/plain"), 200, some, ""},
		{"Accept of separators", get("/metrics?name[]=jobs", "Accept: "+strings.Repeat(",;=/", 3000)), 200, some, ""},
		{"Accept of nothing", get("/metrics?name[]=jobs", "Accept: */*;q=0"), 200, some, ""},
		{"Accept with NaN", get("/metrics?name[]=jobs", "Accept: application/openmetrics-text;q=NaN"), 200, some, ""},
		{"Accept in many headers", get("/metrics?name[]=jobs", strings.TrimSpace(strings.Repeat("Accept: a/b\r\n", 1000))), 200, some, ""},

		{"garbage", "\x00\x01\x02\r\n\r\n", 400, "400 Bad Request", ""},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "400 Bad Request", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "", ""},
		{"HTTP of the future", "GET /metrics HTTP/3.0\r\nHost: x\r\n\r\n", 505, "505", ""},
		{"HTTP/0.9", "GET /metrics\r\n\r\n", 400, "400 Bad Request", ""},
		{"no host", "GET /metrics HTTP/1.1\r\n\r\n", 400, "Host", ""},
		{"a header without a name", get("/metrics", ": x"), 400, "400 Bad Request", ""},
		{"a method nobody knows", "SCRAPE /metrics" + host + "\r\n", 405, "use GET or HEAD", ""},
		{"CONNECT", "CONNECT example.com:80" + host + "\r\n", 405, "Method Not Allowed", ""},
		{"another's URL", get("http://example.com/metrics?name[]=jobs"), 200, some, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := 0.0
			if c.reason != "" {
				before = v.refused(t, c.reason)
			}
			conn := v.dial(t, "")
			// It may be answered, and closed, before all of it is sent.
			_, _ = io.WriteString(conn, c.request)
			method, _, _ := strings.Cut(c.request, " ")
			r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != c.status || !strings.Contains(string(body), c.body) || method == "HEAD" && len(body) > 0 {
				t.Errorf("status %d, want %d: %q, want %q in it", r.StatusCode, c.status, body, c.body)
			}
			if c.status != 200 && strings.Count(strings.TrimSpace(string(body)), "\n") > 0 {
				t.Errorf("more than one line: %q", body)
			}
			if c.reason != "" {
				if n := v.refused(t, c.reason); n != before+1 {
					t.Errorf("%g refusals for %s were counted, want %g", n, c.reason, before+1)
				}
			}
		})
	}
	v.served(t)
}

// TestHostilePipelined: requests that come together are answered one after the
// other, what is wrong with one of them does not spoil the next.
func TestHostilePipelined(t *testing.T) {
	v := startServe(t, jobs(t, false))
	paths := []string{"/-/healthy", "/metrics?name[]=jobs", "/metrics?name[]=%", "/nowhere", "/metrics?name[]=jobs", "/" + strings.Repeat("x", limit.MaxURL), "/-/ready"}
	want := []int{200, 200, 400, 404, 200, 414, 200}
	var all strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&all, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	}
	answers := bufio.NewReader(v.dial(t, all.String()))
	for i, path := range paths {
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%.40s: %v", path, err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want[i] {
			t.Errorf("%.40s: status %d, want %d", path, r.StatusCode, want[i])
		}
	}
}

// TestHostileNegotiation asks for all codings that there are and are not, from
// several clients at once. Each gets what it can read.
func TestHostileNegotiation(t *testing.T) {
	v := startServe(t, jobs(t, false))
	codings := map[string]bool{ // with gzip or without
		"":                                   false,
		"identity":                           false,
		"gzip":                               true,
		"gzip;q=0.001, identity;q=1":         true,
		"gzip;q=0":                           false,
		"gzip;q=0, *":                        false,
		"gzip;q=NaN":                         false,
		"gzip;q=":                            false,
		"identity;q=0":                       false,
		"identity;q=0, *;q=0":                false,
		"*;q=0, gzip":                        true,
		"*":                                  true,
		strings.Repeat("br;q=1.0,", 1000):    false,
		strings.Repeat("gzip;q=0,", 1000):    false,
		strings.Repeat("x,", 5000) + " gzip": true,
		",;=,q":                              false,
	}
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for accept, zipped := range codings {
				r, err := http.NewRequest(http.MethodGet, "http://"+v.address+"/metrics", nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Accept-Encoding", accept)
				client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
				res, err := client.Do(r)
				if err != nil {
					t.Errorf("%.30q: %v", accept, err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if coding := res.Header.Get("Content-Encoding"); err == nil && (coding == "gzip") != zipped {
					err = fmt.Errorf("coding %q", coding)
				}
				if zipped && err == nil {
					var z *gzip.Reader
					if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
						body, err = io.ReadAll(z)
					}
				}
				if err != nil || !bytes.Contains(body, []byte("\njobs_total 3\n")) {
					t.Errorf("%.30q: %q, %v", accept, body, err)
				}
			}
		})
	}
	clients.Wait()
	v.served(t)
}
