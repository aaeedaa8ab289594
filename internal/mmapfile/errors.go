package mmapfile

import (
	"errors"
	"fmt"
)

// Reasons why a file, or the rest of it, can't be read. Match them with errors.Is.
var (
	// ErrHeader is returned when a file is too short for its header.
	ErrHeader = errors.New("short header")
	// ErrUsed is returned when used is no offset that a writer could have
	// published, or lies past the end of the file.
	ErrUsed = errors.New("bad used count")
	// ErrEntry is returned when an entry's length is impossible or the entry
	// does not end before used.
	ErrEntry = errors.New("malformed entry")
	// ErrReset is returned when used is lower than it was: the file was emptied
	// and written anew. The caller has to open it again.
	ErrReset = errors.New("file was written anew")
	// ErrFault is returned when a mapped page is gone: the file was truncated
	// while it was read, or its disk failed.
	ErrFault = errors.New("file was truncated while mapped")
	// ErrNotRegular is returned for a directory, symlink, FIFO, socket or device
	// under the name of a value file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrSize is returned when used lies past the most bytes of a file that the
	// reader takes: the entries before that were read.
	ErrSize = errors.New("larger than the limit")
	// ErrTaken is returned when another process holds the lock of a file.
	ErrTaken = errors.New("file belongs to another process")
	// ErrLayout is returned when a file to be continued has the other layout.
	ErrLayout = errors.New("file has another layout")
	// ErrTrailer is returned for a file that has an archive's name and no sound
	// trailer.
	ErrTrailer = errors.New("bad trailer of an archive")
	// ErrBusy is returned when another process holds the lock of a directory for
	// longer than a listing of it takes.
	ErrBusy = errors.New("directory is locked by another process")
)

// CorruptError says where in a file the damage begins: all before Offset was
// read, nothing from there on.
type CorruptError struct {
	Offset int64 // bytes from the start of the file
	Err    error // wraps ErrHeader, ErrUsed, ErrEntry or ErrKey
}

func (e *CorruptError) Error() string { return fmt.Sprintf("corrupt at byte %d: %v", e.Offset, e.Err) }

// Unwrap returns the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(offset int64, reason error, format string, args ...any) error {
	return &CorruptError{offset, fmt.Errorf("%w: "+format, append([]any{reason}, args...)...)}
}
