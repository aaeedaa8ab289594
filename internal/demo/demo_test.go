package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// hang serves nothing until ctx ends.
func hang(ctx context.Context, l net.Listener, _ string) error {
	defer l.Close()
	<-ctx.Done()
	return nil
}

// TestRunFails: whatever can't work ends the demonstration with its reason, and
// leaves no directory behind.
func TestRunFails(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no such worker":        {Options{Worker: []string{"/nonexistent"}, Serve: hang}, "start /nonexistent"},
		"a worker that ends":    {Options{Worker: []string{"false"}, Serve: hang}, "workers end right after their start: exit status 1"},
		"no metrics are served": {Options{Worker: []string{"sleep", "60"}, Serve: func(context.Context, net.Listener, string) error { return broken }}, "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			c.o.Out, c.o.Err = io.Discard, io.Discard
			if err := Run(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestRunEnds: an end before anything has happened is no failure.
func TestRunEnds(t *testing.T) {
	o := Options{Worker: []string{"sleep", "60"}, Serve: hang, For: time.Millisecond, Out: io.Discard, Err: io.Discard}
	if err := Run(t.Context(), o); err != nil {
		t.Error(err)
	}
}

// TestEnviron: the workers get the directory of the demonstration and an id each.
func TestEnviron(t *testing.T) {
	t.Setenv("prometheus_multiproc_dir", "/elsewhere")
	t.Setenv("PROMETHEUS_MULTIPROC_DIR", "/elsewhere")
	t.Setenv("PROMAGG_PROCESS_ID", "web-1")
	got := slices.DeleteFunc(environ("/here"), func(kv string) bool {
		return !strings.Contains(strings.ToUpper(kv), "MULTIPROC_DIR=") && !strings.HasPrefix(kv, "PROMAGG_PROCESS_ID=")
	})
	if want := []string{"PROMETHEUS_MULTIPROC_DIR=/here"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestListen: a port that is taken is no reason not to demonstrate anything.
func TestListen(t *testing.T) {
	taken, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other, err := listen(taken.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
}
