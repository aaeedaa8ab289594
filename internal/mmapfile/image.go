package mmapfile

import (
	"encoding/binary"
	"math"
)

// Image builds a value file in memory.
type Image struct {
	layout Layout
	data   []byte
}

// NewImage returns an image without entries.
func NewImage(l Layout) *Image {
	im := &Image{layout: l, data: make([]byte, headerSize)}
	im.raise()
	return im
}

// Append adds an entry; the timestamp counts in a layout that has one.
func (im *Image) Append(key []byte, value, timestamp float64) {
	from := len(im.data)
	im.data = append(im.data, make([]byte, paddedKey(int64(len(key)))+im.layout.size())...)
	at := from + putKey(im.data[from:], key)
	binary.LittleEndian.PutUint64(im.data[at:], math.Float64bits(value))
	if im.layout == ValueTimestamp {
		binary.LittleEndian.PutUint64(im.data[at+valueSize:], math.Float64bits(timestamp))
	}
	im.raise()
}

func (im *Image) raise() { binary.LittleEndian.PutUint32(im.data, uint32(len(im.data))) }

// Bytes returns the file. It is the image's until the next Append.
func (im *Image) Bytes() []byte { return im.data }
