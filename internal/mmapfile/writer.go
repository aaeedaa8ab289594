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

// Writer appends entries to a value file and overwrites their values. Append
// and Close are for one goroutine at a time; Set may run beside them.
//
// Order of publication: space is reserved, the entry is filled, used is raised.
// A reader, or a crash, at any point between sees whole entries only.
type Writer struct {
	f      *os.File
	layout Layout
	used   int64
	// data is the whole file. Mappings that it has outgrown stay until Close,
	// because a concurrent Set may still store through them.
	data atomic.Pointer[mmap.MMap]
	old  []mmap.MMap
}

// Create opens a value file for writing, makes it where there is none, and goes
// on behind the entries that it holds. size is the initial size in bytes of a
// new file, rounded up to a page. It returns [ErrLayout] for a file of another
// layout and a [CorruptError] for one that is damaged.
func Create(path string, l Layout, size int64) (*Writer, error) {
	if l != ValueOnly && l != ValueTimestamp {
		panic("mmapfile: bug: Create with layout " + l.String())
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	w := &Writer{f: f, layout: l}
	if err := w.open(size, func(Entry) error { return nil }); err != nil {
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
	data := *w.data.Load()
	var walk Walker
	if err := walk.Walk(data, entry); err != nil {
		return fmt.Errorf("%s: %w", w.f.Name(), err)
	}
	if found := walk.Layout(); found != UnknownLayout && found != w.layout {
		return fmt.Errorf("%s: %w: want %s, got %s", w.f.Name(), ErrLayout, w.layout, found)
	}
	w.used = max(walk.Pos(), headerSize)
	w.publish(data)
	return nil
}

// grow reserves and maps size bytes, rounded up to a page.
func (w *Writer) grow(size int64) error {
	page := int64(os.Getpagesize())
	size = (size + page - 1) / page * page
	if size > maxFileSize {
		return &fs.PathError{Op: "grow", Path: w.f.Name(), Err: fmt.Errorf("want at most %d bytes, got %d", maxFileSize, size)}
	}
	if err := reserve(w.f, size); err != nil {
		return err
	}
	data, err := mmap.MapRegion(w.f, int(size), mmap.RDWR, 0, 0)
	if err != nil {
		return &fs.PathError{Op: "mmap", Path: w.f.Name(), Err: err}
	}
	if old := w.data.Swap(&data); old != nil {
		w.old = append(w.old, *old)
	}
	return nil
}

// publish stores used: with this store, which releases all stores before it,
// the entries below used exist for readers.
func (w *Writer) publish(data []byte) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&data[0])), uint32(w.used))
}

// Append adds an entry of value 0 and returns the offset of its value. The file
// doubles as often as it takes; an error leaves it as it was.
func (w *Writer) Append(key []byte) (value uint32, err error) {
	if len(key) > MaxKey {
		return 0, fmt.Errorf("%w: want at most %d bytes, got %d", ErrKey, MaxKey, len(key))
	}
	at := w.used + paddedKey(int64(len(key)))
	end := at + w.layout.size()
	if size := int64(len(*w.data.Load())); end > size {
		for size < end {
			size *= 2
		}
		if err := w.grow(size); err != nil {
			return 0, err
		}
	}
	data := *w.data.Load()
	clear(data[w.used+int64(putKey(data[w.used:end], key)) : end])
	w.used = end
	w.publish(data)
	return uint32(at), nil
}

// Set stores a value at the offset that Append returned, in one atomic store.
func (w *Writer) Set(value uint32, v float64) {
	data := *w.data.Load()
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&data[value:][:valueSize][0])), math.Float64bits(v))
}

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
	if data := w.data.Swap(nil); data != nil {
		w.old = append(w.old, *data)
	}
	for _, m := range w.old {
		errs = append(errs, m.Unmap())
	}
	w.old = nil
	return errors.Join(append(errs, w.f.Close())...)
}

// Release gives up the lock and closes the file, and leaves its mappings:
// pointers into them stay good until the process ends.
func (w *Writer) Release() error {
	// A mapping holds the opening that the lock belongs to, so that closing the
	// descriptor alone would not give it up.
	return errors.Join(unlock(w.f), w.f.Close())
}
