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

func TestDamage(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	left(t, dir, "gauge_livesum_2.db", entry{key: `["busy", "busy", {}, "Busy."]`}, entry{key: "nonsense"})
	if err := errors.Join(os.Symlink("counter_1.db", filepath.Join(dir, "counter_3.db")), os.Mkdir(filepath.Join(dir, "counter_4.db"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r := lookAt(t, dir)
	tells(t, r, "PA401 error")
	contains(t, find(t, r, "PA401"), "3 files are damaged", "gauge_livesum_2.db (dead, 1 entry read): corrupt at byte", "counter_3.db: not a regular file", "counter_4.db: not a regular file")
}

func TestUnreadable(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := testpeer.Shm(t)
		held(t, dir, "counter_1.db", jobs)
		if err := os.Chmod(filepath.Join(dir, "counter_1.db"), 0o600); err != nil {
			t.Fatal(err)
		}
		testpeer.AsNobody(t, dir)
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	r := lookAt(t, dir)
	tells(t, r, "PA407 error", "PA107 warning")
	contains(t, find(t, r, "PA407"), "user 65534 can't open 1 file", "counter_1.db (user 0)")
	contains(t, find(t, r, "PA107"), "user 65534 can't write the directory: it belongs to user 0")
	contains(t, find(t, r, "PA204"), "can't see the files of", "who writes 1 file was not found: run as root")
}

func TestArchiveThatIsNone(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	held(t, dir, "counter_archived.db", jobs)
	r := lookAt(t, dir)
	tells(t, r, "PA402 error")
	contains(t, find(t, r, "PA402"), "counter_archived.db is no archive", "bad trailer")
}

func TestNames(t *testing.T) {
	for base, near := range map[string]bool{
		"Counter_1.db": true, "counter_1.DB": true, "counter_1.db.bak": true, "counters_1.db": true, "counter-1.db": true, "counter_.db": true,
		"counter.db": true, "gauge_1.db": true, "gauge_sums_1.db": true, "gauge_livesum.db": true, "requests_1.db": true, "counter_1.db~": true, "histogram_1 (copy).db.orig": true,
		"counter_1.dbx": false, "notes.txt": false, "app.sock": false, "counter.go": false, "db": false, "": false, ".": false,
	} {
		if _, ok := mmapfile.ParseName(base); ok {
			t.Errorf("%q is a value file's name", base)
		}
		if why := nearly(base); near != (why != "") {
			t.Errorf("%q: %q", base, why)
		}
	}
}

func TestOldLayout(t *testing.T) {
	dir := testpeer.Shm(t)
	for base, key := range map[string]string{
		"counter_1.db":   `["jobs", "jobs_total", {}]`,
		"counter_2.db":   `["jobs", "jobs_total", {}, "Jobs done."]`,
		"counter_3-0.db": `["others_total","others_total",["a"],["b"]]`,
	} {
		w := write(t, dir, base, mmapfile.ValueOnly, entry{key: key, value: 1})
		t.Cleanup(func() { w.Close() })
	}
	r := lookAt(t, dir, func(o *Options) { o.Ignore = []string{"PA601"} })
	tells(t, r, "PA408 hint")
	contains(t, find(t, r, "PA408"), "2 files are", "Python up to 0.15: counter_1.db", "Python 0.16 to 0.17: counter_2.db")
}

func TestFutureTimestamp(t *testing.T) {
	dir := testpeer.Shm(t)
	now := time.Unix(1_700_000_000, 0)
	last := func(stamp float64) entry {
		return entry{key: `["last", "last", {}, "Last."]`, value: 1, stamp: stamp}
	}
	held(t, dir, "gauge_mostrecent_1.db", last(1_700_000_030))
	held(t, dir, "gauge_livemostrecent_2.db", entry{key: `["other", "other", {}, "Other."]`, stamp: 1_700_003_600})
	held(t, dir, "gauge_max_3.db", entry{key: `["top", "top", {}, "Top."]`, stamp: 1_800_000_000})
	r := lookAt(t, dir, func(o *Options) { o.Now = func() time.Time { return now } })
	tells(t, r, "PA409 warning")
	contains(t, find(t, r, "PA409"), "1 file has", "gauge_livemostrecent_2.db: 2023-11-14T23:13:20Z, 1h0m0s from now")
}

func TestDead(t *testing.T) {
	dir := testpeer.Shm(t)
	left(t, dir, "counter_1.db", jobs)
	left(t, dir, "gauge_livesum_1.db", entry{key: `["busy", "busy", {}, "Busy."]`})
	r := lookAt(t, dir)
	tells(t, r, "PA404 warning", "PA405 warning")
	contains(t, find(t, r, "PA404"), "1 file of dead writers, 4 KiB", "counter_1.db")
	contains(t, find(t, r, "PA405"), "1 writer has left files, and is dead")
	if r.Facts.Dead != 1 || r.Facts.Writers != 0 {
		t.Errorf("%d dead, %d not", r.Facts.Dead, r.Facts.Writers)
	}

	held(t, dir, "counter_2.db", jobs)
	tells(t, lookAt(t, dir), "PA404 warning")

	// Who folds says so with a lock, and that is enough.
	d, err := mmapfile.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	lock, err := d.LockFold()
	if err != nil {
		t.Fatal(err)
	}
	r = lookAt(t, dir)
	tells(t, r)
	if r.Facts.Folder != os.Getpid() {
		t.Errorf("the folder is %d, want %d", r.Facts.Folder, os.Getpid())
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	tells(t, lookAt(t, dir), "PA404 warning")

	// Without liveness nobody is dead.
	tells(t, lookAt(t, dir, func(o *Options) { o.Liveness = mmapfile.ProbeOff }))
}

// TestFolderOfAnother: a lock on another filesystem that has the same inode number is
// no lock here.
func TestFolderOfAnother(t *testing.T) {
	if !testpeer.IsAgain() {
		testpeer.WithMounts(t)
		return
	}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	inodes := make(map[uint64]int)
	var locks []*mmapfile.FoldLock
	for _, dir := range []string{a, b} {
		mount(t, dir, "-t", "tmpfs", "-o", "mode=0755", "tmpfs")
		d, err := mmapfile.OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		lock, err := d.LockFold()
		if err != nil {
			t.Fatal(err)
		}
		locks = append(locks, lock)
		t.Cleanup(func() { lock.Close() })
		info, err := os.Stat(filepath.Join(dir, mmapfile.LockName))
		if err != nil {
			t.Fatal(err)
		}
		inodes[mmapfile.ID(info).Inode()]++
		left(t, dir, "counter_1.db", jobs)
	}
	if len(inodes) != 1 {
		t.Fatalf("the two locks have different inode numbers: %v", inodes)
	}
	if err := locks[1].Close(); err != nil {
		t.Fatal(err)
	}
	if r := lookAt(t, a); r.Facts.Folder != os.Getpid() {
		t.Errorf("%s is folded by %d", a, r.Facts.Folder)
	}
	r := lookAt(t, b)
	tells(t, r, "PA404 warning", "PA405 warning")
	if r.Facts.Folder != 0 {
		t.Errorf("%s is folded by %d", b, r.Facts.Folder)
	}
}

func TestLimits(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs, entry{key: `["other", "other_total", {"a": "1", "b": "x=\"", "c": "3", "d": "4"}, "Other."]`})
	held(t, dir, "counter_2.db", jobs)
	for _, tc := range []struct {
		set  func(*Options)
		want string
		text string
	}{
		{func(o *Options) { o.Limits.Files = 1 }, "PA410 error", "--limit.files is reached: 1 file is left out"},
		{func(o *Options) { o.Limits.Files = 2 }, "PA411 warning", "--limit.files is nearly reached: 2 of 2"},
		{func(o *Options) { o.Limits.Labels = 3 }, "PA410 error", "--limit.labels is reached: 1 entry is left out"},
		{func(o *Options) { o.Limits.Labels = 5 }, "PA411 warning", "--limit.labels is nearly reached: 4 of 5"},
		{func(o *Options) { o.Limits.FileSize = 5000 }, "PA411 warning", "--limit.file-size is nearly reached: 4 KiB of 4.9 KiB"},
		{func(o *Options) { o.Limits.Series, o.Ignore = 1, []string{"PA601"} }, "PA410 error", "--limit.series is reached"},
	} {
		r := lookAt(t, dir, tc.set)
		tells(t, r, tc.want)
		contains(t, find(t, r, tc.want[:5]), tc.text)
	}
	tells(t, lookAt(t, dir, func(o *Options) { o.Limits.Labels, o.Limits.Files, o.Limits.FileSize = 6, 3, 0 }))
}
