package check

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{filepath.Join(dir, "none"): "no such file or directory", file: "not a directory"} {
		r := lookAt(t, path)
		tells(t, r, "PA101 error")
		contains(t, find(t, r, "PA101"), path+": "+text)
		if len(r.Findings) != 1 {
			t.Errorf("%d findings of what is not there", len(r.Findings))
		}
	}
}

func TestUnlistable(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := testpeer.Shm(t)
		if err := os.Mkdir(filepath.Join(dir, "metrics"), 0o700); err != nil {
			t.Fatal(err)
		}
		testpeer.AsNobody(t, dir)
		return
	}
	r := lookAt(t, "metrics")
	tells(t, r, "PA101 error")
	contains(t, find(t, r, "PA101"), "permission denied")
}

func TestModes(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	for mode, want := range map[os.FileMode][]string{
		0o777: {"PA108 warning"}, 0o777 | os.ModeSticky: nil, 0o770: nil, 0o755: nil,
	} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		tells(t, lookAt(t, dir), want...)
	}

	// What nobody gets at nobody can replace.
	inner := filepath.Join(dir, "inner")
	if err := errors.Join(os.Mkdir(inner, 0o755), os.Chmod(inner, 0o777), os.Chmod(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	tells(t, lookAt(t, inner))
}

// mount mounts something until the test ends.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	testpeer.Mount(t, dir, args...)
	t.Cleanup(func() { testpeer.Unmount(t, dir) })
}

// TestPlace: on real filesystems, but for those that need a server.
func TestPlace(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	disk := filepath.Join(t.TempDir(), "disk")
	testpeer.Disk(t, disk, disk+".img", 16<<20)
	t.Cleanup(func() { testpeer.Unmount(t, disk) })
	held(t, disk, "counter_1.db", jobs)
	r := lookAt(t, disk)
	tells(t, r, "PA102 hint")
	contains(t, find(t, r, "PA102"), "(ext4)")
	if r.Facts.Filesystem != "ext4" || r.Facts.Bytes == 0 || r.Facts.Inodes == 0 || r.Facts.Lease != "works" {
		t.Errorf("facts: %+v", r.Facts)
	}

	readOnly := filepath.Join(t.TempDir(), "read-only")
	mount(t, readOnly, "--bind", disk)
	testpeer.Mount(t, readOnly, "-o", "remount,ro,bind")
	r = lookAt(t, readOnly)
	tells(t, r, "PA109 error", "PA102 hint")
	if r.Facts.Lease != notTried {
		t.Errorf("lease %s on a filesystem that can't be written", r.Facts.Lease)
	}
}

func TestPlaceOnOverlay(t *testing.T) {
	if !testpeer.IsAgain() {
		dir := t.TempDir()
		testpeer.Again(t, dir, testpeer.OnOverlay(t, dir)...)
		return
	}
	held(t, ".", "counter_1.db", jobs)
	tells(t, lookAt(t, "."), "PA104 hint")
}

// TestPlaceElsewhere is about filesystems that a test can't have.
func TestPlaceElsewhere(t *testing.T) {
	for name, want := range map[string]string{
		"nfs": "PA103", "fuse": "PA103", "xfs": "PA102", "btrfs": "PA102", "zfs": "PA102", "ramfs": "", "": "",
	} {
		got := ""
		for _, f := range place(directory{filesystem: mmapfile.Filesystem{Name: name}}) {
			got += f.ID
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestSpace: a tmpfs that fills up, and one that has few inodes.
func TestSpace(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	full := filepath.Join(t.TempDir(), "full")
	mount(t, full, "-t", "tmpfs", "-o", "size=128k,mode=0755", "tmpfs")
	for _, base := range []string{"counter_1.db", "counter_2.db", "counter_3.db"} {
		held(t, full, base, jobs)
	}
	tells(t, lookAt(t, full))
	ballast := func(size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(full, "ballast"), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ballast(108 << 10)
	r := lookAt(t, full)
	tells(t, r, "PA105 warning")
	contains(t, find(t, r, "PA105"), "8 KiB of 128 KiB free: no room for all 3 living writers", "4 KiB for the largest")
	if r.Facts.Worker != 4096 {
		t.Errorf("the largest worker has %d bytes", r.Facts.Worker)
	}
	ballast(116 << 10)
	r = lookAt(t, full)
	tells(t, r, "PA105 error")
	contains(t, find(t, r, "PA105"), "0 B of 128 KiB free: no room for one more worker")

	few := filepath.Join(t.TempDir(), "few")
	mount(t, few, "-t", "tmpfs", "-o", "size=1m,nr_inodes=6,mode=0755", "tmpfs")
	held(t, few, "counter_1.db", jobs)
	held(t, few, "counter_2.db", jobs)
	held(t, few, "counter_3.db", jobs)
	r = lookAt(t, few)
	tells(t, r, "PA106 warning")
	held(t, few, "counter_4.db", jobs)
	held(t, few, "counter_5.db", jobs)
	r = lookAt(t, few)
	tells(t, r, "PA106 error")
	contains(t, find(t, r, "PA106"), "free inodes: no room for one more worker, of which the largest takes 1")
}

// TestSpaceAtPace: how long it lasts counts where nobody folds.
func TestSpaceAtPace(t *testing.T) {
	n := need{bytes: 100, files: 1, living: 2, bytesPerHour: 1000}
	for _, tc := range []struct {
		free   int64
		folded bool
		want   string
	}{
		{23_999, false, "used up in 23 hours"}, {24_000, false, ""}, {23_999, true, ""},
	} {
		n.folded = tc.folded
		found := space(mmapfile.Filesystem{Bytes: 1 << 20, FreeBytes: tc.free}, n)
		if tc.want == "" && len(found) > 0 || tc.want != "" && (len(found) != 1 || found[0].Severity != Warning) {
			t.Errorf("%+v: %+v", tc, found)
			continue
		}
		if tc.want != "" {
			contains(t, found[0].What, tc.want)
		}
	}
	w := world{}
	for _, age := range []time.Duration{time.Minute, 2 * time.Hour} {
		w.files = append(w.files, file{writer: age.String(), allocated: 4096, age: age, verdict: mmapfile.Verdict{State: mmapfile.Dead}})
	}
	if n := w.need(); n.bytesPerHour != 4096 || n.filesPerHour != 1 || n.dead != 2 || n.living != 0 {
		t.Errorf("need: %+v", n)
	}
}
