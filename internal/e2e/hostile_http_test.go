package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/testpeer"
)

// maxConnections is how many connections promagg keeps open by default.
const maxConnections = 128

// What clients may add to the memory of promagg that do nothing but connect.
const (
	idleMemory = 32 << 20  // with next to nothing sent
	bombMemory = 128 << 20 // with as much as a client can have it keep
)

// crowd lets n clients connect and send something, one of texts each. They stay
// until the test is over. Meanwhile others must be served. It returns by how much
// promagg has grown.
func crowd(t *testing.T, p *promagg, n int, texts ...string) (grown int64) {
	t.Helper()
	before := memory(t, p)
	for i := range n {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		// If it has been closed already, so much the better.
		_, _ = io.WriteString(conn, texts[i%len(texts)])
		if i%(n/10) == 0 {
			p.get(t, "/-/healthy")
			p.get(t, "/-/ready")
			p.get(t, "/metrics")
		}
	}
	testpeer.WaitFor(t, "all to have got in", patience, func() error {
		text := p.get(t, "/metrics")
		var open, evicted int
		for series, into := range map[string]*int{"promagg_http_connections": &open, "promagg_http_connections_evicted_total": &evicted} {
			_, rest, _ := strings.Cut(text, "\n"+series+" ")
			if _, err := fmt.Sscan(rest, into); err != nil {
				return fmt.Errorf("no %s: %w", series, err)
			}
		}
		if open > maxConnections {
			t.Fatalf("%d connections are open, want at most %d", open, maxConnections)
		}
		if evicted < n-maxConnections {
			return fmt.Errorf("%d connections have made room for others, want at least %d", evicted, n-maxConnections)
		}
		return nil
	})
	grown = memory(t, p) - before
	t.Logf("%d connections: promagg has grown by %d KiB", n, grown>>10)
	return grown
}

// memory returns how much memory promagg has resident.
func memory(t *testing.T, p *promagg) int64 {
	t.Helper()
	proc, err := procfs.NewProc(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		t.Fatal(err)
	}
	return int64(status.VmRSS)
}

// TestManyIdleConnections opens 10 000 connections that send nothing, or half a
// request, or one request and then nothing.
func TestManyIdleConnections(t *testing.T) {
	n := 10_000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < uint64(n)+200 {
		n = int(files.Cur) - 200
		t.Logf("%d connections instead of 10000: no more descriptors", n)
	}
	if n < 600 {
		t.Fatalf("%d descriptors are too few for this test: raise ulimit -n", files.Cur)
	}
	p := serve(t, t.TempDir()).ready(t)
	grown := crowd(t, p, n,
		"",
		"G",
		"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ",
		"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\nGET /met",
	)
	if grown > idleMemory {
		t.Errorf("promagg has grown by %d bytes, want at most %d", grown, idleMemory)
	}
}

// TestHeaderBombs has clients send as many small headers as fit in a request, and
// no end. A header takes much more room in memory than on the line.
func TestHeaderBombs(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("GET /metrics HTTP/1.1\r\nHost: x\r\n")
	for i := 0; bomb.Len() < 16<<10-20; i++ {
		fmt.Fprintf(&bomb, "%x:\r\n", i)
	}
	p := serve(t, t.TempDir()).ready(t)
	if grown := crowd(t, p, 1000, bomb.String()); grown > bombMemory {
		t.Errorf("promagg has grown by %d bytes, want at most %d", grown, bombMemory)
	}
}
