package mmapfile

import (
	"math"
	"sync/atomic"
	"unsafe"
)

// Value is one double of a value file, or on the heap, that any number of
// goroutines may change. Each method is one atomic operation (Add repeats its
// own where another one came between), so whoever dies in the middle of it has
// done all or nothing.
type Value struct{ bits atomic.Uint64 }

// Load returns the value.
func (v *Value) Load() float64 { return math.Float64frombits(v.bits.Load()) }

// Set stores x.
func (v *Value) Set(x float64) { v.bits.Store(math.Float64bits(x)) }

// Add adds x. A value that was deleted stays so.
func (v *Value) Add(x float64) {
	for {
		old := v.bits.Load()
		if old == StaleBits || v.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+x)) {
			return
		}
	}
}

// TryAdd is Add that reports false, and has done nothing, if another goroutine
// changed the value at the same time.
func (v *Value) TryAdd(x float64) bool {
	old := v.bits.Load()
	return old == StaleBits || v.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+x))
}

// Swap stores x and returns what was there before.
func (v *Value) Swap(x float64) float64 {
	return math.Float64frombits(v.bits.Swap(math.Float64bits(x)))
}

// Delete marks the series as deleted: readers of promagg leave it out.
func (v *Value) Delete() { v.bits.Store(StaleBits) }

// Value returns the double at an offset that Append returned, or of the
// timestamp 8 bytes behind it. The pointer is good until Close, through any
// growth of the file.
func (w *Writer) Value(off uint32) *Value {
	data := *w.data.Load()
	return (*Value)(unsafe.Pointer(&data[off:][:valueSize][0]))
}

// Deleted reports whether the series was deleted.
func (v *Value) Deleted() bool { return v.bits.Load() == StaleBits }

// StripeHint returns a number that tends to be the same for calls of one
// goroutine and to differ between goroutines, at next to no cost: it comes from
// where the goroutine's stack is.
func StripeHint() uint {
	var onStack byte
	// Stacks are at least 2 KiB apart; the multiplication spreads them.
	return uint((uint64(uintptr(unsafe.Pointer(&onStack))) >> 11) * 0x9e3779b97f4a7c15 >> 56)
}
