package multiproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// The disks of these tests are real ones that run full, can't be written or die. Each
// runs in a mount namespace of its own.

// fill takes up all the room that is left on a filesystem.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// wantStuck wants folding to fail time and again for a reason that is logged once and
// counted each time, and all values to be served nevertheless.
func (l *litter) wantStuck(t *testing.T, level string, why error) {
	t.Helper()
	before := l.d.Stats().Fold
	for n := range 3 {
		if err := l.round(t); !errors.Is(err, why) {
			t.Fatalf("round %d: %v, want %v", n, err, why)
		}
		l.wantAll(t, fmt.Sprintf("round %d", n))
	}
	if n := l.log.count(level, why.Error()); n != 1 {
		t.Errorf("logged %d times:\n%s", n, l.log)
	}
	s := l.d.Stats().Fold
	if failed := s.Failed - before.Failed; level == "level=ERROR" && failed != 3 || level == "level=WARN" && failed != 0 {
		t.Errorf("%d failures are counted", failed)
	}
	if s.Folds != before.Folds {
		t.Errorf("%d archives were written", s.Folds-before.Folds)
	}
}

// TestFoldDiskFull: a disk without room for an archive, or for another file, keeps files
// from being folded, nothing else. With room it goes on.
func TestFoldDiskFull(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		options string
		fill    func(dir string)
		free    string
	}{
		"bytes": {"size=256k", func(dir string) { fill(t, filepath.Join(dir, "other")) }, "other"},
		"inodes": {"nr_inodes=40", func(dir string) {
			for i := 0; ; i++ {
				err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("other%d", i)), nil, 0o600)
				if errors.Is(err, syscall.ENOSPC) {
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}, "other*"},
	} {
		dir := filepath.Join(top, what)
		testpeer.Mount(t, dir, "-t", "tmpfs", "-o", c.options, "tmpfs")
		l := newLitter(t, dir)
		if _, err := l.w.open(); err != nil {
			t.Fatal(err)
		}
		live, err := l.w.claim(l.w.dead(l.w.expired))
		if err == nil {
			err = l.w.expire(live) // which makes room
		}
		if err != nil {
			t.Fatal(err)
		}
		c.fill(dir)
		l.wantStuck(t, "level=ERROR", syscall.ENOSPC)
		if all, err := filepath.Glob(filepath.Join(dir, ".promagg*.tmp")); err != nil || len(all) > 0 {
			t.Errorf("%s: left on a full disk: %q, %v", what, all, err)
		}
		others, err := filepath.Glob(filepath.Join(dir, c.free))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range others {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		l.wantFolded(t)
		l.wantAll(t, what+", with room")
	}
}

// TestFoldQuota: the same where a quota is used up, which may keep files from being
// renamed, too.
func TestFoldQuota(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.Require(t, testpeer.Btrfs)
		testpeer.WithMounts(t)
		return
	}
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	image, disk := filepath.Join(top, "image"), filepath.Join(top, "disk")
	dir := filepath.Join(disk, "metrics")
	sh := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", script, dir, image, disk).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	sh(`truncate -s 256M "$1"; mkfs.btrfs -q "$1"`)
	testpeer.Mount(t, disk, "-t", "btrfs", "-o", "loop", image)
	sh(`btrfs quota enable "$2"; btrfs subvolume create "$0"; btrfs qgroup limit 4M "$0"`)
	l := newLitter(t, dir)
	other, err := os.Create(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for err == nil {
		_, err = other.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.EDQUOT) {
		t.Fatal(err)
	}
	l.wantStuck(t, "level=ERROR", syscall.EDQUOT)
	sh(`btrfs qgroup limit none "$0"`)
	if err := os.Remove(other.Name()); err != nil {
		t.Fatal(err)
	}
	l.wantFolded(t)
	l.wantAll(t, "with another quota")
}

