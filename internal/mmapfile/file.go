package mmapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/edsrzf/mmap-go"
)

// Bytes is a file's content as it stands in a mapping. Another process may
// change it at any time and truncate it away: read it inside [Guard].
type Bytes []byte

// Float64 returns the double at off in one load. It reports false where the
// file does not reach that far.
func (b Bytes) Float64(off uint32) (float64, bool) {
	if uint64(off)+valueSize > uint64(len(b)) || off%valueSize != 0 {
		return 0, false
	}
	return math.Float64frombits(atomic.LoadUint64((*uint64)(unsafe.Pointer(&b[off])))), true
}

// File is a value file opened for reading. Its methods are for one goroutine at
// a time.
type File struct {
	path string
	f    *os.File
	id   FileID
	data mmap.MMap
	walk Walker
}

// FileID tells one file from another that has taken its name.
type FileID struct{ dev, ino uint64 }

// ID returns what os.Stat or os.Lstat saw.
func ID(info fs.FileInfo) FileID {
	st, ok := info.Sys().(*unixStat)
	if !ok {
		return FileID{}
	}
	return FileID{uint64(st.Dev), st.Ino}
}

// OpenFile opens a value file and maps what is there of it. It follows no link,
// does not wait for a FIFO's other end, and refuses what is not a regular file
// with [ErrNotRegular]. The file's time stamps and content remain as they are.
func OpenFile(path string) (*File, error) {
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	file := &File{path: path, f: f}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err == nil {
		file.id = ID(info)
		err = file.remap(info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// maxFileSize is the most that a 32-bit used count can speak of.
const maxFileSize = math.MaxInt32

// remap maps size bytes of the file in place of what was mapped before.
func (f *File) remap(size int64) error {
	if err := f.unmap(); err != nil {
		return err
	}
	if size = min(size, maxFileSize); size == 0 {
		return nil // an empty mapping is an error to mmap(2), an empty file is none to us
	}
	data, err := mmap.MapRegion(f.f, int(size), mmap.RDONLY, 0, 0)
	if err != nil {
		return &fs.PathError{Op: "mmap", Path: f.path, Err: err}
	}
	f.data = data
	return nil
}

func (f *File) unmap() error {
	if f.data == nil {
		return nil
	}
	err := f.data.Unmap()
	f.data = nil
	if err != nil {
		return &fs.PathError{Op: "munmap", Path: f.path, Err: err}
	}
	return nil
}

// Close unmaps and closes the file. Bytes of it must not be used any more.
func (f *File) Close() error {
	return errors.Join(f.unmap(), f.f.Close())
}

// ID tells this file from another of the same name.
func (f *File) ID() FileID { return f.id }

// Bytes returns the mapping. It is good until the next Walk, Resize or Close.
func (f *File) Bytes() Bytes { return Bytes(f.data) }

// Layout returns the layout, as far as the entries walked tell it.
func (f *File) Layout() Layout { return f.walk.Layout() }

// Walk calls entry for each entry that was published since the last Walk; see
// [Walker.Walk]. It maps anew where the file has grown. Without news it costs
// one read of memory.
func (f *File) Walk(entry func(Entry) error) error {
	used := f.Used()
	if len(f.data) < headerSize || used > int64(len(f.data)) {
		if err := f.Resize(); err != nil {
			return err
		}
	}
	var err error
	if fault := Guard(func() { err = f.walk.Walk(f.data, entry) }); fault != nil {
		return f.fault(fault)
	}
	return err
}

// fault maps what is left of a file that lost pages, so that the next reader
// does not fault there again.
func (f *File) fault(err error) error {
	return fmt.Errorf("%w: %w", err, f.Resize())
}

// Resize maps the file anew if its size is no longer the one that is mapped.
func (f *File) Resize() error {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	if min(info.Size(), maxFileSize) == int64(len(f.data)) {
		return nil
	}
	return f.remap(info.Size())
}

// Used returns the used count in the file's header: what the writer says that
// it has written, in bytes.
func (f *File) Used() int64 {
	var used int64
	if err := Guard(func() { used = usedOf(f.data) }); err != nil {
		return 0
	}
	return used
}
