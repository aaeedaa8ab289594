package mmapfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

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