// TestFoldReadOnly: a directory that promagg sees read-only, as a container may, is
// served and not folded, until it can be written.
func TestFoldReadOnly(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, view := filepath.Join(top, "writers"), filepath.Join(top, "promagg")
	testpeer.Mount(t, dir, "-t", "tmpfs", "tmpfs")
	testpeer.Mount(t, view, "--bind", dir)
	l := newLitter(t, dir)
	l.w.close()
	testpeer.Mount(t, view, "-o", "remount,bind,ro")
	l.look(t, view)
	l.wantStuck(t, "level=WARN", syscall.EROFS)
	if l.d.Stats().Fold.Active {
		t.Error("it says that it folds")
	}
	write(t, dir, "counter_30.db", "more_total", 1)
	if got := values(t, l.d); got["more_total"] != 1 {
		t.Errorf("a new file is not served: %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "counter_30.db")); err != nil {
		t.Fatal(err)
	}
	testpeer.Mount(t, view, "-o", "remount,bind,rw")
	l.wantFolded(t)
	l.wantAll(t, "writable")
}

// TestFoldForbidden: the same for a promagg that has no right to write the directory,
// or to read one of the files.
func TestFoldForbidden(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		openToAll(t, dir)
		own := filepath.Join(dir, "own")
		if err := os.Mkdir(own, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(own, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(own, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		testpeer.AsNobody(t, dir)
		return
	}
	l := newLitter(t, "own")
	if err := os.Chmod("own", 0o500); err != nil {
		t.Fatal(err)
	}
	l.w.close()
	if _, err := l.d.FoldOnce(t.Context()); !errors.Is(err, syscall.EACCES) || l.log.count("not folded") != 0 {
		t.Errorf("folding once: %v, and logged what it returns:\n%s", err, l.log)
	}
	l.wantStuck(t, "level=WARN", syscall.EACCES)
	if err := os.Chmod("own", 0o700); err != nil {
		t.Fatal(err)
	}

	// One that can't be read keeps none of the others from being folded.
	l.hook = func(s fold.Step) error {
		if s.Op == "claim" && s.From == "counter_12.db" {
			return os.Chmod("own/counter_11~1.db", 0)
		}
		return nil
	}
	if err := l.round(t); err == nil {
		t.Error("no error for a file that can't be read")
	}
	if n := l.log.count("level=ERROR", "counter_11~1.db", "permission denied"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, l.log)
	}
	wantNames(t, "own", "counter_1.db", "counter_11.db", "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_max_archived.db")
	want(t, "with a file that can't be read any more", values(t, l.d), "c_total", inAll, "max", 2, "all", 7)
	if err := os.Chmod("own/counter_11.db", 0o600); err != nil {
		t.Fatal(err)
	}
	l.wantFolded(t)
	l.wantAll(t, "readable")
}

// TestFoldUnreadable: what a promagg may not read keeps it from folding, and is none of
// what is said where it may not write: an archive is a failure, as it may be mended, and
// others' files are left to others to fold.
func TestFoldUnreadable(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		openToAll(t, dir)
		for sub, base := range map[string]string{"archive": "counter_archived.db", "files": "counter_1.db"} {
			sub = filepath.Join(dir, sub)
			if err := errors.Join(os.Mkdir(sub, 0o777), os.Chmod(sub, 0o777)); err != nil {
				t.Fatal(err)
			}
			archive(t, sub, base, "c_total", 1)
			if err := os.Chmod(filepath.Join(sub, base), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		testpeer.AsNobody(t, dir)
		return
	}
	d, log := open(t, "archive", mmapfile.ProbeAuto)
	archive(t, "archive", "counter_2.db", "c_total", 2)
	w := &folder{d: d}
	defer w.close()
	err := w.round(t.Context(), 1)
	w.report(err)
	if log.count("level=ERROR", "permission denied", "move it away") != 1 || log.count("can't be renamed") != 0 || d.Stats().Fold.Failed != 1 {
		t.Errorf("%v, %+v; the log has\n%s", err, d.Stats().Fold, log)
	}
	wantNames(t, "archive", "counter_2.db", "counter_archived.db")

	d, _ = open(t, "files", mmapfile.ProbeAuto)
	w = &folder{d: d}
	defer w.close()
	for range 2 {
		if err := w.round(t.Context(), 1); err != nil || d.Stats().Fold.Active {
			t.Errorf("%v; it has kept the right to fold files that it can't read: %v", err, d.Stats().Fold.Active)
		}
	}
}

// TestFoldDiskFails: a disk that takes what is written and then can't keep it: the
// draft can't be synced, or the filesystem gives up and is read-only from then on. No
// draft takes an archive's place, and nothing is lost.
func TestFoldDiskFails(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for what, options := range map[string][]string{"no journal": {"-b", "4096", "-O", "^has_journal"}, "journal": {"-b", "4096"}} {
		// The disk is larger than the one that it is on.
		host, dir := filepath.Join(top, what), filepath.Join(top, what, "disk")
		image, other := filepath.Join(host, "image"), filepath.Join(host, "other")
		testpeer.Mount(t, host, "-t", "tmpfs", "-o", "size=24m", "tmpfs")
		testpeer.Disk(t, dir, image, 64<<20, options...)
		l := newLitter(t, dir)
		// Enough that an archive of it needs pages that the image has not got.
		w, _ := write(t, dir, "counter_13.db", "c_total", 0)
		for i := range 2000 {
			if _, err := w.Append(fmt.Appendf(nil, `["m", "m_total", {"much": "%0100d"}, ""]`, i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command("sync", "-f", dir).Run(); err != nil {
			t.Fatal(err)
		}
		fill(t, other)
		all := []any{"c_total", inAll, "max", 2, "all", 7, "m_total", 0}
		for n := range 4 {
			if err := l.round(t); err == nil {
				t.Fatalf("%s: folded on a disk that has no room for it", what)
			}
			want(t, fmt.Sprintf("%s, round %d", what, n), values(t, l.d), all...)
			if entries := inArchiveOf(t, filepath.Join(dir, "counter_archived.db")); entries != 1 {
				t.Errorf("%s: the archive has %d entries", what, entries)
			}
		}
		t.Logf("%s: the log says:\n%s", what, l.log)
		// The first error has perhaps another name than those that follow from it.
		if n := l.log.count("level=ERROR"); n != 1 || l.log.count("level=WARN") > 1 {
			t.Errorf("%s: logged:\n%s", what, l.log)
		}
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
		if what == "journal" {
			l.close(t)
			testpeer.Unmount(t, dir)
			testpeer.Disk(t, dir, image, 0)
			testDiskIsBack(t, what, dir, "m_total", 0)
			continue
		}
		l.wantFolded(t)
		want(t, what+", with room", values(t, l.d), all...)
	}
}

// inArchiveOf counts the entries of an archive.
func inArchiveOf(t *testing.T, path string) (entries int) {
	t.Helper()
	r, err := Inspect(path, mmapfile.ProbeAuto, false)
	if err != nil || r.State != "archive" {
		t.Fatalf("%s: %+v, %v", path, r, err)
	}
	return r.Entries
}

// TestFoldDiskDies: before any step of a fold the disk answers nothing any more but
// EIO, and has lost what was not synced. promagg goes on with what it has, folds
// nothing, and when the disk is back, so are all values.
func TestFoldDiskDies(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	all := steps(t)
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]int, len(all))
	for i := range numbers {
		numbers[i] = i
	}
	for _, i := range some(t, 10, numbers) {
		what := fmt.Sprintf("%d %s", i, all[i].Op)
		dir, image := filepath.Join(top, "disk"), filepath.Join(top, fmt.Sprint("image", i))
		testpeer.Disk(t, dir, image, 8<<20, "-J", "size=1")
		testDiskDies(t, what, dir, i)
		testpeer.Unmount(t, dir)
		testpeer.Disk(t, dir, image, 0)
		testDiskIsBack(t, what, dir)
		testpeer.Unmount(t, dir)
		if err := os.Remove(image); err != nil {
			t.Fatal(err)
		}
	}
}

func testDiskDies(t *testing.T, what, dir string, at int) {
	l := newLitter(t, dir)
	defer l.close(t)
	if err := exec.Command("sync", "-f", dir).Run(); err != nil {
		t.Fatal(err)
	}
	died := false
	l.hook = atStep(at, func() error {
		died = true
		return shutDown(dir)
	})
	// What is left to do may be nothing that fails.
	if err := l.round(t); err != nil && !errors.Is(err, syscall.EIO) {
		t.Errorf("%s: %v", what, err)
	}
	if !died {
		t.Fatalf("%s: the fold did not come to the step", what)
	}
	for range 3 {
		if s, err := l.d.Snapshot(t.Context()); err == nil {
			want(t, what+", the disk is dead", valuesOf(s), "c_total", inAll, "max", 2, "all", 7)
		} else if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s, the disk is dead: %v", what, err)
		}
		if err := l.round(t); err == nil {
			t.Errorf("%s: folded on a dead disk", what)
		}
	}
	if n := l.log.count("level=ERROR"); n == 0 || n > 3 {
		t.Errorf("%s: logged %d times:\n%s", what, n, l.log)
	}
}

// shutDown lets an ext4 filesystem die, without writing anything any more.
func shutDown(dir string) error {
	const shutdown, noFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("EXT4_IOC_SHUTDOWN", unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noFlush))
}

func testDiskIsBack(t *testing.T, what, dir string, more ...any) {
	d, log := open(t, dir, mmapfile.ProbeAuto)
	d.opts.Fold.Retention = Forever
	defer d.Close()
	all := append([]any{"c_total", inAll, "max", 2, "all", 7}, more...)
	want(t, what+", the disk is back", values(t, d), all...)
	foldOnce(t, d)
	want(t, what+", folded", values(t, d), all...)
	wantNames(t, dir, "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_max_archived.db")
	if n := log.count("level=WARN") + log.count("level=ERROR"); n > 0 {
		t.Errorf("%s: logged:\n%s", what, log)
	}
}

// close lets go of all that a litter has open in its directory.
func (l *litter) close(t *testing.T) {
	t.Helper()
	l.w.close()
	l.d.Close()
	if err := l.living.Close(); err != nil {
		t.Fatal(err)
	}
}
