package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/promagg/promagg/internal/multiproc"
)

// manager listens as systemd does and returns the states that it is told.
func manager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				close(told)
				return
			}
			told <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { l.Close() })
	return told
}

// next returns the next state that is told, which must be this one.
func next(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if first, _, _ := strings.Cut(got, "\n"); first != want {
			t.Fatalf("systemd was told %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("systemd was not told %q", want)
	}
}

func watchdog(t *testing.T, within time.Duration) {
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(within.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
}

// TestServeTellsSystemd: ready when the directory was read, alive, and stopping.
func TestServeTellsSystemd(t *testing.T) {
	told := manager(t)
	watchdog(t, 30*time.Millisecond)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newServeFlags()
	f.path = "/metrics"
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- f.serve(ctx, l, []multiproc.Options{{Path: t.TempDir(), Logger: promslog.NewNopLogger()}})
	}()
	next(t, told, "READY=1")
	next(t, told, "WATCHDOG=1")
	next(t, told, "WATCHDOG=1")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for {
		select {
		case got := <-told:
			if strings.HasPrefix(got, "WATCHDOG=1") {
				continue // on its way when it was stopped
			}
			if !strings.HasPrefix(got, "STOPPING=1\n") {
				t.Errorf("systemd was told %q, want STOPPING=1", got)
			}
		default:
			t.Error("systemd was not told of the stop")
		}
		return
	}
}

// TestWatchdogStarves: what is stuck is not reported as alive, and what has got going
// again is.
func TestWatchdogStarves(t *testing.T) {
	told := manager(t)
	watchdog(t, 3*time.Millisecond)
	var (
		ready, hangs atomic.Bool
		asked        atomic.Int64
		log          lockedBuffer
		attending    sync.WaitGroup
	)
	ctx, stop := context.WithCancel(t.Context())
	attending.Go(func() {
		systemd{slog.New(slog.NewTextHandler(&log, nil))}.attend(ctx, func() bool { asked.Add(1); return ready.Load() }, func() error {
			asked.Add(1)
			if hangs.Load() {
				return errors.New("the directory hangs")
			}
			return nil
		})
	})
	asks := func(times int64) { // waits until attend has asked so often
		t.Helper()
		for from, deadline := asked.Load(), time.Now().Add(patience); asked.Load() < from+times; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody asks")
			}
		}
	}
	asks(3)
	if len(told) > 0 {
		t.Fatalf("told %q before it was ready", <-told)
	}
	ready.Store(true)
	next(t, told, "READY=1")
	next(t, told, "WATCHDOG=1")
	hangs.Store(true)
	asks(3)
	for len(told) > 1 {
		next(t, told, "WATCHDOG=1")
	}
	next(t, told, "STATUS=the directory hangs")
	asks(5)
	if len(told) > 0 {
		t.Errorf("told %q while the directory hung", <-told)
	}
	if got := strings.Count(log.String(), "the directory hangs"); got != 1 {
		t.Errorf("logged %d times, want once:\n%s", got, log.String())
	}
	hangs.Store(false)
	next(t, told, "WATCHDOG=1")
	stop()
	attending.Wait()
}

func TestReloadTellsSystemd(t *testing.T) {
	told := manager(t)
	systemd{promslog.NewNopLogger()}.reloading(func() { next(t, told, "RELOADING=1") })
	next(t, told, "READY=1")
}

// TestNoSystemd: without a manager nothing is said and nothing logged; one that is out of
// reach is logged.
func TestNoSystemd(t *testing.T) {
	for _, tc := range []struct{ socket, want string }{
		{"", ""},
		{filepath.Join(t.TempDir(), "gone"), "systemd was not told"},
	} {
		t.Setenv("NOTIFY_SOCKET", tc.socket)
		var log lockedBuffer
		systemd{slog.New(slog.NewTextHandler(&log, nil))}.stopping()
		if got := log.String(); (got != "") != (tc.want != "") || !strings.Contains(got, tc.want) {
			t.Errorf("NOTIFY_SOCKET=%q: logged %q, want %q", tc.socket, got, tc.want)
		}
	}
}

// lockedBuffer is a log that one goroutine writes and another reads.
type lockedBuffer struct {
	mu  sync.Mutex // protects buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
