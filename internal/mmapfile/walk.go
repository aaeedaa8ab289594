package mmapfile

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// Entry is one entry as it stands in a file.
type Entry struct {
	Key   []byte // without padding; points into the file. It may be longer than [MaxKey]
	Value uint32 // offset of the value; the timestamp, where the layout has one, is 8 bytes further
}

// Walker finds the entries of one file and remembers how far it got, so that
// the next walk sees only what is new. The zero Walker is at the start of a
// file of unknown layout. It works on plain bytes and needs no mapping.
type Walker struct {
	layout Layout
	pos    int64 // where the next entry begins; 0 = nothing walked yet
	first  bool  // the first entry was reported while the layout was unknown
}

// Layout returns the layout, UnknownLayout as long as the file does not tell.
func (w *Walker) Layout() Layout { return w.layout }

// Pos returns the offset up to which the file has been walked.
func (w *Walker) Pos() int64 { return w.pos }

// usedOf returns a file's used count as it stands in its header, 0 where the
// file is too short to have one. It loads with acquire order: what a writer
// stored before it raised used is seen after this.
func usedOf(data []byte) int64 {
	if len(data) < headerSize {
		return 0
	}
	p := unsafe.Pointer(&data[0])
	if uintptr(p)%4 != 0 { // never so in a mapping
		return int64(int32(binary.LittleEndian.Uint32(data)))
	}
	return int64(int32(atomic.LoadUint32((*uint32)(p))))
}

// Walk calls entry for every entry that was published since the last walk, in
// file order. data is the file from its start, as far as it is there. An error
// of entry ends the walk at that entry and counts as its damage.
//
// After an error the entries reported so far remain good, and the next Walk
// tries the damaged place again: a writer may have been caught half way.
func (w *Walker) Walk(data []byte, entry func(Entry) error) error {
	if len(data) == 0 && w.pos == 0 {
		return nil // created, not yet sized
	}
	if len(data) < headerSize {
		return corrupt(0, ErrHeader, "want %d bytes, got %d", headerSize, len(data))
	}
	used := usedOf(data)
	switch {
	case w.pos > int64(len(data)):
		return cutOff(data, w.pos, int64(len(data)))
	case used == 0 || used == w.pos:
		// Old Python clients store a zero before they store the new count, so a
		// zero is no news.
		return nil
	case used < headerSize || used%8 != 0:
		return corrupt(0, ErrUsed, "want a multiple of 8, got %d", used)
	case used < w.pos:
		return corrupt(0, ErrReset, "used went from %d to %d", w.pos, used)
	}
	if w.pos == 0 {
		w.pos = headerSize
	}
	if w.layout == UnknownLayout {
		w.layout = detect(data, used)
	}
	if w.layout == UnknownLayout {
		return w.walkFirst(data, used, entry)
	}
	for w.pos < used {
		e, next, err := entryAt(data, used, w.pos, w.layout)
		if err != nil {
			return err
		}
		if !w.first {
			if err := entry(e); err != nil {
				return &CorruptError{w.pos, err}
			}
		}
		w.first = false
		w.pos = next
	}
	return nil
}

// walkFirst reports the first entry of a file whose layout can't be told: up to
// its value both layouts agree, behind it nothing is certain.
func (w *Walker) walkFirst(data []byte, used int64, entry func(Entry) error) error {
	if used == headerSize {
		return nil
	}
	e, next, err := entryAt(data, used, w.pos, ValueOnly)
	if err != nil {
		return err
	}
	if !w.first {
		if err := entry(e); err != nil {
			return &CorruptError{w.pos, err}
		}
		w.first = true
	}
	if used > int64(len(data)) {
		return cutOff(data, used, next)
	}
	return corrupt(next, ErrEntry, "neither layout fits what follows")
}

// MaxKey is the most bytes that a key of ours has, and that a reader should take
// in: real ones have a few hundred. A longer one is reported like others, unread,
// if it looks like a key at both ends: it is for the reader to leave it out.
const MaxKey = 64 << 10

// closed reports whether a key, with its padding, ends as one does.
func closed(padded []byte, n int64) bool {
	if padded[n-1] != ']' {
		return false
	}
	for _, c := range padded[n:] {
		if c != ' ' {
			return false
		}
	}
	return true
}

// entryAt reads the entry at pos. It returns where the next one begins, which
// is greater than pos.
func entryAt(data []byte, used, pos int64, l Layout) (e Entry, next int64, err error) {
	limit := min(used, int64(len(data)))
	if pos+lengthSize > limit {
		return e, 0, cutOff(data, used, pos)
	}
	n := int64(int32(binary.LittleEndian.Uint32(data[pos:])))
	value := pos + paddedKey(n)
	next = value + l.size()
	if n <= 0 || n > MaxKey && (next > used || next <= limit && !closed(data[pos+lengthSize:value], n)) {
		return e, 0, corrupt(pos, ErrEntry, "want a key of 1 to %d bytes, got %d", MaxKey, n)
	}
	if next > limit {
		return e, 0, cutOff(data, used, pos)
	}
	e.Key = data[pos+lengthSize : pos+lengthSize+n]
	e.Value = uint32(value)
	if e.Key[0] != '[' {
		return e, 0, corrupt(pos, ErrKey, "want '[' at its start, got %q", e.Key[0])
	}
	return e, next, nil
}

// cutOff tells an entry that runs into used from one that runs into the end of
// the file.
func cutOff(data []byte, used, pos int64) error {
	if used > int64(len(data)) {
		return corrupt(pos, ErrUsed, "used is %d, the file ends at %d", used, len(data))
	}
	return corrupt(pos, ErrEntry, "it does not end before used, %d", used)
}

// detect tells a file's layout: the one whose walk lands exactly on used. A
// damaged file has the layout whose walk gets further, by at least one entry
// that the other does not have.
//
// The two walks go side by side. Nearly always one of them ends within a few
// entries, and the other has won as soon as it is further: it need not be walked
// to its end.
func detect(data []byte, used int64) Layout {
	for _, parse := range []bool{false, true} {
		a, b := trial{layout: ValueOnly, pos: headerSize}, trial{layout: ValueTimestamp, pos: headerSize}
		for a.n == b.n && a.step(data, used, parse) && b.step(data, used, parse) {
		}
		a.chase(&b, data, used, parse)
		b.chase(&a, data, used, parse)
		switch {
		case a.landed && b.landed:
			continue // only a file made to deceive gets here; the keys have the last word
		case a.landed, !b.landed && a.n > b.n:
			return ValueOnly
		case b.landed, b.n > a.n:
			return ValueTimestamp
		}
		return UnknownLayout
	}
	return UnknownLayout
}

// trial is a walk by one layout.
type trial struct {
	layout Layout
	n      int // entries found
	pos    int64
	landed bool // the last one ends at used
	failed bool
}

// step goes on by an entry and reports whether there is more to come.
func (t *trial) step(data []byte, used int64, parse bool) bool {
	if t.landed || t.failed {
		return false
	}
	e, next, err := entryAt(data, used, t.pos, t.layout)
	if err == nil && parse && len(e.Key) <= MaxKey {
		_, err = ParseKey(e.Key)
	}
	if err != nil {
		t.failed = true
		return false
	}
	t.n++
	t.pos = next
	t.landed = next == used
	return !t.landed
}

// chase goes on until it is clear whether this or the other trial, which has
// ended, got further.
func (t *trial) chase(o *trial, data []byte, used int64, parse bool) {
	for (o.landed || t.n <= o.n) && t.step(data, used, parse) {
	}
}
