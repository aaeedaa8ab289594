package fold

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// folder opens a directory of its own, with these files in it. Its steps are noted.
func folder(t *testing.T, files map[string][]byte) (f *Folder, dir string, steps *[]string) {
	t.Helper()
	dir = t.TempDir()
	for base, content := range files {
		if err := os.WriteFile(filepath.Join(dir, base), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	steps = new([]string)
	f, err := Open(dir, func(s Step) error {
		*steps = append(*steps, s.Op)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir, steps
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Name() != mmapfile.LockName {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

func name(t *testing.T, base string) mmapfile.Name {
	t.Helper()
	n, ok := mmapfile.ParseName(base)
	if !ok {
		t.Fatalf("%q is no value file's name", base)
	}
	return n
}

// TestClaimNames: a claim is given no name that is taken, by whatever.
func TestClaimNames(t *testing.T) {
	f, dir, _ := folder(t, map[string][]byte{"counter_1.db": {1}, "counter_1~1.db": {2}, "counter_1~3.db": {3}})
	claim, err := f.Claim(name(t, "counter_1.db"), func(base string) bool { return base == "counter_1~2.db" })
	if err != nil || claim.String() != "counter_1~4.db" {
		t.Fatalf("claimed as %v, %v", claim, err)
	}
	wantFiles(t, dir, "counter_1~1.db", "counter_1~3.db", "counter_1~4.db")
	if _, err := f.Claim(name(t, "counter_1.db"), func(string) bool { return false }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("claimed again: %v", err)
	}
	if _, err := f.Claim(claim, func(string) bool { return true }); err == nil {
		t.Error("claimed under a name that is taken")
	}
	// Back under its name, unless that is another's by now.
	if _, err := f.Return(claim); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "counter_1.db", "counter_1~1.db", "counter_1~3.db")
	if _, err := f.Return(name(t, "counter_1~1.db")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("returned over another: %v", err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, "counter_1.db")); err != nil || content[0] != 1 {
		t.Errorf("counter_1.db is %v, %v", content, err)
	}
}

// TestCommit: an archive takes the place of the one that was read, with the files'
// permissions.
func TestCommit(t *testing.T) {
	f, dir, steps := folder(t, map[string][]byte{"counter_1~1.db": plain(c, 1), "counter_2~1.db": plain(c, 2)})
	budget := mmapfile.NewBudget(10, 10)
	commit := func(value int, included ...string) error {
		t.Helper()
		a := New(counter)
		old, err := f.Old(a, budget, 0)
		if err != nil {
			return err
		}
		if err := a.Add(plain(c, value)); err != nil {
			t.Fatal(err)
		}
		d, err := f.Write(a, old, included, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(f.Locked(func() error { return f.Commit(d) }), f.Sync())
	}
	if err := commit(1, "counter_1~1.db"); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "counter_1~1.db", "counter_2~1.db", "counter_archived.db")
	if got, want := *steps, []string{"create", "write", "sync", "commit", "syncdir"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	if err := commit(2, "counter_2~1.db"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "counter_archived.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, "two commits", content, map[string]float64{c: 3})
	if included, err := mmapfile.ParseTrailer(counter.Archive(), content); err != nil || !slices.Equal(included, []string{"counter_2~1.db"}) {
		t.Errorf("includes %q, %v", included, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v, want 0644", info.Mode(), err)
	}
	if gone, err := f.Delete([]string{"counter_1~1.db", "counter_9~1.db", "counter_2~1.db"}); gone != 3 || err != nil {
		t.Errorf("%d are gone, %v", gone, err)
	}
	wantFiles(t, dir, "counter_archived.db")
}

// TestCommitReplaced: an archive that is not the one that was read is not replaced, nor
// one by a draft that somebody has cut off.
func TestCommitReplaced(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"deleted":  os.Remove,
		"replaced": func(path string) error { return os.Rename(path+".other", path) },
		"cut off": func(path string) error {
			return os.Truncate(filepath.Join(filepath.Dir(path), ".promagg_counter_archived.tmp"), 20)
		},
	} {
		t.Run(what, func(t *testing.T) {
			sound := mmapfile.AppendTrailer(plain(c, 7), nil)
			f, dir, _ := folder(t, map[string][]byte{"counter_archived.db": sound, "counter_archived.db.other": sound})
			a := New(counter)
			old, err := f.Old(a, mmapfile.NewBudget(1, 1), 0)
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.Write(a, old, nil, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "counter_archived.db")
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Stat(path)
			if err := f.Commit(d); !errors.Is(err, ErrMeddled) {
				t.Errorf("committed: %v", err)
			}
			if after, _ := os.Stat(path); before != nil && !os.SameFile(before, after) || before == nil && after != nil {
				t.Error("the archive is another one")
			}
			if err := f.Discard(d); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrafts: a draft that is in the way is replaced, and one that fails is not left.
func TestDrafts(t *testing.T) {
	const draft = ".promagg_counter_archived.tmp"
	f, dir, _ := folder(t, map[string][]byte{draft: []byte("old"), ".promagg_gauge_max_archived.tmp": nil, "counter_1.db": nil, ".promagg_other": nil})
	a := New(counter)
	if err := a.Add(plain(c, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(a, Old{}, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, draft))
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, "the draft", content, map[string]float64{c: 1})
	if err := f.DiscardDrafts(); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, ".promagg_other", "counter_1.db")
	for _, op := range []string{"create", "write", "sync"} {
		full := errors.New("disk full")
		f.hook = func(s Step) error {
			if s.Op == op {
				return full
			}
			return nil
		}
		if _, err := f.Write(a, Old{}, nil, 0o644); !errors.Is(err, full) {
			t.Errorf("%s fails: %v", op, err)
		}
		wantFiles(t, dir, ".promagg_other", "counter_1.db")
	}
}

// TestCorruption_OldArchive: a file that has an archive's name and is none is not added,
// and the error says what to do.
func TestCorruption_OldArchive(t *testing.T) {
	for what, content := range map[string][]byte{
		"no trailer":      plain(c, 1),
		"empty":           nil,
		"torn":            mmapfile.AppendTrailer(plain(c, 1), []string{"counter_1~1.db"})[:50],
		"another type's":  mmapfile.AppendTrailer(plain(c, 1), []string{"summary_1~1.db"}),
		"a damaged entry": mmapfile.AppendTrailer(append(append([]byte{24}, make([]byte, 7)...), 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), nil),
	} {
		t.Run(what, func(t *testing.T) {
			f, _, _ := folder(t, map[string][]byte{"counter_archived.db": content})
			a := New(counter)
			_, err := f.Old(a, mmapfile.NewBudget(1, 1), 0)
			if err == nil || a.Entries() > 0 {
				t.Fatalf("%d entries, %v", a.Entries(), err)
			}
			if corrupt := new(mmapfile.CorruptError); !errors.Is(err, mmapfile.ErrTrailer) && !errors.As(err, &corrupt) {
				t.Error(err)
			}
		})
	}
}

// TestRight: one process at a time has the right to fold, as long as the file of its
// lock is there.
func TestRight(t *testing.T) {
	f, dir, _ := folder(t, nil)
	if _, err := Open(dir, nil); !errors.Is(err, mmapfile.ErrTaken) {
		t.Errorf("opened twice: %v", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Holds(mmapfile.ID(info)) {
		t.Error("it does not hold the right")
	}
	if other, err := os.Stat(t.TempDir()); err != nil || f.Holds(mmapfile.ID(other)) {
		t.Errorf("it holds that to another directory, %v", err)
	}
	if err := Sweep(dir); err != nil { // leaves it to whoever folds
		t.Error(err)
	}
	if !f.Holds(mmapfile.ID(info)) {
		t.Error("it has lost the right")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if _, err := Open(filepath.Join(dir, "missing"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
}
