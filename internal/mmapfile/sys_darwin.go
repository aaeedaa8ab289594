package mmapfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// leased is not to be had here: macOS has no leases, so whether a writer is alive
// stays unknown.
func leased(*os.File) (writable bool, err error) {
	return false, errors.ErrUnsupported
}

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
