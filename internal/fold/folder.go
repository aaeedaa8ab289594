package fold

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Step is one change to a directory that is about to be made.
type Step struct {
	Op       string // claim, return, create, write, sync, commit, syncdir, delete, discard
	From, To string // names; To only where there is a new one
}

// Folder has the right to fold a directory. It is one goroutine's, but for Holds.
type Folder struct {
	path string
	dir  *mmapfile.Directory
	lock *mmapfile.FoldLock
	// hook is called before each step, which is not made if it returns an error.
	// Tests have it.
	hook func(Step) error
}

// Open takes the right to fold a directory. It returns an error that wraps
// [mmapfile.ErrTaken] where another process has it, and whatever the directory
// refuses where it can't be written. hook may be nil.
func Open(path string, hook func(Step) error) (*Folder, error) {
	dir, err := mmapfile.OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	lock, err := dir.LockFold()
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if hook == nil {
		hook = func(Step) error { return nil }
	}
	return &Folder{path, dir, lock, hook}, nil
}

// Close gives the right up.
func (f *Folder) Close() error { return errors.Join(f.lock.Close(), f.dir.Close()) }

// Holds reports whether the right is still that to a directory.
func (f *Folder) Holds(id mmapfile.FileID) bool { return f.dir.ID() == id && f.lock.Held() }

// ErrUnlocked is returned where the right to fold may be another process' by now.
var ErrUnlocked = fmt.Errorf("%s was deleted or replaced; whoever makes it anew folds the directory", mmapfile.LockName)

// Locked calls do while nobody who locks the directory for listing it sees what do
// changes. It waits for nobody, but returns an error that wraps [mmapfile.ErrBusy] where
// somebody lists it. Without the right to fold it does not: whoever has it now knows nothing of
// what do is about to change, and does not change anything itself before do is done.
func (f *Folder) Locked(do func() error) error {
	if err := f.dir.LockEntries(0); err != nil {
		return err
	}
	if !f.lock.Held() {
		return errors.Join(ErrUnlocked, f.dir.UnlockEntries())
	}
	return errors.Join(do(), f.dir.UnlockEntries())
}

// maxClaims bounds how many names are tried for a claim.
const maxClaims = 1000

// Claim gives a file a name that nobody opens, and none for which taken reports
// true. Call it, and Return, inside Locked.
func (f *Folder) Claim(name mmapfile.Name, taken func(base string) bool) (mmapfile.Name, error) {
	for n := 1; n <= maxClaims; n++ {
		claim := name.Claim(n)
		if taken(claim.String()) {
			continue
		}
		err := f.move("claim", name, claim)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return claim, err
	}
	return name, fmt.Errorf("%s: %d names for its claim are taken", name, maxClaims)
}

// Return gives a claimed file its name back. Where another file has it by now, that
// is an error that wraps [fs.ErrExist].
func (f *Folder) Return(claim mmapfile.Name) (mmapfile.Name, error) {
	name := claim.Unclaimed()
	return name, f.move("return", claim, name)
}

func (f *Folder) move(op string, from, to mmapfile.Name) error {
	return f.step(Step{op, from.String(), to.String()}, func() error { return f.dir.Move(from.String(), to.String()) })
}

// step makes a step, unless the hook forbids it.
func (f *Folder) step(s Step, do func() error) error {
	if err := f.hook(s); err != nil {
		return err
	}
	return do()
}

// Old is an archive that is there already.
type Old struct {
	ID       mmapfile.FileID // zero where there is none
	Included []string        // what it includes
	Mode     fs.FileMode     // its permissions
}

