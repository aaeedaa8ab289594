//go:build unix

package mmapfile

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Space is how much a filesystem holds, in bytes and in files. Of free bytes it has
// those that processes without privileges get. A filesystem that does not count files
// has 0 of them.
type Space struct {
	Size, Free       uint64
	Files, FreeFiles uint64
}

// SpaceOf returns the space of the filesystem that a path is on.
func SpaceOf(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := uint64(st.Bsize)
	return Space{st.Blocks * block, st.Bavail * block, st.Files, st.Ffree}, nil
}
