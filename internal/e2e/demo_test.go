package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestDemo: the example runs, shows the merged metrics and where to look, and
// leaves neither a process nor a file behind, whether it ends by itself or is
// interrupted.
func TestDemo(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	t.Run("ends by itself", func(t *testing.T) {
		demo := startDemo(t, "6")
		if err := demo.Wait(t); err != nil {
			t.Errorf("demo.sh: %v", err)
		}
		demo.check(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		demo := startDemo(t, "600")
		testpeer.WaitFor(t, "the metrics and the URL", patience, func() error {
			if ended, err := demo.Exited(); ended {
				t.Fatalf("demo.sh has ended: %v", err)
			}
			return demo.shown()
		})
		// Ctrl-C goes to the whole foreground group.
		if err := demo.Signal("INT"); err != nil {
			t.Fatal(err)
		}
		demo.Wait(t) // any exit code will do: 0 or that of an interrupt
		demo.check(t)
	})
}

type demo struct {
	*testpeer.Process
	tmp string
}

func startDemo(t *testing.T, seconds string) *demo {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "examples", "gunicorn", "demo.sh"))
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	// A test that runs in the background of some script may have SIGINT ignored, and a shell
	// cannot trap again what was ignored when it started.
	cmd := command("env", "--default-signal=INT", script)
	cmd.Env = append(cmd.Env, "DEMO_SECONDS="+seconds, "PROMAGG="+testpeer.Promagg(t), "TMPDIR="+tmp)
	d := &demo{tmp: tmp, Process: testpeer.Start(t, cmd)}
	t.Cleanup(func() {
		for _, pid := range d.left(t) { // only if the test has failed
			testpeer.SignalPid(t, "KILL", pid)
		}
	})
	return d
}

// shown says what is missing from the output.
func (d *demo) shown() error {
	for _, want := range []string{`(?m)^demo_requests_total\{.*\} [1-9]`, `http://127\.0\.0\.1:[0-9]+/metrics`} {
		if !regexp.MustCompile(want).MatchString(d.Log()) {
			return fmt.Errorf("the output has nothing that matches %s", want)
		}
	}
	return nil
}

func (d *demo) check(t *testing.T) {
	t.Helper()
	if err := d.shown(); err != nil {
		t.Error(err)
	}
	// What has been killed may need a moment to be gone.
	testpeer.WaitFor(t, "the demo's processes to be gone", patience, func() error {
		if left := d.left(t); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		return nil
	})
	entries, err := os.ReadDir(d.tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind in TMPDIR: %s", e.Name())
	}
}

// left finds the processes that the demo has started, in whatever session they
// are by now: by the TMPDIR that they have inherited.
func (d *demo) left(t *testing.T) []int {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range environs {
		b, err := os.ReadFile(path)
		if err != nil {
			if !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) && !strings.Contains(err.Error(), "no such process") {
				t.Errorf("look for what is left: %v", err)
			}
			continue // somebody else's, or gone
		}
		if !bytes.Contains(append(b, 0), []byte("TMPDIR="+d.tmp+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
