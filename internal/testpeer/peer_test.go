package testpeer

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// verdict is a testing.TB that notes how a test would have ended.
type verdict struct {
	testing.TB
	fatal, skip string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatalf(f string, a ...any) {
	v.fatal = fmt.Sprintf(f, a...)
	runtime.Goexit()
}

func (v *verdict) Skipf(f string, a ...any) {
	v.skip = fmt.Sprintf(f, a...)
	runtime.Goexit()
}

// require calls Require as a test of its own would, and says how that ended.
func require(t *testing.T, p *Peer) *verdict {
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Require(v, p)
	}()
	<-done
	return v
}

func TestRequireMissingPeer(t *testing.T) {
	for _, tc := range []struct{ ci, fatal, skip string }{
		{ci: "", skip: "missing no-such-peer"},
		{ci: "true", fatal: "missing no-such-peer"},
	} {
		t.Run("CI="+tc.ci, func(t *testing.T) {
			t.Setenv("CI", tc.ci)
			v := require(t, &Peer{name: "no-such-peer", candidates: []string{"no-such-peer"}})
			if (v.fatal != "") != (tc.fatal != "") || !strings.HasPrefix(v.fatal, tc.fatal) {
				t.Errorf("failed with %q, want %q", v.fatal, tc.fatal)
			}
			if (v.skip != "") != (tc.skip != "") || !strings.HasPrefix(v.skip, tc.skip) {
				t.Errorf("skipped with %q, want %q", v.skip, tc.skip)
			}
		})
	}
}

// TestRequireProbes: a program of the right name that cannot do the job does not count.
func TestRequireProbes(t *testing.T) {
	t.Setenv("CI", "")
	v := require(t, &Peer{name: "a shell that fails", candidates: []string{"sh"}, probe: []string{"-c", "echo no module >&2; exit 1"}})
	if !strings.Contains(v.skip, "no module") {
		t.Errorf("skipped with %q, want the probe's own words in it", v.skip)
	}
	p := &Peer{name: "a shell", candidates: []string{"/no/such/sh", "sh"}, probe: []string{"-c", "exit 0"}}
	if v = require(t, p); v.skip != "" || p.Path() == "" {
		t.Errorf("skipped with %q, path %q, want the second candidate", v.skip, p.path)
	}
}

// TestStopLeavesNothing: children of the started process die with it, also those that ignore SIGTERM.
func TestStopLeavesNothing(t *testing.T) {
	var p *Process
	t.Run("run", func(t *testing.T) {
		p = Start(t, exec.Command("sh", "-c", "(trap '' TERM; while :; do sleep 1; done) >/dev/null 2>&1 & echo started; wait"))
		WaitFor(t, "the child", patience, func() error {
			if !strings.Contains(p.Log(), "started") {
				return fmt.Errorf("output %q", p.Log())
			}
			return nil
		})
		if got := p.session(); len(got) < 2 {
			t.Fatalf("session has processes %v, want the shell and its child", got)
		}
	})
	WaitFor(t, "an empty session", patience, func() error {
		if got := p.session(); len(got) > 0 {
			return fmt.Errorf("left behind: %v", got)
		}
		return nil
	})
}
