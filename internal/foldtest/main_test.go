package foldtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
)

// childEnv makes the test binary another process of a test: it holds what that has
// to do.
const childEnv = "PROMAGG_TEST_FOLD_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var c child
		err := json.Unmarshal([]byte(text), &c)
		if err == nil {
			err = c.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// forking is locked while a process is being made. Until it has become another program
// it has all files open that this one has, locks and all: who counts on closing a
// file holds it for reading.
var forking sync.RWMutex

// child is a process that folds a directory once, or observes it.
type child struct {
	Observe   bool
	Dir       string
	Retention time.Duration
	Kill      int      // the step before which it kills itself; -1 for none
	Bump      string   // what a writer does meanwhile
	Names     []string // of the files that it takes up
}

// What a writer does while a directory is folded.
const (
	bumpPass = "pass" // before each step it takes up a dead writer's file, and dies
	bumpStay = "stay" // the same, and it lives on
	bumpLate = "late" // it opens a file that has been claimed already, once
)

// run does it, and prints the steps where it comes to its end.
func (c *child) run() error {
	if c.Observe {
		return observe(c.Dir)
	}
	var steps []fold.Step
	var failed error
	b := &bumper{dir: c.Dir, names: c.Names, stay: c.Bump != bumpPass}
	d := openDir(c.Dir, c.Retention, func(s fold.Step) error {
		if len(steps) == c.Kill {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal ends this before the call returns, as a rule
		}
		switch {
		case c.Bump == bumpLate && lateStep(s) && b.n == 0:
			failed = errors.Join(failed, b.late())
		case c.Bump == bumpPass, c.Bump == bumpStay:
			failed = errors.Join(failed, b.bump())
		}
		steps = append(steps, s)
		return nil
	})
	defer d.Close()
	_, err := d.FoldOnce(context.Background())
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(steps)
}

// lateStep reports whether it is before this step that a writer opens a claimed file:
// it has been read by then.
func lateStep(s fold.Step) bool { return s.Op == "sync" && s.From == ".promagg_counter_archived.tmp" }

// start runs it. A process that comes to its end returns the steps.
func (c child) start(t testing.TB) (steps []fold.Step) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	forking.Lock()
	err = cmd.Start()
	forking.Unlock()
	if err == nil {
		err = cmd.Wait()
	}
	exit := new(exec.ExitError)
	if c.Kill >= 0 && errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	if err != nil {
		t.Fatalf("the process that folds: %v: %s", err, &stderr)
	}
	if err := json.Unmarshal(out.Bytes(), &steps); err != nil {
		t.Fatalf("%v in %q", err, &out)
	}
	return steps
}
