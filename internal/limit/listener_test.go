package limit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// patience is how long anything may take that normally takes no time.
const patience = 30 * time.Second

// server is a server with a listener of its own. A request for /wait is answered
// once release is called.
type server struct {
	*Listener
	release  func()
	busy     chan struct{} // gets one for each request that waits for that
	accepted chan struct{} // gets one for each connection that comes
}

// tells is a listener that tells of each connection.
type tells struct {
	net.Listener
	accepted chan<- struct{}
}

func (l tells) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.accepted <- struct{}{}
	return conn, err
}

func serve(t *testing.T, max uint, secure bool) *server {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	s := &server{
		release:  sync.OnceFunc(func() { close(released) }),
		busy:     make(chan struct{}, 100),
		accepted: make(chan struct{}, 1000),
	}
	s.Listener = NewListener(tells{inner, s.accepted}, max)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
		s.busy <- struct{}{}
		<-released
		fmt.Fprint(w, "served")
	})
	h := &http.Server{Handler: mux, ConnState: s.State, ErrorLog: log.New(io.Discard, "", 0)}
	var l net.Listener = s
	if secure {
		// A certificate that is made already.
		unused := httptest.NewTLSServer(nil)
		config := unused.TLS
		unused.Close()
		l = tls.NewListener(s, config)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	t.Cleanup(func() {
		s.release()
		h.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server ended with %v", err)
		}
		testpeer.WaitFor(t, "all connections to be closed", patience, func() error {
			if n := s.Open(); n != 0 {
				return fmt.Errorf("%d are open", n)
			}
			return nil
		})
	})
	return s
}

// client is a connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (s *server) dial(t *testing.T, secure bool) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{conn, bufio.NewReader(conn)}
}

func (c *client) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func (c *client) answered(t *testing.T) {
	t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "served" {
		t.Fatalf("got %q, %v", body, err)
	}
}

func (c *client) get(t *testing.T) {
	t.Helper()
	c.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.answered(t)
}

// closed waits until the server has closed the connection.
func (c *client) closed(t *testing.T) {
	t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		t.Fatalf("got %q, want the connection to be closed", b)
	} else if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		t.Fatal("the connection is not closed")
	}
}

// settle waits until the listener knows of so many connections that wait.
func (s *server) settle(t *testing.T, waiting int) {
	t.Helper()
	testpeer.WaitFor(t, "connections to wait", patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.waiting.Len(); n != waiting {
			return fmt.Errorf("%d wait, want %d", n, waiting)
		}
		return nil
	})
}

// TestEviction: one connection too many takes the place of that which has waited
// the longest.
func TestEviction(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secure), func(t *testing.T) {
			s := serve(t, 3, secure)
			var c [3]*client
			for i := range c {
				c[i] = s.dial(t, secure)
				c[i].get(t)
				s.settle(t, i+1)
			}
			first, second, third := c[0], c[1], c[2]
			first.get(t)
			s.settle(t, 3)
			fourth := s.dial(t, secure)
			fourth.get(t)
			second.closed(t)
			first.get(t)
			third.get(t)
			fourth.get(t)
			if n := s.Open(); n != 3 || s.Evicted() != 1 {
				t.Errorf("%d open, %d evicted", n, s.Evicted())
			}
		})
	}
}

// TestEvictionOfHalfARequest: a request that does not come to its end keeps no
// place, and neither does one that comes byte by byte.
func TestEvictionOfHalfARequest(t *testing.T) {
	s := serve(t, 2, false)
	one, other := s.dial(t, false), s.dial(t, false)
	other.get(t)
	for _, c := range []*client{one, other} {
		c.send(t, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
	}
	s.settle(t, 2)
	for range 4 {
		s.dial(t, false).get(t)
	}
	one.closed(t)
	other.closed(t)
	if n := s.Open(); n != 2 || s.Evicted() != 4 {
		t.Errorf("%d open, %d evicted", n, s.Evicted())
	}
}

// TestNoEvictionOfTheBusy: a request that is being answered keeps its place. One
// more connection waits until there is room.
func TestNoEvictionOfTheBusy(t *testing.T) {
	s := serve(t, 2, false)
	busy := []*client{s.dial(t, false), s.dial(t, false)}
	for _, c := range busy {
		c.send(t, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		<-s.busy
	}
	s.settle(t, 0)
	third := s.dial(t, false)
	third.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	s.release()
	third.answered(t)
	for _, c := range busy {
		c.answered(t)
	}
	if n := s.Evicted(); n != 1 {
		t.Errorf("%d evicted, want one of the two once it was idle", n)
	}
}

// TestCloseWithoutRoom: Close does not wait for room.
func TestCloseWithoutRoom(t *testing.T) {
	s := serve(t, 1, false)
	busy := s.dial(t, false)
	busy.send(t, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-s.busy
	s.settle(t, 0)
	second := s.dial(t, false)
	<-s.accepted
	<-s.accepted
	s.Close()
	second.closed(t)
	s.release()
	busy.answered(t)
}

// TestNoLimit: 0 is none.
func TestNoLimit(t *testing.T) {
	s := serve(t, 0, false)
	var all []*client
	for range 50 {
		all = append(all, s.dial(t, false))
	}
	for _, c := range all {
		c.get(t)
	}
	if n := s.Open(); n != 50 || s.Evicted() != 0 {
		t.Errorf("%d open, %d evicted", n, s.Evicted())
	}
}

// TestCountStaysTrue has many clients come and go at once, at the limit.
func TestCountStaysTrue(t *testing.T) {
	s := serve(t, 3, false)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for range 50 {
				conn, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				if i%4 == 0 {
					_, _ = conn.Read(make([]byte, 100))
				}
				if n := s.Open(); n > 3 {
					t.Errorf("%d open, the limit is 3", n)
				}
				conn.Close()
			}
		})
	}
	clients.Wait() // that none is left is looked at in the end
	s.dial(t, false).get(t)
}
