package mmapfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type unixStat = syscall.Stat_t

// openRead opens path for reading: no link is followed, a FIFO does not block
// us, and no child inherits the descriptor.
func openRead(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		err = ErrNotRegular // O_NOFOLLOW's word for a symlink
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// leased tells whether some process can write the file, by asking for a read
// lease: fcntl(2) refuses it with EAGAIN while any process, in whatever
// namespace, has the inode open for writing or mapped writable. A lease that is
// granted is given back at once: as long as it is held, who opens the file for
// writing waits.
func leased(f *os.File) (writable bool, err error) {
	fd := f.Fd()
	_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return true, nil
	}
	if err == nil {
		_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	}
	return false, os.NewSyscallError("F_SETLEASE", err)
}

// reserve extends the file to size bytes that the disk really has, so that a
// store into their mapping can't fault. A filesystem without fallocate(2) gets a
// sparse extension.
func reserve(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Ftruncate(int(f.Fd()), size)
	}
	if err != nil {
		return &fs.PathError{Op: "reserve", Path: f.Name(), Err: err}
	}
	return nil
}

// StopSignals are the signals that ask a daemon to stop. They stand here
// because no other package of promagg imports syscall.
func StopSignals() []os.Signal { return []os.Signal{syscall.SIGINT, syscall.SIGTERM} }

// maxDescriptors returns how many files the process may have open.
func maxDescriptors() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what it is where nobody has set it
	}
	return int64(min(limit.Cur, 1<<30))
}

// Exhausted reports whether an error says that the process or the machine has no
// more descriptors, mappings or memory. That is no fault of the file.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
