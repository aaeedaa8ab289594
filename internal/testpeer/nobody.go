package testpeer

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// nobody marks the process that AsNobody starts.
const nobody = "PROMAGG_TEST_AS_NOBODY"

// IsNobody says whether this is the run of the test that AsNobody started.
func IsNobody() bool { return os.Getenv(nobody) != "" }

// AsNobody runs the test that calls it once more, as a user without privileges,
// in dir, which that user can read. It skips the test if this user can't become
// another one; with CI=true that is a failure.
func AsNobody(t *testing.T, dir string) {
	t.Helper()
	Require(t, Setpriv)
	if os.Geteuid() != 0 {
		missing(t, "only root can become another user")
	}
	test, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// The test binary's own place may be closed to others.
	place, err := os.MkdirTemp("", "promagg-nobody-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	binary := filepath.Join(place, "test")
	if err := errors.Join(os.Chmod(place, 0o755), os.WriteFile(binary, test, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Setpriv.Path(), "--reuid=65534", "--regid=65534", "--clear-groups", "--",
		binary, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), nobody+"=1", "TMPDIR=/tmp")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
