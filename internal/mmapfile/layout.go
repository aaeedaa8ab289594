package mmapfile

import "encoding/binary"

// Layout is the shape of a value file's entries. Nothing in a file says which
// it has; [Walker] finds out.
//
// A file, all numbers little-endian:
//
//	offset  size  field
//	0       4     used, int32: bytes that hold data, header included; 0 = nothing written yet
//	4       4     padding
//	8             entries, back to back, up to used
//
// An entry, which begins on an 8-byte boundary:
//
//	size    field
//	4       n, int32: length of the key without its padding
//	n       key, UTF-8 JSON, see [Key]
//	1 to 8  padding, spaces: 8 - (n+4) mod 8, so that the value is aligned
//	8       value, IEEE 754 double
//	8       timestamp, IEEE 754 double, Unix seconds, 0 = none; value+timestamp layout only
type Layout uint8

// The layouts. An empty file has UnknownLayout, and so has one whose first
// entry is all that could be read.
const (
	UnknownLayout  Layout = iota
	ValueOnly             // Python client up to 0.17, Ruby mmap client
	ValueTimestamp        // Python client from 0.18, promagg's Go client
)

var layoutNames = [...]string{UnknownLayout: "unknown", ValueOnly: "value", ValueTimestamp: "value+timestamp"}

// String returns "value", "value+timestamp" or "unknown".
func (l Layout) String() string { return layoutNames[l] }

const (
	headerSize = 8
	lengthSize = 4
	valueSize  = 8
)

// size returns the bytes of an entry behind its padded key.
func (l Layout) size() int64 {
	if l == ValueTimestamp {
		return 2 * valueSize
	}
	return valueSize
}

// paddedKey returns the bytes from an entry's start to its value, for a key of
// n bytes: at least one space of padding, at most eight.
func paddedKey(n int64) int64 {
	return (n+lengthSize)/8*8 + 8
}

// StaleBits is the value of a series that its writer has deleted: the NaN that
// Prometheus itself uses for a series that ended. No arithmetic yields it.
const StaleBits = 0x7ff0000000000002

// putKey writes a key with its length and padding and returns where the value
// begins.
func putKey(dst, key []byte) int {
	binary.LittleEndian.PutUint32(dst, uint32(len(key)))
	n := lengthSize + copy(dst[lengthSize:], key)
	value := int(paddedKey(int64(len(key))))
	for ; n < value; n++ {
		dst[n] = ' '
	}
	return value
}
