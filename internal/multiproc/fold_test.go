package multiproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// names lists a directory, without the lock of who folds it.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !mmapfile.Own(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

// archive makes an archive with one entry.
func archive(t *testing.T, dir, base, sample string, v float64) {
	t.Helper()
	im := mmapfile.NewImage(mmapfile.ValueTimestamp)
	im.Append(fmt.Appendf(nil, `["%s", "%s", {}, "Help."]`, strings.TrimSuffix(sample, "_total"), sample), v, 0)
	if err := os.WriteFile(filepath.Join(dir, base), mmapfile.AppendTrailer(im.Bytes(), nil), 0o644); err != nil {
		t.Fatal(err)
	}
}

func foldOnce(t *testing.T, d *Dir) FoldStats {
	t.Helper()
	s, err := d.FoldOnce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFold: what the dead have left is in the archives afterwards and nowhere else,
// and each value is what it was before.
func TestFold(t *testing.T) {
	for _, freezing := range []bool{false, true} {
		t.Run(fmt.Sprintf("freezing=%v", freezing), func(t *testing.T) { testFold(t, freezing) })
	}
}

func testFold(t *testing.T, freezing bool) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.opts.Fold.Retention = Forever
	d.freeze(freezing)
	living, off := write(t, dir, "counter_1.db", "c_total", 1)
	for i := range 3 {
		for base, key := range map[string]string{"counter_%d.db": "c_total", "gauge_max_%d.db": "max", "gauge_min_%d.db": "min", "gauge_sum_%d.db": "sum",
			"gauge_all_%d.db": "all", "gauge_livesum_%d.db": "live", "gauge_mostrecent_%d.db": "recent"} {
			w, at := write(t, dir, fmt.Sprintf(base, 10+i), key, 0)
			w.SetAt(at, float64(10+i), float64(100-i))
			w.Close()
		}
	}
	gauges := []any{"all", 10, "max", 12, "min", 10, "sum", 33, "recent", 10}
	total := func(n int) []any { return append([]any{"c_total", n}, gauges...) }
	want(t, "before", values(t, d), total(34)...)
	s := foldOnce(t, d)
	if s.Folds != 5 || s.Folded != 15 || s.Expired != 3 {
		t.Errorf("%d folds of %d files, %d expired", s.Folds, s.Folded, s.Expired)
	}
	want(t, "after", values(t, d), total(34)...)
	wantNames(t, dir, "counter_1.db", "counter_archived.db", "gauge_all_10.db", "gauge_all_11.db", "gauge_all_12.db",
		"gauge_max_archived.db", "gauge_min_archived.db", "gauge_mostrecent_archived.db", "gauge_sum_archived.db")
	if s := d.Stats(); s.Files != 4 || s.Archives != 5 || s.Alive != 1 || s.Dead != 3 || s.ArchiveBytes == 0 {
		t.Errorf("%+v", s)
	}

	// The next ones are added to the archive.
	living.Set(off, 2)
	w, _ := write(t, dir, "counter_10.db", "c_total", 4)
	w.Close()
	want(t, "one more", values(t, d), total(39)...)
	foldOnce(t, d)
	want(t, "one more folded", values(t, d), total(39)...)
	// Somebody else sees the same.
	other, _ := open(t, dir, mmapfile.ProbeAuto)
	want(t, "by another", values(t, other), total(39)...)
	// An archive that is deleted takes its values with it.
	if err := os.Remove(filepath.Join(dir, "counter_archived.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "deleted", values(t, d), total(2)...)
	want(t, "deleted, by another", values(t, other), total(2)...)
}

// TestFoldSameClaim: a name that an archive has in its trailer is that of another file
// by the next time that somebody looks who does not fold.
func TestFoldSameClaim(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	other, _ := open(t, dir, mmapfile.ProbeAuto)
	one := func(base string) {
		w, _ := write(t, dir, base, "c_total", 1)
		w.Close()
	}
	one("counter_1.db")
	foldOnce(t, d) // of which the trailer has counter_1~1.db
	want(t, "by another", values(t, other), "c_total", 1)
	one("counter_2.db")
	foldOnce(t, d)
	one("counter_1.db")
	// A fold that ends before its commit.
	d.Sync(true)
	f := &folder{d: d}
	defer f.close()
	if _, err := f.open(); err != nil {
		t.Fatal(err)
	}
	claimed, err := f.claim(f.dead(func(*file) bool { return true }))
	if err != nil || len(claimed) != 1 || claimed[0].base != "counter_1~1.db" {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	want(t, "claimed, by another", values(t, other), "c_total", 3)
}

// TestFoldRetention: the gauges that are a series per worker go when their time is
// over.
func TestFoldRetention(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	now := time.Now()
	d.opts.Now = func() time.Time { return now }
	d.opts.Fold.Retention = time.Hour
	w, _ := write(t, dir, "gauge_all_1.db", "g", 1)
	foldOnce(t, d)
	now = now.Add(2 * time.Hour)
	foldOnce(t, d)
	wantNames(t, dir, "gauge_all_1.db")
	w.Close()
	foldOnce(t, d)
	now = now.Add(time.Hour - time.Second)
	foldOnce(t, d)
	wantNames(t, dir, "gauge_all_1.db")
	now = now.Add(time.Second)
	if s := foldOnce(t, d); s.Expired != 1 {
		t.Errorf("%d expired", s.Expired)
	}
	wantNames(t, dir)
	want(t, "expired", values(t, d))
}

// TestFoldRetentionCutShort: a gauge whose time was over stays so if the file could not
// be deleted. It would stand in the way of a new process of the same id.
func TestFoldRetentionCutShort(t *testing.T) {
	for _, retention := range []time.Duration{0, time.Hour, Forever} {
		dir := t.TempDir()
		d, _ := open(t, dir, mmapfile.ProbeAuto)
		d.opts.Fold.Hook = func(s fold.Step) error {
			if s.Op == "delete" {
				return errors.New("no further")
			}
			return nil
		}
		w, _ := write(t, dir, "gauge_all_1.db", "g", 5)
		w.Close()
		if _, err := d.FoldOnce(t.Context()); err == nil {
			t.Fatal("the file could be deleted")
		}
		wantNames(t, dir, "gauge_all_1~1.db")
		write(t, dir, "gauge_all_1.db", "g", 7)
		next, _ := open(t, dir, mmapfile.ProbeAuto)
		next.opts.Fold.Retention = retention
		foldOnce(t, next)
		wantNames(t, dir, "gauge_all_1.db")
		want(t, fmt.Sprintf("with a retention of %v", retention), values(t, next), "g", 7)
	}
}

// TestFoldSeldomSeen: somebody who looks seldom finds a claimed file under a name that
// was another's in the archive that was there when it looked last.
func TestFoldSeldomSeen(t *testing.T) {
	dir := t.TempDir()
	seldom, _ := open(t, dir, mmapfile.ProbeAuto)
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	for i := range 3 {
		w, _ := write(t, dir, "counter_1.db", "c_total", 1)
		w.Close()
		if i == 2 {
			d.opts.Fold.Hook = func(s fold.Step) error {
				if s.Op == "create" {
					return errors.New("no further")
				}
				return nil
			}
		}
		if _, err := d.FoldOnce(t.Context()); (err != nil) != (i == 2) {
			t.Fatal(err)
		}
		if i != 1 {
			want(t, fmt.Sprintf("%q", names(t, dir)), values(t, seldom), "c_total", i+1)
		}
	}
	wantNames(t, dir, "counter_1~1.db", "counter_archived.db")
	// An archive that is moved away makes what it includes count again, at once.
	d.opts.Fold.Hook = func(s fold.Step) error {
		if s.Op == "delete" {
			return errors.New("no further")
		}
		return nil
	}
	if _, err := d.FoldOnce(t.Context()); err == nil {
		t.Fatal("a file could be deleted")
	}
	want(t, "included", values(t, seldom), "c_total", 3)
	if err := os.Remove(filepath.Join(dir, "counter_archived.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "the archive is deleted", values(t, seldom), "c_total", 1)
	want(t, "the archive is deleted, by whoever folded", values(t, d), "c_total", 1)
}

// TestFoldTwice: of two that want to fold a directory one does.
func TestFoldTwice(t *testing.T) {
	dir := t.TempDir()
	w, _ := write(t, dir, "counter_1.db", "c_total", 1)
	w.Close()
	first, _ := open(t, dir, mmapfile.ProbeAuto)
	second, _ := open(t, dir, mmapfile.ProbeAuto)
	first.Sync(true)
	f := &folder{d: first}
	defer f.close()
	if ok, err := f.open(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := second.FoldOnce(t.Context()); !errors.Is(err, mmapfile.ErrTaken) {
		t.Errorf("the second: %v, want %v", err, mmapfile.ErrTaken)
	}
	want(t, "by the second", values(t, second), "c_total", 1)
	if err := f.round(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "counter_archived.db")
	want(t, "by the second, folded", values(t, second), "c_total", 1)
	// The lock's file is deleted, and with it the right.
	if err := os.Remove(filepath.Join(dir, ".promagg.lock")); err != nil {
		t.Fatal(err)
	}
	if id, _ := first.sighted(); f.f.Holds(id) {
		t.Error("the first still has a right that anybody could take")
	}
	f.close()
	foldOnce(t, second)
}

// TestFoldAfterAnother: whoever gets the right to fold has the directory as another
// has left it, not as it was before that: names of claims may have been used since,
// and names of files be those of others.
func TestFoldAfterAnother(t *testing.T) {
	dir := t.TempDir()
	for base, v := range map[string]float64{"counter_1.db": 1, "counter_2.db": 2} {
		w, _ := write(t, dir, base, "c_total", v)
		w.Close()
	}
	late, _ := open(t, dir, mmapfile.ProbeAuto)
	late.Sync(true)
	first, _ := open(t, dir, mmapfile.ProbeAuto)
	foldOnce(t, first)
	w, _ := write(t, dir, "counter_2.db", "c_total", 4)
	w.Close()
	// It does not come to its end, and nobody may miss anything.
	late.opts.Fold.Hook = func(s fold.Step) error {
		if s.Op == "claim" {
			return nil
		}
		return errors.New("no further")
	}
	f := &folder{d: late}
	defer f.close()
	if err := f.round(t.Context(), 1); err == nil {
		t.Error("it has come to its end")
	}
	other, _ := open(t, dir, mmapfile.ProbeAuto)
	want(t, "claimed by the late one", values(t, other), "c_total", 7)
	want(t, "by itself", values(t, late), "c_total", 7)
}
