package testpeer

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// again marks the process that Again starts.
const again = "PROMAGG_TEST_AGAIN"

// IsAgain says whether this is the run of the test that Again or AsNobody started.
func IsAgain() bool { return os.Getenv(again) != "" }

// Again runs the test that calls it once more, in dir, by a program that changes
// what a process may do or see and then runs another one: under is that program with
// its arguments.
func Again(t *testing.T, dir string, under ...string) {
	t.Helper()
	test, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// The test binary's own place may be closed to others.
	place, err := os.MkdirTemp("", "promagg-again-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	binary := filepath.Join(place, "test")
	if err := errors.Join(os.Chmod(place, 0o755), os.WriteFile(binary, test, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(under[0], append(under[1:], binary, "-test.run=^"+t.Name()+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), again+"=1", "TMPDIR=/tmp")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", filepath.Base(under[0]), err, out)
	}
}

// IsNobody says whether this is the run of the test that AsNobody started.
func IsNobody() bool { return IsAgain() }

// AsNobody runs the test that calls it once more, as a user without privileges,
// in dir, which that user can read. It skips the test if this user can't become
// another one; with CI=true that is a failure.
func AsNobody(t *testing.T, dir string) {
	t.Helper()
	Again(t, dir, Nobody(t)...)
}

// Nobody is the beginning of a command that runs the rest as a user without
// privileges.
func Nobody(t testing.TB) []string {
	t.Helper()
	return setpriv(t, "--reuid=65534", "--regid=65534", "--clear-groups")
}

// Leaseless is the beginning of a command that runs the rest without CAP_LEASE: it
// gets no lease of files that others own.
func Leaseless(t testing.TB) []string {
	t.Helper()
	return setpriv(t, "--bounding-set=-lease", "--inh-caps=-lease")
}

// OnOverlay is the beginning of a command that runs the rest in a directory over which
// overlayfs is mounted.
func OnOverlay(t testing.TB, dir string) []string {
	t.Helper()
	Require(t, Overlay)
	return []string{Overlay.Path(), "--mount", "sh", "-c", mountOverlay + `cd "$0" && exec "$@"`, dir}
}

func setpriv(t testing.TB, options ...string) []string {
	t.Helper()
	Require(t, Setpriv)
	if os.Geteuid() != 0 {
		missing(t, "only root can change what a process may do")
	}
	return append(append([]string{Setpriv.Path()}, options...), "--")
}

// Disown gives files to the user that Nobody is.
func Disown(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
}

// Shm makes a directory on tmpfs that all users can read, and removes it when the
// test ends.
func Shm(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "promagg-test-*")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
