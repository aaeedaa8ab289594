//go:build unix

package mmapfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type unixStat = syscall.Stat_t

// openSafely are flags for opening files in a directory that others write to.
const openSafely = unix.O_NOFOLLOW | unix.O_CLOEXEC

// openRead opens path for reading: no link is followed, a FIFO does not block
// us, and no child inherits the descriptor.
func openRead(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|openSafely, 0)
	if errors.Is(err, unix.ELOOP) {
		err = ErrNotRegular // O_NOFOLLOW's word for a symlink
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openIn opens a file of an open directory for reading and writing, and makes it where
// there is none: no link is followed, a FIFO does not block us, and no child inherits
// the descriptor.
func openIn(dir *os.File, name string, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_NONBLOCK|openSafely, mode)
	if errors.Is(err, unix.ELOOP) {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Owner returns the user id of a file's owner.
func Owner(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*unixStat)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// lock takes an exclusive lock on a file without waiting. The kernel drops it
// with the last descriptor and mapping of this opening of the file.
func lock(f *os.File) error { return flock(f, true) }

// flock takes an exclusive or a shared lock without waiting.
func flock(f *os.File, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrTaken
	}
	return os.NewSyscallError("flock", err)
}

// locked reports whether some opening of the file holds an exclusive lock. For the
// moment of the look it takes a shared one.
func locked(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, os.NewSyscallError("flock", err)
	}
	return false, unlock(f)
}

// unlock gives up what lock took.
func unlock(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_UN))
}

// maxDescriptors returns how many files the process may have open.
func maxDescriptors() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what it is where nobody has set it
	}
	return int64(min(limit.Cur, 1<<30))
}

// ReadOnly reports whether an error says that the filesystem can't be written.
func ReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// Exhausted reports whether an error says that the process or the machine has no
// more descriptors, mappings or memory. That is no fault of the file.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
