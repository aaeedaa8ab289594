package mmapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

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

// layered reports whether a file is on overlayfs.
func layered(f *os.File) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &fs)
	return fs.Type == unix.OVERLAYFS_SUPER_MAGIC, os.NewSyscallError("fstatfs", err)
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

// moveNew renames an entry of a directory, never over another one.
func moveNew(dir *os.File, from, to string) error {
	err := unix.Renameat2(int(dir.Fd()), from, int(dir.Fd()), to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported // this filesystem, or kernel, can't
	}
	return err
}

// maxMappings returns how many mappings the process may have.
func maxMappings() int64 {
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			return n
		}
	}
	return 65530 // the kernel's default
}

// List calls entry for each name in a directory, with the inode number of what
// has it. An error of entry ends the list and is returned.
func List(dir *os.File, entry func(name string, ino uint64) error) error {
	// See getdents64(2). The standard library has no inode numbers, and a call of
	// lstat for each name costs ten times as much.
	const inode, length, name = 0, 16, 19
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(int(dir.Fd()), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "getdents", Path: dir.Name(), Err: err}
		}
		if n == 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > name; rest = rest[binary.NativeEndian.Uint16(rest[length:]):] {
			text, _, _ := bytes.Cut(rest[name:binary.NativeEndian.Uint16(rest[length:])], []byte{0})
			if string(text) == "." || string(text) == ".." {
				continue
			}
			if err := entry(string(text), binary.NativeEndian.Uint64(rest[inode:])); err != nil {
				return err
			}
		}
	}
}

// Changed returns when what os.Stat or os.Lstat saw last changed: its ctime, which
// nobody can set.
func Changed(info fs.FileInfo) time.Time {
	st, ok := info.Sys().(*unixStat)
	if !ok {
		return time.Time{}
	}
	return time.Unix(st.Ctim.Unix())
}
