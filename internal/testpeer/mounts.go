package testpeer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// WithMounts runs the test that calls it once more, in a mount namespace of its own:
// what that run mounts is gone when it ends, in whatever way. IsAgain says that it is
// that run.
func WithMounts(t *testing.T) {
	t.Helper()
	Require(t, Mounts)
	Again(t, t.TempDir(), Mounts.Path(), "--mount")
}

// Mount mounts something on a directory, in a run that WithMounts started. args are
// those of mount(8) before the directory.
func Mount(t testing.TB, dir string, args ...string) {
	t.Helper()
	if !IsAgain() {
		t.Fatal("mounting needs WithMounts")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", append(args, dir)...)
}

// Unmount ends what Mount has begun. Whoever has files open there keeps it from that.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	run(t, "umount", dir)
}

// Disk mounts an ext4 filesystem on a directory. It is in a file of that many bytes,
// which takes up space as it is written to. A filesystem that is in the file already
// is mounted as it was left, else one is made with those options of mkfs.ext4(8).
func Disk(t testing.TB, dir, image string, size int64, options ...string) {
	t.Helper()
	_, err := os.Stat(image)
	if err != nil {
		f, err := os.Create(image)
		if err == nil {
			err = f.Truncate(size)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, "mkfs.ext4", append(options, "-q", "-m", "0", "-E", "nodiscard", image)...)
	}
	Mount(t, dir, "-t", "ext4", "-o", "loop", image)
	if err != nil {
		run(t, "rmdir", filepath.Join(dir, "lost+found")) // which is no business of a test
	}
}

// run runs a program that the test can't do without.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