// Old adds the archive that is there to a, which must be empty, unless it is larger
// than most bytes. 0 is no limit.
func (f *Folder) Old(a *Archive, budget *mmapfile.Budget, most int64) (old Old, err error) {
	file, err := budget.Open(f.pathOf(a.name.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return old, nil
	}
	if err != nil {
		return old, err
	}
	defer file.Close()
	old.ID = file.ID()
	info, err := f.dir.Lstat(a.name.String())
	if err != nil {
		return old, err
	}
	if most > 0 && info.Size() > most {
		return old, fmt.Errorf("%s: %w: want at most %d bytes to fold more into, got %d", a.name, mmapfile.ErrSize, most, info.Size())
	}
	old.Mode = info.Mode().Perm()
	whole, err := file.Whole()
	if err == nil {
		old.Included, err = mmapfile.ParseTrailer(a.name, whole)
	}
	if err == nil {
		err = a.Add(whole)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w; move it away to begin a new one", a.name, err)
	}
	return old, err
}

func (f *Folder) pathOf(base string) string { return filepath.Join(f.path, base) }

// Draft is an archive that has been written and does not count yet.
type Draft struct {
	Size    int64 // in bytes
	name    string
	id      mmapfile.FileID
	archive mmapfile.Name
	old     mmapfile.FileID
}

// Name returns the name of the draft's file, and ID which file it is.
func (d *Draft) Name() string        { return d.name }
func (d *Draft) ID() mmapfile.FileID { return d.id }

const draftSuffix = ".tmp"

// draftOf returns the name that a draft of an archive has.
func draftOf(archive mmapfile.Name) string {
	return mmapfile.OwnPrefix + "_" + strings.TrimSuffix(archive.String(), ".db") + draftSuffix
}

// Write writes a draft of an archive that is to replace old and includes files of
// these names, with these permissions. It is on the disk when Write returns. After an
// error nothing is left of it.
func (f *Folder) Write(a *Archive, old Old, included []string, mode fs.FileMode) (d *Draft, err error) {
	content, err := a.Bytes(included)
	if err != nil {
		return nil, err
	}
	d = &Draft{Size: int64(len(content)), name: draftOf(a.name), archive: a.name, old: old.ID}
	var file *os.File
	create := func() (err error) {
		file, err = f.dir.Create(d.name, mode)
		return err
	}
	err = f.step(Step{Op: "create", From: d.name}, create)
	if errors.Is(err, fs.ErrExist) {
		// One that could not be deleted when it had failed.
		if err = f.Discard(d); err == nil {
			err = f.step(Step{Op: "create", From: d.name}, create)
		}
	}
	if err != nil {
		return nil, err
	}
	err = f.step(Step{Op: "write", From: d.name}, func() error {
		_, err := file.Write(content)
		return err
	})
	if err == nil {
		var info fs.FileInfo
		if info, err = file.Stat(); err == nil {
			d.id = mmapfile.ID(info)
		}
	}
	if err == nil {
		err = f.step(Step{Op: "sync", From: d.name}, file.Sync)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(err, f.Discard(d))
	}
	return d, nil
}

// Discard deletes a draft, if it is there.
func (f *Folder) Discard(d *Draft) error { return f.discard(d.name) }

func (f *Folder) discard(name string) error {
	err := f.step(Step{Op: "discard", From: name}, func() error { return f.dir.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ErrMeddled is returned where a file is no longer the one that was read or written.
var ErrMeddled = errors.New("another process has deleted or replaced it meanwhile")

// Commit puts a draft in the place of the archive. Call it inside Locked. After an
// error nothing has changed.
func (f *Folder) Commit(d *Draft) error {
	if err := f.want(d.archive.String(), d.old); err != nil {
		return err
	}
	if err := f.want(d.name, d.id); err != nil {
		return err
	}
	if info, err := f.dir.Lstat(d.name); err != nil {
		return err
	} else if info.Size() != d.Size {
		return fmt.Errorf("%s: %w", d.name, ErrMeddled)
	}
	return f.step(Step{"commit", d.name, d.archive.String()}, func() error { return f.dir.Replace(d.name, d.archive.String()) })
}

// want returns an error that wraps [ErrMeddled] unless a name is that of a file, or of
// none if id is zero.
func (f *Folder) want(base string, id mmapfile.FileID) error {
	var now mmapfile.FileID
	info, err := f.dir.Lstat(base)
	switch {
	case err == nil:
		now = mmapfile.ID(info)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if now != id {
		return fmt.Errorf("%s: %w", base, ErrMeddled)
	}
	return nil
}

// Sync makes lasting what was done to the directory so far.
func (f *Folder) Sync() error { return f.step(Step{Op: "syncdir"}, f.dir.Sync) }

// Delete deletes files and returns how many of them are gone. It goes on after an
// error, of which it returns the first. Without the right to fold it deletes nothing:
// whoever has it may have given the names to other files.
func (f *Folder) Delete(names []string) (gone int, err error) {
	if !f.lock.Held() {
		return 0, ErrUnlocked
	}
	for _, name := range names {
		failed := f.step(Step{Op: "delete", From: name}, func() error { return f.dir.Remove(name) })
		if failed == nil || errors.Is(failed, fs.ErrNotExist) {
			gone++
		} else if err == nil {
			err = failed
		}
	}
	return gone, err
}

// Lstat looks at a file.
func (f *Folder) Lstat(base string) (fs.FileInfo, error) { return f.dir.Lstat(base) }

// DiscardDrafts deletes the drafts that a fold has left which was cut short. It goes on after
// an error, of which it returns the first.
func (f *Folder) DiscardDrafts() (err error) {
	for _, archive := range Archives() {
		draft := draftOf(archive)
		if _, err := f.dir.Lstat(draft); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err = cmp.Or(err, f.discard(draft))
	}
	return err
}

// Sweep deletes what folding has left of itself in a directory, but for its archives:
// drafts, and the file of the lock. It leaves them to a process that folds.
func Sweep(path string) error {
	if _, err := os.Lstat(filepath.Join(path, mmapfile.LockName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := Open(path, nil)
	if errors.Is(err, mmapfile.ErrTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.DiscardDrafts(), f.dir.Remove(mmapfile.LockName))
}

// Archives returns the names of all archives that a directory may have.
func Archives() []mmapfile.Name {
	var names []mmapfile.Name
	for t := mmapfile.Counter; t <= mmapfile.Summary; t++ {
		if t != mmapfile.Gauge {
			names = append(names, mmapfile.Name{Type: t}.Archive())
		}
	}
	for _, m := range mmapfile.Modes() {
		if n := (mmapfile.Name{Type: mmapfile.Gauge, Mode: m}); n.Foldable() {
			names = append(names, n.Archive())
		}
	}
	return names
}
