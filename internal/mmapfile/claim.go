package mmapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Claim is [Create] for a file that no other process may have: it locks it
// (flock) until Close, or until the process ends in whatever way. It returns
// [ErrTaken] where another process has it. entry is called for each entry that
// the file holds already, left by a process that is gone.
func Claim(path string, l Layout, size int64, entry func(key []byte, value uint32)) (*Writer, error) {
	for range claimTries {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|openSafely, 0o644)
		if err != nil {
			return nil, err
		}
		w := &Writer{f: f, layout: l}
		if err := lock(f); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), w.Close())
		}
		if !sameFile(f, path) {
			// It was deleted or renamed between the opening and the lock: what we
			// hold has no name any more.
			if err := w.Close(); err != nil {
				return nil, err
			}
			continue
		}
		err = w.open(size, func(e Entry) error {
			entry(e.Key, e.Value)
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		return w, nil
	}
	return nil, fmt.Errorf("%s: is replaced faster than it can be claimed", path)
}

// claimTries bounds how often a file that vanishes is claimed again.
const claimTries = 20

// ClaimAnew is Claim for a file whose old content is of no use: one that a
// process now gone has left is deleted. It is not overwritten, for a reader may
// have it mapped.
func ClaimAnew(path string, l Layout, size int64) (*Writer, error) {
	for range claimTries {
		w, err := Claim(path, l, size, func([]byte, uint32) {})
		switch corrupt := new(CorruptError); {
		case err == nil && w.used == headerSize:
			return w, nil
		case err == nil:
			err = errors.Join(remove(path), w.Close())
		case errors.As(err, &corrupt), errors.Is(err, ErrLayout):
			err = remove(path)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: is replaced faster than it can be claimed", path)
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
