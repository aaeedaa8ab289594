package multiproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// series makes a dead writer's file with so many counters, of which the first is from.
func series(t *testing.T, dir, base string, from, n int) {
	t.Helper()
	im := mmapfile.NewImage(mmapfile.ValueTimestamp)
	for i := from; i < from+n; i++ {
		im.Append(fmt.Appendf(nil, `["c%d", "c%d_total", {}, "Help."]`, i, i), 1, 0)
	}
	if err := os.WriteFile(filepath.Join(dir, base), im.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sumOf(t *testing.T, d *Dir) (sum float64) {
	t.Helper()
	for _, v := range values(t, d) {
		sum += v
	}
	return sum
}

// TestFoldNearLimit: what an archive has was within the limits once, and is not lost
// because the files that it is made of still count when it is taken in.
func TestFoldNearLimit(t *testing.T) {
	dir := t.TempDir()
	d, _, clock := openLimited(t, dir, func(l *Limits) { l.Entries = 200 })
	series(t, dir, "counter_1.db", 0, 80)
	d.Sync(true)
	*clock = clock.Add(time.Second)
	foldOnce(t, d)
	series(t, dir, "counter_2.db", 20, 60)
	if got := sumOf(t, d); got != 140 {
		t.Fatalf("%v before", got)
	}
	foldOnce(t, d)
	if got := sumOf(t, d); got != 140 {
		t.Errorf("%v when it is folded, want 140", got)
	}
	again, _, _ := openLimited(t, dir, func(l *Limits) { l.Entries = 10 })
	if got := sumOf(t, again); got != 140 {
		t.Errorf("%v to one that begins with less, want 140", got)
	}
}

// TestFoldPastLimit: dead writers that flooded the directory do not keep their places in
// it, and leave no more behind than is within the limit.
func TestFoldPastLimit(t *testing.T) {
	dir := t.TempDir()
	d, log, _ := openLimited(t, dir, func(l *Limits) { l.Series, l.Files = 10, 50 })
	write(t, dir, "counter_z.db", "mine_total", 1000) // its writer lives
	d.Sync(true)
	for i := range 100 {
		series(t, dir, fmt.Sprintf("counter_%d.db", i), i*5, 5)
	}
	for range 3 {
		d.Sync(true)
		foldOnce(t, d)
	}
	wantNames(t, dir, "counter_archived.db", "counter_z.db")
	if got := values(t, d)["mine_total"]; got != 1000 {
		t.Errorf("the living writer's series is %v, want 1000", got)
	}
	if s := d.Stats(); s.Fold.Dropped == 0 || s.Series > 10 || s.Files != 1 {
		t.Errorf("%d dropped, %d series, %d files", s.Fold.Dropped, s.Series, s.Files)
	}
	if log.count("WARN", "not kept") == 0 {
		t.Error("nobody is told")
	}
}

// TestFoldAround: a file that can't be claimed keeps no other from being folded.
func TestFoldAround(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	long := "counter_0" + strings.Repeat("a", 255-len("counter_0.db")) + ".db"
	series(t, dir, long, 0, 1)
	series(t, dir, "counter_1.db", 0, 1)
	if err := os.MkdirAll(filepath.Join(dir, ".promagg_gauge_max_archived.tmp", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := d.FoldOnce(t.Context()); err == nil {
		t.Error("nobody is told of what can't be folded")
	}
	wantNames(t, dir, long, "counter_archived.db")
	want(t, "folded", values(t, d), "c0_total", 2)
}

// TestFoldLockLink: a link in the lock's place is not followed.
func TestFoldLockLink(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	series(t, dir, "counter_1.db", 0, 1)
	if err := os.Symlink("counter_2.db", filepath.Join(dir, mmapfile.LockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.FoldOnce(t.Context()); !errors.Is(err, mmapfile.ErrNotRegular) {
		t.Errorf("%v, want %v", err, mmapfile.ErrNotRegular)
	}
	wantNames(t, dir, "counter_1.db")
}

// TestFoldModes: nobody may read in an archive what he could not read in the files, nor
// write it.
func TestFoldModes(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	fold := func(base string, mode, want os.FileMode) {
		t.Helper()
		series(t, dir, base, 0, 1)
		if err := os.Chmod(filepath.Join(dir, base), mode|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		foldOnce(t, d)
		info, err := os.Stat(filepath.Join(dir, "counter_archived.db"))
		if err != nil || info.Mode() != want {
			t.Errorf("after a file of mode %v the archive's is %v, %v; want %v", mode, info.Mode(), err, want)
		}
	}
	fold("counter_1.db", 0o666, 0o644)
	fold("counter_2.db", 0o640, 0o640)
	fold("counter_3.db", 0o644, 0o640)
}

// TestFoldForged: where the sticky bit keeps users from deleting each other's files, an
// archive of another user does not do it either.
func TestFoldForged(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	series(t, dir, "counter_1~1.db", 0, 1)
	forged := filepath.Join(dir, "counter_archived.db")
	content := mmapfile.AppendTrailer(mmapfile.NewImage(mmapfile.ValueTimestamp).Bytes(), []string{"counter_1~1.db"})
	if err := os.WriteFile(forged, content, 0o644); err != nil {
		t.Fatal(err)
	}
	testpeer.Disown(t, forged)
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	want(t, "forged", values(t, d), "c0_total", 1)
	if err := os.Chown(forged, 0, 0); err != nil {
		t.Fatal(err)
	}
	again, _ := open(t, dir, mmapfile.ProbeAuto)
	want(t, "root's own", values(t, again))
}
