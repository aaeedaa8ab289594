package limit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// Listener keeps at most so many connections open. One more takes the place of
// that which has waited for a request the longest: idle, or with a request that
// has not come to its end. Were new connections to wait instead, as they do with
// most listeners of this kind, then whoever holds all of them would keep
// everybody out. Only when each connection has a request that is being answered,
// for which the server has time limits, must the next one wait.
//
// The server has to tell what its connections do: [Listener.State] is its
// ConnState.
type Listener struct {
	net.Listener
	max uint

	mu      sync.Mutex                 // protects all below; not held across I/O
	room    *sync.Cond                 // there may be room, or the listener is closed
	open    map[net.Conn]*list.Element // in waiting; nil of those that don't
	waiting *list.List                 // for a request, the longest first
	evicted uint64
	closed  bool
}

// NewListener returns a listener that keeps at most max connections of l open; 0
// is no limit.
func NewListener(l net.Listener, max uint) *Listener {
	c := &Listener{Listener: l, max: max, open: make(map[net.Conn]*list.Element), waiting: list.New()}
	c.room = sync.NewCond(&c.mu)
	return c
}

// Accept implements [net.Listener].
func (c *Listener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		victim, ok := c.admit(conn)
		if victim == nil {
			if !ok {
				conn.Close()
				return nil, net.ErrClosed
			}
			return conn, nil
		}
		// Its goroutine sees that when it reads, and ends. If a request has come to
		// its end at this very moment, its client has to repeat it, as ever with
		// connections that are kept alive.
		victim.Close()
	}
}

// admit counts a connection in, or returns one to be closed before that. It
// returns false when the listener is closed.
func (c *Listener) admit(conn net.Conn) (victim net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.max > 0 && uint(len(c.open)) >= c.max && !c.closed {
		if longest := c.waiting.Front(); longest != nil {
			victim = c.waiting.Remove(longest).(net.Conn)
			delete(c.open, victim)
			c.evicted++
			return victim, true
		}
		c.room.Wait()
	}
	if c.closed {
		return nil, false
	}
	c.open[conn] = c.waiting.PushBack(conn)
	return nil, true
}

// Close implements [net.Listener].
func (c *Listener) Close() error {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// State is told by the server what a connection does.
func (c *Listener) State(conn net.Conn, state http.ConnState) {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn() // TLS
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.open[conn]
	if !ok {
		return // evicted
	}
	switch state {
	case http.StateActive:
		if element != nil {
			c.waiting.Remove(element)
			c.open[conn] = nil
		}
	case http.StateIdle:
		if element == nil {
			c.open[conn] = c.waiting.PushBack(conn)
		}
		c.room.Signal()
	case http.StateClosed, http.StateHijacked:
		if element != nil {
			c.waiting.Remove(element)
		}
		delete(c.open, conn)
		c.room.Signal()
	}
}

// Open returns how many connections are open.
func (c *Listener) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Evicted returns how many connections had to make room, since the start.
func (c *Listener) Evicted() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evicted
}
