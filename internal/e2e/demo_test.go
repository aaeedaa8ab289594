package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestDemo: `promagg demo` shows the merged metrics and where to look, loses
// nothing of workers that are killed, and leaves neither a process nor a file
// behind, whether it ends by itself or in some other way.
func TestDemo(t *testing.T) {
	ours := demoOf{
		argv:  func(time string) []string { return []string{testpeer.Promagg(t), "demo", "--for", time + "s"} },
		shows: []string{`(?m)^  demo_http_requests_total\{.*\} [1-9]`, `http://127\.0\.0\.1:[0-9]+/metrics`, `(?m)^demo: This ends`},
	}
	ends := regexp.MustCompile(`(?m)^demo: (\d+) requests answered \((\d+) failed\), (\d+) counted; workers replaced: (\d+) by SIGTERM, (\d+) by SIGKILL$`)
	t.Run("ends by itself", func(t *testing.T) {
		demo := ours.start(t, "6")
		if err := demo.Wait(t); err != nil {
			t.Errorf("promagg demo: %v", err)
		}
		demo.check(t)
		m := ends.FindStringSubmatch(demo.Log())
		if m == nil {
			t.Fatal("no last line")
		}
		var n [5]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1]) // they are digits
		}
		// A request that failed may have been counted before its worker died.
		answered, failed, counted := n[0], n[1], n[2]
		if answered == 0 || counted < answered || counted > answered+failed {
			t.Errorf("%d requests answered, %d failed, %d counted", answered, failed, counted)
		}
		if n[3] == 0 || n[4] == 0 {
			t.Errorf("workers replaced: %d by SIGTERM, %d by SIGKILL; want some of both", n[3], n[4])
		}
	})
	for name, signal := range map[string]string{"interrupted": "INT", "terminal gone": "HUP"} {
		t.Run(name, func(t *testing.T) {
			demo := ours.start(t, "600")
			demo.await(t)
			// Ctrl-C goes to the whole foreground group.
			if err := demo.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := demo.Wait(t); err != nil {
				t.Errorf("promagg demo: %v", err)
			}
			demo.check(t)
		})
	}
	t.Run("terminated while a worker hangs", func(t *testing.T) {
		demo := ours.start(t, "600")
		demo.await(t)
		workers := demo.others(t)
		if len(workers) == 0 {
			t.Fatal("no workers")
		}
		testpeer.SignalPid(t, "STOP", workers[0])
		testpeer.SignalPid(t, "TERM", demo.Pid())
		if err := demo.Wait(t); err != nil {
			t.Errorf("promagg demo: %v", err)
		}
		demo.check(t)
	})
	t.Run("killed", func(t *testing.T) {
		demo := ours.start(t, "600")
		demo.await(t)
		demo.Kill(t)
		demo.gone(t) // the directory can't be helped
	})
}

// TestDemoGunicorn: the same of the example with gunicorn.
func TestDemoGunicorn(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	script, err := filepath.Abs(filepath.Join("..", "..", "examples", "gunicorn", "demo.sh"))
	if err != nil {
		t.Fatal(err)
	}
	gunicorn := demoOf{
		// A test that runs in the background of some script may have SIGINT ignored, and a shell
		// cannot trap again what was ignored when it started.
		argv: func(time string) []string {
			return []string{"env", "--default-signal=INT", "DEMO_SECONDS=" + time, "PROMAGG=" + testpeer.Promagg(t), script}
		},
		shows: []string{`(?m)^demo_requests_total\{.*\} [1-9]`, `http://127\.0\.0\.1:[0-9]+/metrics`},
	}
	t.Run("ends by itself", func(t *testing.T) {
		demo := gunicorn.start(t, "6")
		if err := demo.Wait(t); err != nil {
			t.Errorf("demo.sh: %v", err)
		}
		demo.check(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		demo := gunicorn.start(t, "600")
		demo.await(t)
		if err := demo.Signal("INT"); err != nil {
			t.Fatal(err)
		}
		demo.Wait(t) // any exit code will do: 0 or that of an interrupt
		demo.check(t)
	})
}

// demoOf is a demonstration that can be started.
type demoOf struct {
	argv  func(seconds string) []string
	shows []string // patterns of its output
}

type demo struct {
	*testpeer.Process
	shows []string
	tmp   string
}

func (of demoOf) start(t *testing.T, seconds string) *demo {
	t.Helper()
	tmp := t.TempDir()
	cmd := command(of.argv(seconds)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	d := &demo{shows: of.shows, tmp: tmp, Process: testpeer.Start(t, cmd)}
	t.Cleanup(func() {
		for _, pid := range d.left(t) { // only if the test has failed
			testpeer.SignalPid(t, "KILL", pid)
		}
	})
	return d
}

// await returns once the demonstration has shown what it has to show.
func (d *demo) await(t *testing.T) {
	t.Helper()
	testpeer.WaitFor(t, "the metrics and the URL", patience, func() error {
		if ended, err := d.Exited(); ended {
			t.Fatalf("it has ended: %v", err)
		}
		return d.shown()
	})
}

// shown says what is missing from the output.
func (d *demo) shown() error {
	for _, want := range d.shows {
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
	d.gone(t)
	entries, err := os.ReadDir(d.tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind in TMPDIR: %s", e.Name())
	}
}

// gone returns once no process is left: what has been killed may need a moment.
func (d *demo) gone(t *testing.T) {
	t.Helper()
	testpeer.WaitFor(t, "the demo's processes to be gone", patience, func() error {
		if left := d.left(t); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		return nil
	})
}

// others are the processes that the demo has started.
func (d *demo) others(t *testing.T) []int {
	t.Helper()
	return slices.DeleteFunc(d.left(t), func(pid int) bool { return pid == d.Pid() })
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
