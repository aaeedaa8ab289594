package mmapfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/edsrzf/mmap-go"
)

// Writer appends entries to a value file and overwrites their values. Append
// and Close are for one goroutine at a time; Set may run beside them.
//
// Order of publication: space is reserved, the entry is filled, used is raised.
// A reader, or a crash, at any point between sees whole entries only.
type Writer struct {
	f      *os.File
	layout Layout
	used   int64
	size   int64 // of the file, all of which is mapped
	// segments are the mappings of the file, in order. Growth appends to a copy:
	// what is mapped stays where it is, for a Set or a [Value] elsewhere.
	segments atomic.Pointer[[]segment]
	entry    []byte // scratch of Append
}

// segment is a mapped part of the file. It begins and ends at a page boundary.
type segment struct {
	start int64
	data  mmap.MMap
}

// Create opens a value file for writing, makes it where there is none, and goes
// on behind the entries that it holds. size is the initial size in bytes of a
// new file, rounded up to a page. It returns [ErrLayout] for a file of another
// layout and a [CorruptError] for one that is damaged.
func Create(path string, l Layout, size int64) (*Writer, error) {
	return Continue(path, l, size, func([]byte, uint32) {})
}

// Continue is [Create] that calls entry for each entry that the file holds already.
func Continue(path string, l Layout, size int64, entry func(key []byte, value uint32)) (*Writer, error) {
	if l != ValueOnly && l != ValueTimestamp {
		panic("mmapfile: bug: a writer with layout " + l.String())
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	w := &Writer{f: f, layout: l}
	err = w.open(size, func(e Entry) error {
		entry(e.Key, e.Value)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// open maps the file and calls entry for each entry that it holds already.
func (w *Writer) open(size int64, entry func(Entry) error) error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	if err := w.grow(max(size, info.Size(), headerSize)); err != nil {
		return err
	}
	var walk Walker
	if err := walk.Walk((*w.segments.Load())[0].data, entry); err != nil {
		return fmt.Errorf("%s: %w", w.f.Name(), err)
	}
	if found := walk.Layout(); found != UnknownLayout && found != w.layout {
		return fmt.Errorf("%s: %w: want %s, got %s", w.f.Name(), ErrLayout, w.layout, found)
	}
	w.used = max(walk.Pos(), headerSize)
	w.publish()
	return nil
}

// grow reserves size bytes, rounded up to a page, and maps those that are new.
func (w *Writer) grow(size int64) error {
	page := int64(os.Getpagesize())
	size = (size + page - 1) / page * page
	if size > maxFileSize {
		return &fs.PathError{Op: "grow", Path: w.f.Name(), Err: fmt.Errorf("want at most %d bytes, got %d", maxFileSize, size)}
	}
	if err := reserve(w.f, size); err != nil {
		return err
	}
	data, err := mmap.MapRegion(w.f, int(size-w.size), mmap.RDWR, 0, w.size)
	if err != nil {
		return &fs.PathError{Op: "mmap", Path: w.f.Name(), Err: err}
	}
	var segments []segment
	if mapped := w.segments.Load(); mapped != nil {
		segments = *mapped
	}
	segments = append(slices.Clip(segments), segment{w.size, data})
	w.segments.Store(&segments)
	w.size = size
	return nil
}

// publish stores used: with this store, which releases all stores before it,
// the entries below used exist for readers.
func (w *Writer) publish() {
	first := (*w.segments.Load())[0].data
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&first[0])), uint32(w.used))
}

// Append adds an entry of value 0 and returns the offset of its value. The file
// doubles as often as it takes; an error leaves it as it was.
func (w *Writer) Append(key []byte) (value uint32, err error) {
	if len(key) > MaxKey {
		return 0, fmt.Errorf("%w: want at most %d bytes, got %d", ErrKey, MaxKey, len(key))
	}
	at := w.used + paddedKey(int64(len(key)))
	end := at + w.layout.size()
	if size := w.size; end > size {
		for size < end {
			size *= 2
		}
		if err := w.grow(size); err != nil {
			return 0, err
		}
	}
	w.entry = slices.Grow(w.entry[:0], int(end-w.used))[:end-w.used]
	clear(w.entry[putKey(w.entry, key):])
	for _, seg := range *w.segments.Load() {
		if to := max(w.used, seg.start); to < seg.start+int64(len(seg.data)) && to < end {
			copy(seg.data[to-seg.start:], w.entry[to-w.used:])
		}
	}
	w.used = end
	w.publish()
	return uint32(at), nil
}

// Set stores a value at the offset that Append returned, in one atomic store.
func (w *Writer) Set(value uint32, v float64) { w.Value(value).Set(v) }

// SetAt stores a value and its timestamp in Unix seconds. The file must have
// the value+timestamp layout.
func (w *Writer) SetAt(value uint32, v, timestamp float64) {
	if w.layout != ValueTimestamp {
		panic("mmapfile: bug: SetAt in a file without timestamps")
	}
	w.Set(value, v)
	w.Set(value+valueSize, timestamp)
}

// Close unmaps and closes the file, whose values stay.
func (w *Writer) Close() error {
	var errs []error
	if segments := w.segments.Swap(nil); segments != nil {
		for _, seg := range *segments {
			errs = append(errs, seg.data.Unmap())
		}
	}
	return errors.Join(append(errs, w.f.Close())...)
}

// Path returns the name by which the file was opened.
func (w *Writer) Path() string { return w.f.Name() }

// Named reports whether the file still has that name.
func (w *Writer) Named() bool { return sameFile(w.f, w.f.Name()) }

// Remove deletes the file, unless another one has its name by now.
func (w *Writer) Remove() error {
	if !w.Named() {
		return nil
	}
	return remove(w.f.Name())
}

// released are the files that this process has released. It has them mapped for as
// long as it lives, and so looks like their writer.
var released sync.Map // FileID to bool

// Release gives up the lock and closes the file, and leaves its mappings:
// pointers into them stay good until the process ends.
func (w *Writer) Release() error {
	if info, err := w.f.Stat(); err == nil {
		released.Store(ID(info), true)
	}
	// A mapping holds the opening that the lock belongs to, so that closing the
	// descriptor alone would not give it up.
	return errors.Join(unlock(w.f), w.f.Close())
}
