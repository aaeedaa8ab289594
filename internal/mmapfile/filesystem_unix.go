//go:build unix

package mmapfile

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Filesystem is what there is to know of a filesystem.
type Filesystem struct {
	Name string // as mount(8) has it; empty if it is none of those that are known here
	// Bytes and Inodes are how many there are, and are left for who is not root. 0 is
	// a filesystem that has no limit of its own.
	Bytes, FreeBytes   int64
	Inodes, FreeInodes int64
	ReadOnly           bool // as it is mounted at that path
}

// Group returns the id of a file's group.
func Group(info fs.FileInfo) (gid int, ok bool) {
	st, ok := info.Sys().(*unixStat)
	if !ok {
		return 0, false
	}
	return int(st.Gid), true
}

// Allocated returns how many bytes a file takes up, which are less than its size where
// it has holes.
func Allocated(info fs.FileInfo) int64 {
	const sector = 512 // st_blocks counts these, whatever the filesystem's blocks
	st, ok := info.Sys().(*unixStat)
	if !ok {
		return info.Size()
	}
	return st.Blocks * sector
}

// MayWrite returns an error if this process may not make files in a directory, without
// making one.
func MayWrite(dir string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// Device is the number of a device as HasDevice takes it.
func Device(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }

// HasDevice reports whether the file is on that device. On overlayfs and btrfs a file
// has another number in /proc than os.Stat sees.
func (id FileID) HasDevice(dev uint64) bool { return id.dev == dev }
