package check

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/promagg/promagg/internal/mmapfile"
)

// directory is the directory itself.
type directory struct {
	path       string // absolute, links resolved
	err        error  // why there is none to read
	id         mmapfile.FileID
	mode       fs.FileMode
	uid, gid   int
	filesystem mmapfile.Filesystem
	closed     bool // others than owner and group can't get there
	// denied is why this user could not make a file there; nil if that was not tried.
	denied error
}

func lookAtDirectory(path string) directory {
	d := directory{path: path}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a directory")}
	}
	if err == nil {
		_, err = os.ReadDir(path)
	}
	if err == nil {
		d.filesystem, err = mmapfile.StatFilesystem(path)
	}
	if err == nil {
		d.path, err = filepath.EvalSymlinks(path)
	}
	if err == nil {
		d.path, err = filepath.Abs(d.path)
	}
	if err != nil {
		d.err = err
		return d
	}
	d.id, d.mode = mmapfile.ID(info), info.Mode()
	d.uid, _ = mmapfile.Owner(info)
	d.gid, _ = mmapfile.Group(info)
	d.denied = mmapfile.MayWrite(path)
	d.closed = closed(d.path)
	return d
}

// closed reports whether a directory above keeps others out.
func closed(path string) bool {
	for {
		above := filepath.Dir(path)
		if above == path {
			return false
		}
		path = above
		const search = 0o001
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&search == 0 {
			return true
		}
	}
}

// has reports whether a device, as /proc has it, is the directory's. Inode numbers
// alone say little: each tmpfs begins with the same ones.
func (d directory) has(dev uint64) bool {
	return d.filesystem.Name == "overlay" || d.filesystem.Name == "btrfs" || d.id.HasDevice(dev)
}

// missing tells that there is no directory.
func missing(d directory) []Finding {
	return []Finding{finding("PA101", nil, "%v", d.err)}
}

var (
	inMemory = []string{"tmpfs", "ramfs"}
	remote   = []string{"nfs", "cifs", "smb2", "ceph", "9p", "fuse"}
)

// place tells of the filesystem.
func place(d directory) []Finding {
	name := d.filesystem.Name
	switch {
	case slices.Contains(inMemory, name):
		return nil
	case name == "overlay":
		return []Finding{finding("PA104", nil, "the directory is on overlayfs, a container's own filesystem")}
	case slices.Contains(remote, name):
		return []Finding{finding("PA103", nil, "the directory is on %s", name)}
	case name == "":
		return nil // of one that is not known there is nothing to say
	}
	return []Finding{finding("PA102", nil, "the directory is on a disk (%s)", name)}
}

// access tells who may write, but for the application's own processes.
func access(d directory, by folder) (found []Finding) {
	if d.filesystem.ReadOnly {
		return []Finding{finding("PA109", nil, "the filesystem is mounted read-only here")}
	}
	if d.denied != nil && !by.held { // who folds may be another user
		found = append(found, finding("PA107", nil, "user %d can't write the directory: it belongs to user %d, group %d, mode %v",
			os.Geteuid(), d.uid, d.gid, d.mode))
	}
	if d.mode.Perm()&0o002 != 0 && d.mode&fs.ModeSticky == 0 && !d.closed {
		found = append(found, finding("PA108", nil, "mode %v: anybody may delete or replace files in the directory", d.mode))
	}
	return found
}
