package mmapfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// leased is not to be had here: macOS has no leases, so whether a writer is alive
// stays unknown.
func leased(*os.File) (writable bool, err error) {
	return false, errors.ErrUnsupported
}

// layered is about a filesystem that macOS does not have.
func layered(*os.File) (bool, error) { return false, nil }

// reserve extends the file to size bytes that the disk really has.
func reserve(f *os.File, size int64) error {
	info, err := f.Stat()
	if more := int64(0); err == nil {
		if more = size - info.Size(); more > 0 {
			err = unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: more})
			if errors.Is(err, unix.ENOTSUP) {
				err = nil // a sparse extension has to do
			}
		}
	}
	if err == nil {
		err = unix.Ftruncate(int(f.Fd()), size)
	}
	if err != nil {
		return &fs.PathError{Op: "reserve", Path: f.Name(), Err: err}
	}
	return nil
}

// moveNew is of no use without leases, which tell that a file may be moved.
func moveNew(*os.File, string, string) error { return errors.ErrUnsupported }

// maxMappings returns how many mappings the process may have: there is no limit
// but memory.
func maxMappings() int64 { return 1 << 30 }

// List calls entry for each name in a directory, with the inode number of what
// has it. An error of entry ends the list and is returned.
func List(dir *os.File, entry func(name string, ino uint64) error) error {
	for {
		entries, err := dir.ReadDir(1024)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone since it was listed
			}
			if err == nil {
				err = entry(e.Name(), ID(info).ino)
			}
			if err != nil {
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
	return time.Unix(st.Ctimespec.Unix())
}
