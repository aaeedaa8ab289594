package mmapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// OwnPrefix is how the names of the daemon's own files in a directory begin, which
// are no value files.
const OwnPrefix = ".promagg"

// LockName is the file whose lock says who folds a directory.
const LockName = OwnPrefix + ".lock"

// Own reports whether a directory entry is one of the daemon's own files.
func Own(base string) bool { return strings.HasPrefix(base, OwnPrefix) }

// Directory is an open directory whose entries are to be changed. All is relative to
// the directory itself, whatever has its name by now. Names are single path
// elements; no symbolic link is followed. Its methods are safe for concurrent use.
type Directory struct {
	root *os.Root
	f    *os.File // the same, for what a Root has no method for
	id   FileID
}

// OpenDirectory opens a directory.
func OpenDirectory(path string) (*Directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close(), root.Close())
	}
	return &Directory{root, f, ID(info)}, nil
}

// ID tells the directory from another of the same name.
func (d *Directory) ID() FileID { return d.id }

// Close closes it.
func (d *Directory) Close() error { return errors.Join(d.f.Close(), d.root.Close()) }

// Lstat looks at an entry.
func (d *Directory) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Move renames an entry, in one step and never over another one: then it returns an
// error that wraps [fs.ErrExist]. Where the filesystem can't promise that, it returns
// one that wraps [errors.ErrUnsupported].
func (d *Directory) Move(from, to string) error {
	if err := moveNew(d.f, from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Replace renames an entry over another one, if there is one, in one step.
func (d *Directory) Replace(from, to string) error { return d.root.Rename(from, to) }

// Remove removes an entry.
func (d *Directory) Remove(name string) error { return d.root.Remove(name) }

// Create makes a new file, that must not be there yet, with those permissions and the
// owner of the directory, as far as this process may give it away.
func (d *Directory) Create(name string, mode fs.FileMode) (*os.File, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := d.f.Stat(); err == nil {
		if st, ok := info.Sys().(*unixStat); ok {
			_ = f.Chown(int(st.Uid), int(st.Gid)) // only for those who may
		}
	}
	// Behind the change of owner, which takes bits away.
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Close(), d.root.Remove(name))
	}
	return f, nil
}

// Sync makes lasting what was done to the entries so far.
func (d *Directory) Sync() error { return d.f.Sync() }

// LockEntries keeps those away who call [LockListing], until UnlockEntries: so that
// nobody sees half of what belongs together. It returns [ErrBusy] after about most, where
// somebody does not let go: the lock is held for as long as a listing takes, or some
// renames, but by who means harm.
func (d *Directory) LockEntries(most time.Duration) error { return lockSoon(d.f, true, most) }

// UnlockEntries ends what LockEntries has begun.
func (d *Directory) UnlockEntries() error { return unlock(d.f) }

// LockListing waits until nobody is changing the entries of an open directory, and
// has who wants to wait until dir is closed. It returns [ErrBusy] after about most.
func LockListing(dir *os.File, most time.Duration) error { return lockSoon(dir, false, most) }

// LockPause is how often who waits for the lock of a directory looks whether it is free:
// flock(2) can't be waited for with a limit.
const LockPause = 2 * time.Millisecond

func lockSoon(f *os.File, exclusive bool, most time.Duration) error {
	for waited := time.Duration(0); ; waited += LockPause {
		err := flock(f, exclusive)
		if !errors.Is(err, ErrTaken) {
			return err
		}
		if waited >= most {
			return fmt.Errorf("%s: %w", f.Name(), ErrBusy)
		}
		time.Sleep(LockPause)
	}
}

// FoldLock is the right to fold a directory, which one process has at a time. It is
// held until Close, or until the process ends.
type FoldLock struct {
	dir *Directory
	f   *os.File
}

// LockFold takes the right to fold. It returns an error that wraps [ErrTaken] where
// another process has it.
func (d *Directory) LockFold() (*FoldLock, error) {
	f, err := openIn(d.f, LockName, 0o600) // a Root would follow a link inside of it
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: LockName, Err: ErrNotRegular}, f.Close())
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", LockName, err), f.Close())
	}
	return &FoldLock{d, f}, nil
}

// Held reports whether the lock is still worth something: another process can't have
// its like, for the file has kept its name.
func (l *FoldLock) Held() bool {
	mine, err := l.f.Stat()
	if err != nil {
		return false
	}
	named, err := l.dir.root.Lstat(LockName)
	return err == nil && os.SameFile(mine, named)
}

// Close gives the right up.
func (l *FoldLock) Close() error { return l.f.Close() }
