package mmapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
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
	path   string
	budget *Budget
	// f is nil where descriptors are scarce: the file is then opened again when
	// one is needed.
	f    *os.File
	id   FileID
	mode fs.FileMode
	size int64     // when it was last looked at
	most int64     // bytes of it that are looked at
	data mmap.MMap // nil where there is nothing, or mappings are scarce
	// unmapped says that the file is read instead of mapped.
	unmapped bool
	walk     Walker
	head     []byte // how the first entry's key begins, see Verify
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

// Inode returns the file's inode number.
func (id FileID) Inode() uint64 { return id.ino }

// HasInode reports whether the file has that inode number.
func (id FileID) HasInode(ino uint64) bool { return id.ino == ino }

// OpenFile is [Budget.Open] with the default budget, for a path that nobody has looked
// at: opening alone may do something to a device.
func OpenFile(path string) (*File, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	return DefaultBudget().Open(path)
}

// Open opens a value file and maps what is there of it. It follows no link,
// does not wait for a FIFO's other end, and refuses what is not a regular file
// with [ErrNotRegular]. The file's time stamps and content remain as they are.
func (b *Budget) Open(path string) (*File, error) { return b.OpenUpTo(path, maxFileSize) }

// OpenUpTo is Open for at most so many bytes of the file. What stands behind them is
// never looked at; walking a file that has entries there ends with [ErrSize].
func (b *Budget) OpenUpTo(path string, most int64) (*File, error) {
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	file := &File{path: path, budget: b, f: f, most: min(most, maxFileSize)}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err == nil {
		file.id, file.mode = ID(info), info.Mode().Perm()
		err = file.remap(f, info.Size(), false)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !take(&b.kept, b.descriptors) {
		file.f = nil
		err = f.Close()
	}
	return file, err
}

// with calls do with a descriptor of the file.
func (f *File) with(do func(*os.File) error) error {
	if f.f != nil {
		return do(f.f)
	}
	again, err := openRead(f.path)
	if err != nil {
		return err
	}
	info, err := again.Stat()
	if err == nil && ID(info) != f.id {
		err = &fs.PathError{Op: "open", Path: f.path, Err: fs.ErrNotExist} // another file has the name now
	}
	if err == nil {
		err = do(again)
	}
	return errors.Join(err, again.Close())
}

// maxFileSize is the most that a 32-bit used count can speak of.
const maxFileSize = math.MaxInt32

// remap maps size bytes of the file in place of what was mapped before, or notes
// that it is to be read: with anyway only if the system has no mapping to give, and
// then it says so.
func (f *File) remap(file *os.File, size int64, anyway bool) error {
	if err := f.unmap(); err != nil {
		return err
	}
	f.unmapped, f.size = false, size
	if size = min(size, f.most); size == 0 {
		return nil // an empty mapping is an error to mmap(2), an empty file is none to us
	}
	if anyway {
		f.budget.mapped.Add(1)
	} else if !take(&f.budget.mapped, f.budget.mappings) {
		f.unmapped = true
		return nil
	}
	data, err := mmap.MapRegion(file, int(size), mmap.RDONLY, 0, 0)
	if err != nil {
		f.budget.mapped.Add(-1)
		f.unmapped = Exhausted(err)
		if f.unmapped && !anyway {
			return nil
		}
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
	f.budget.mapped.Add(-1)
	if err != nil {
		return &fs.PathError{Op: "munmap", Path: f.path, Err: err}
	}
	return nil
}

// Rest unmaps the file. It may still be probed; Bytes must not be used any more,
// nor the file walked.
func (f *File) Rest() error { return f.unmap() }

// Held reports whether the file is held open or mapped, so that its inode can't
// become another file's.
func (f *File) Held() bool { return f.f != nil || f.data != nil }

// Mapped reports whether the file is mapped, or has nothing to be mapped; else
// use [File.Read].
func (f *File) Mapped() bool { return !f.unmapped }

// Read returns the content of a file that is not mapped, up to used, in scratch,
// which it makes larger where it must. Of a file that ends before used it returns
// what there is, with [ErrFault]. It may run beside itself, not beside other
// methods.
func (f *File) Read(scratch *[]byte) (Bytes, error) { return f.read(scratch, f.most) }

// ReadWalked is Read for what has been walked. Whatever used claims, that is no more
// than somebody has written.
func (f *File) ReadWalked(scratch *[]byte) (Bytes, error) { return f.read(scratch, f.walk.Pos()) }

func (f *File) read(scratch *[]byte, most int64) (Bytes, error) {
	var content Bytes
	err := f.with(func(file *os.File) error {
		used, err := usedIn(file)
		if err != nil {
			return err
		}
		used = min(used, most)
		info, err := file.Stat()
		if err != nil {
			return err
		}
		there := min(used, info.Size())
		if int64(cap(*scratch)) < there {
			*scratch = make([]byte, there+there/4)
		}
		n, err := file.ReadAt((*scratch)[:there], 0)
		content = Bytes((*scratch)[:n])
		if int64(n) < used && (err == nil || errors.Is(err, io.EOF)) {
			return fmt.Errorf("%w: used is %d, the file ends at %d", ErrFault, used, n)
		}
		return err
	})
	return content, err
}

// Whole reads all of the file, what stands behind used included.
func (f *File) Whole() (content []byte, err error) {
	err = f.with(func(file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		content = make([]byte, min(info.Size(), 2*maxFileSize))
		n, err := file.ReadAt(content, 0)
		if content = content[:n]; errors.Is(err, io.EOF) {
			return nil // it has become shorter, which its trailer will tell
		}
		return err
	})
	return content, err
}

// usedIn reads a file's used count.
func usedIn(file *os.File) (int64, error) {
	var header [headerSize]byte
	if _, err := file.ReadAt(header[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return max(0, usedOf(header[:])), nil
}

// scratches are for the content of unmapped files as they are walked.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the most bytes that scratch space may have to be kept.
const maxScratch = 16 << 20

// withContent calls do with the content of a file that is not mapped, up to most.
func (f *File) withContent(most int64, do func(Bytes) error) error {
	scratch := scratches.Get().(*[]byte)
	defer func() {
		if cap(*scratch) <= maxScratch {
			scratches.Put(scratch)
		}
	}()
	content, err := f.read(scratch, most)
	if err != nil && !errors.Is(err, ErrFault) {
		return err
	}
	return do(content) // which notices for itself where it ends
}

// Close unmaps and closes the file. Bytes of it must not be used any more.
func (f *File) Close() error {
	err := f.unmap()
	if f.f != nil {
		f.budget.kept.Add(-1)
		err = errors.Join(err, f.f.Close())
	}
	return err
}

// Moved tells that the file has another name from now on.
func (f *File) Moved(path string) { f.path = path }

// Mode returns the permissions that the file had when it was opened.
func (f *File) Mode() fs.FileMode { return f.mode }

// ID tells this file from another of the same name.
func (f *File) ID() FileID { return f.id }

// Size returns how many bytes the file had when it was last opened or resized.
func (f *File) Size() int64 { return f.size }

// Bytes returns the mapping. It is good until the next Walk, Resize or Close.
func (f *File) Bytes() Bytes { return Bytes(f.data) }

// Layout returns the layout, as far as the entries walked tell it.
func (f *File) Layout() Layout { return f.walk.Layout() }

// Walk calls entry for each entry that was published since the last Walk; see
// [Walker.Walk]. It maps anew where the file has grown. Without news it costs
// one read of memory.
func (f *File) Walk(entry func(Entry) error) error {
	if f.unmapped {
		return f.walkUnmapped(entry)
	}
	used := f.Used()
	if len(f.data) < headerSize || used > int64(len(f.data)) {
		if err := f.Resize(); err != nil {
			return err
		}
		if f.unmapped {
			return f.walkUnmapped(entry)
		}
	}
	for {
		var err error
		fault := Guard(func() { err = f.walkIn(f.data, entry) })
		if fault != nil {
			return f.fault(fault)
		}
		// Its writer may have made it longer since its size was looked at.
		mapped := len(f.data)
		if !errors.Is(err, ErrUsed) || f.Resize() != nil || len(f.data) <= mapped {
			return err
		}
	}
}

func (f *File) walkUnmapped(entry func(Entry) error) error {
	large := f.Used() > maxScratch
	if !large {
		err := f.withContent(min(f.most, maxScratch), func(content Bytes) error {
			if large = usedOf(content) > maxScratch; large { // by now
				return nil
			}
			return f.walkIn(content, entry)
		})
		if !large {
			return err
		}
	}
	return f.walkLarge(entry)
}

// walkLarge walks a file of which there is too much to be read into memory, if used
// tells the truth. It is mapped for that, budget or not, and remains so if its
// entries go that far: there can't be many such files, for they take real space.
func (f *File) walkLarge(entry func(Entry) error) error {
	err := f.with(func(file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return f.remap(file, info.Size(), true)
	})
	if err != nil {
		return err
	}
	fault := Guard(func() { err = f.walkIn(f.data, entry) })
	if f.walk.Pos() <= maxScratch {
		err = errors.Join(err, f.unmap())
		f.unmapped = true
	}
	if fault != nil {
		return f.fault(fault)
	}
	return err
}

func (f *File) walkIn(data []byte, entry func(Entry) error) error {
	err := f.walk.Walk(data, entry)
	if f.head == nil && f.walk.Pos() > headerSize {
		f.head = bytes.Clone(beginning(data))
	}
	if used := usedOf(data); errors.Is(err, ErrUsed) && used > f.most && used%8 == 0 && int64(len(data)) == f.most {
		return fmt.Errorf("%w: used is %d, %d bytes of it are read", ErrSize, used, f.most)
	}
	return err
}

// Walked returns up to which offset the file has been walked.
func (f *File) Walked() int64 { return f.walk.Pos() }

// News reports whether the file may have entries that have not been walked. Call
// it inside [Guard].
func (f *File) News() bool {
	if f.unmapped {
		var used int64
		err := f.with(func(file *os.File) (err error) {
			used, err = usedIn(file)
			return err
		})
		return err != nil || used != f.walk.Pos()
	}
	return len(f.data) < headerSize || usedOf(f.data) != f.walk.Pos()
}

// beginning returns the length of the first entry's key and how it begins, which
// never change while the file has the same writer's entries.
func beginning(data []byte) []byte {
	n := int64(int32(binary.LittleEndian.Uint32(data[headerSize:])))
	return data[headerSize:][:lengthSize+max(0, min(n, 64))]
}

// Verify returns [ErrReset] if the file does not begin as it did when it was
// walked: something other than its writer has put new content into it.
func (f *File) Verify() error {
	if f.head == nil {
		return nil
	}
	same := true
	begins := func(data []byte) error {
		if len(data) >= headerSize+len(f.head) { // else it is cut off, which Walk tells
			same = usedOf(data) > 0 && bytes.Equal(data[headerSize:][:len(f.head)], f.head)
		}
		return nil
	}
	if f.unmapped {
		if err := f.withContent(headerSize+int64(len(f.head)), func(content Bytes) error { return begins(content) }); err != nil {
			return err
		}
	}
	fault := Guard(func() {
		if !f.unmapped {
			_ = begins(f.data)
		}
	})
	if fault != nil {
		return f.fault(fault)
	}
	if !same {
		return corrupt(0, ErrReset, "its first entry is another one")
	}
	return nil
}

// fault maps what is left of a file that lost pages, so that the next reader
// does not fault there again.
func (f *File) fault(err error) error {
	if failed := f.Resize(); failed != nil {
		return fmt.Errorf("%w: %w", err, failed)
	}
	return err
}

// Resize maps the file anew if its size is no longer the one that is mapped, or if
// it is not mapped and there is room by now.
func (f *File) Resize() error {
	return f.with(func(file *os.File) error {
		info, err := file.Stat()
		if err == nil {
			f.size = info.Size()
		}
		if err != nil || !f.unmapped && min(info.Size(), f.most) == int64(len(f.data)) {
			return err
		}
		large := f.walk.Pos() > maxScratch
		if f.unmapped && !large && f.budget.mapped.Load() >= f.budget.mappings {
			return nil
		}
		return f.remap(file, info.Size(), large)
	})
}

// Used returns the used count in the file's header: what the writer says that
// it has written, in bytes.
func (f *File) Used() int64 {
	var used int64
	if f.unmapped {
		_ = f.with(func(file *os.File) (err error) { // an error is as good as nothing
			used, err = usedIn(file)
			return err
		})
		return used
	}
	if err := Guard(func() { used = usedOf(f.data) }); err != nil {
		return 0
	}
	return used
}
