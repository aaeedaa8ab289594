package mmapfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Claim is [Create] for a file that no other process may have: it locks it
// (flock) until Close, or until the process ends in whatever way. It returns
// [ErrTaken] where another process has it, one that takes no lock (the Python and
// Ruby clients) included as far as [ProbeLease] can tell. entry is called for each
// entry that the file holds already, left by a process that is gone.
func Claim(path string, l Layout, size int64, entry func(key []byte, value uint32)) (*Writer, error) {
	return claim(path, func(f *os.File) (*Writer, error) {
		w := &Writer{f: f, layout: l}
		return w, w.open(size, func(e Entry) error {
			entry(e.Key, e.Value)
			return nil
		})
	})
}

// ClaimAnew is Claim for a file whose old content is of no use: one that a
// process now gone has left is deleted. It is not overwritten, for a reader may
// have it mapped.
func ClaimAnew(path string, l Layout, size int64) (*Writer, error) {
	return claim(path, func(f *os.File) (*Writer, error) {
		w := &Writer{f: f, layout: l}
		err := w.open(size, func(Entry) error { return nil })
		switch corrupt := new(CorruptError); {
		case err == nil && w.used > headerSize, errors.As(err, &corrupt), errors.Is(err, ErrLayout):
			// While we have the lock: without, it could be another one's by now.
			return w, cmp.Or(remove(path), errAgain)
		}
		return w, err
	})
}

// errAgain makes claim start over.
var errAgain = errors.New("again")

// claim opens and locks a file and has open make a writer of it.
func claim(path string, open func(*os.File) (*Writer, error)) (*Writer, error) {
	for range claimTries {
		if written(path) {
			return nil, fmt.Errorf("%s: %w", path, ErrTaken)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|openSafely, 0o644)
		if err != nil {
			return nil, err
		}
		w := &Writer{f: f}
		if err := lock(f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), w.Close())
		}
		err = errAgain
		// Else it was deleted or renamed between the opening and the lock: what we
		// hold has no name any more.
		if sameFile(f, path) {
			if w, err = open(f); err == nil {
				return w, nil
			}
		}
		if closed := w.Close(); !errors.Is(err, errAgain) || closed != nil {
			return nil, errors.Join(err, closed)
		}
	}
	return nil, fmt.Errorf("%s: is replaced faster than it can be claimed", path)
}

// claimTries bounds how often a file that vanishes is claimed again.
const claimTries = 20

// written reports whether some process is known to write the file.
func written(path string) bool {
	f, err := openRead(path)
	if err != nil {
		return false // not there, or not for us to ask about
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if _, ours := released.Load(ID(info)); ours {
		return false
	}
	alive, err := leased(f)
	return err == nil && alive
}

// remove removes a file, if it is still there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sameFile reports whether f is the file that has the name path.
func sameFile(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, named)
}
