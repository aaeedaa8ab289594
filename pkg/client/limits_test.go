package client

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestFewDescriptors: a process that may open no more files keeps its values on
// the heap, and goes on.
func TestFewDescriptors(t *testing.T) {
	rerun(t, "ulimit -n 12", func(dir string) {
		var taken []*os.File
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				break
			}
			taken = append(taken, f)
		}
		for _, f := range taken[:min(2, len(taken))] { // room for two files and no more
			f.Close()
		}
		var log strings.Builder
		r := NewRegistry(Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)})
		use(r, 3)
		wantUnplaced(t, r, syscall.EMFILE, &log)
	})
}

// rerun runs the test once more as a process of its own, under a limit that a
// command of the shell sets.
func rerun(t *testing.T, limit string, inside func(dir string)) {
	const env = "PROMAGG_TEST_LIMITED"
	if dir := os.Getenv(env); dir != "" {
		inside(dir)
		return
	}
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", limit+` && exec "$@"`, "sh", test, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// wantUnplaced checks that the registry has told, once, that it ran into a limit.
func wantUnplaced(t *testing.T, r *Registry, limit error, log *strings.Builder) {
	t.Helper()
	if err := r.Err(); !errors.Is(err, limit) {
		t.Errorf("Err() is %v, want %v", err, limit)
	}
	if got := logOf(r, log); strings.Count(got, "\n") != 1 {
		t.Errorf("logged:\n%s", got)
	}
	if r.store.unplaced.Load() == 0 {
		t.Error("no value is counted as unplaced")
	}
}
