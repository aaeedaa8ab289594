package multiproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// writeDead writes a file whose writer has ended.
func writeDead(t *testing.T, dir, base, sample string, v float64) {
	t.Helper()
	w, _ := write(t, dir, base, sample, v)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFoldUnknownArchive: as long as it can't be known what an archive includes, no file is
// given a name that it may say is deleted: who comes to know it would not count the file.
func TestFoldUnknownArchive(t *testing.T) {
	dir := t.TempDir()
	die := func(v float64) { t.Helper(); writeDead(t, dir, "counter_5.db", "c_total", v) }
	first, _ := open(t, dir, mmapfile.ProbeAuto)
	die(1)
	foldOnce(t, first) // of which the trailer has counter_5~1.db
	archive := filepath.Join(dir, "counter_archived.db")
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	testpeer.Disown(t, archive) // and is not believed
	die(2)
	second, _ := open(t, dir, mmapfile.ProbeAuto)
	for range 2 {
		if _, err := second.FoldOnce(t.Context()); !errors.Is(err, mmapfile.ErrTrailer) {
			t.Errorf("%v, want %v", err, mmapfile.ErrTrailer)
		}
		want(t, "not believed", values(t, second), "c_total", 3)
	}
	wantNames(t, dir, "counter_5.db", "counter_archived.db")
	if err := os.Chown(archive, 0, 0); err != nil {
		t.Fatal(err)
	}
	third, _ := open(t, dir, mmapfile.ProbeAuto)
	for range 2 {
		want(t, "believed", values(t, third), "c_total", 3)
		foldOnce(t, third)
	}
	wantNames(t, dir, "counter_archived.db")
}

// TestFoldUnlisted: who takes the right to fold over and can't list the directory then
// knows what was there before: not what has been folded since, nor under which names.
func TestFoldUnlisted(t *testing.T) {
	for at := range 4 {
		t.Run(fmt.Sprint(at), func(t *testing.T) { testFoldUnlisted(t, at) })
	}
}

// testFoldUnlisted has another promagg fold when the one that takes over asks for the
// time once more than that: so somewhere between its looks.
func testFoldUnlisted(t *testing.T, at int) {
	dir := t.TempDir()
	die := func(v float64) { t.Helper(); writeDead(t, dir, "counter_5.db", "c_total", v) }
	second, _ := open(t, dir, mmapfile.ProbeAuto)
	second.opts.Fold.Retention = Forever
	die(1)
	second.Sync(true)
	first, _ := open(t, dir, mmapfile.ProbeAuto)
	lock := filepath.Join(dir, mmapfile.LockName)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { set(limit) })
	// The first folds once the second has looked, which has no descriptors as soon as it
	// has the right.
	calls := 0
	second.opts.Now = func() time.Time {
		if calls++; calls == at+1 {
			foldOnce(t, first)
			if err := os.Remove(lock); err != nil {
				t.Error(err)
			}
			die(2)
		} else if _, err := os.Lstat(lock); err == nil {
			set(syscall.Rlimit{Max: limit.Max})
		}
		return time.Now()
	}
	w := &folder{d: second}
	defer w.close()
	err := w.round(t.Context(), 1)
	set(limit)
	if err == nil {
		t.Error("folded without having looked")
	}
	second.opts.Now = time.Now
	for range 2 {
		fresh, _ := open(t, dir, mmapfile.ProbeAuto)
		want(t, "who comes", values(t, fresh), "c_total", 3)
		want(t, "who took over", values(t, second), "c_total", 3)
		if err := w.round(t.Context(), 1); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, dir, "counter_archived.db")
}

// TestArchiveSameInode: an archive that has got the inode of the one before, as where nobody
// holds that open, is another one.
func TestArchiveSameInode(t *testing.T) {
	dir := t.TempDir()
	d := Open(Options{Path: dir, Rescan: time.Hour, Budget: mmapfile.NewBudget(0, 8)})
	defer d.Close()
	archive(t, dir, "counter_archived.db", "c_total", 1)
	w, _ := write(t, dir, "counter_2~1.db", "c_total", 2)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "at first", values(t, d), "c_total", 3)
	im := mmapfile.NewImage(mmapfile.ValueTimestamp)
	im.Append([]byte(`["c", "c_total", {}, "Help."]`), 3, 0)
	content := mmapfile.AppendTrailer(im.Bytes(), []string{"counter_2~1.db"})
	if err := os.WriteFile(filepath.Join(dir, "counter_archived.db"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	d.Sync(true)
	want(t, "folded", values(t, d), "c_total", 3)
	if err := os.Remove(filepath.Join(dir, "counter_2~1.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "and deleted", values(t, d), "c_total", 3)
}

// TestFoldYields: who can prove of nobody that he is dead leaves it to others to fold.
func TestFoldYields(t *testing.T) {
	dir := t.TempDir()
	w, _ := write(t, dir, "counter_1.db", "c_total", 1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blind, _ := open(t, dir, mmapfile.ProbeFlock)
	b := &folder{d: blind}
	defer b.close()
	for range 2 {
		if err := b.round(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if blind.Stats().Fold.Active {
			t.Error("it has kept the right to fold")
		}
	}
	seeing, _ := open(t, dir, mmapfile.ProbeAuto)
	foldOnce(t, seeing)
	wantNames(t, dir, "counter_archived.db")
	// As soon as there is something that it can tell, it takes turns again.
	w, _ = write(t, dir, "counter_2.db", "c_total", 2)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blind.opts.Liveness = mmapfile.ProbeAuto
	blind.Sync(true)
	if err := b.round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "counter_archived.db")
	want(t, "in the end", values(t, blind), "c_total", 3)
}
