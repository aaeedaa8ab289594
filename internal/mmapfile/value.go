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
	segments := *w.segments.Load()
	i := len(segments) - 1
	for ; segments[i].start > int64(off); i-- {
	}
	return (*Value)(unsafe.Pointer(&segments[i].data[int64(off)-segments[i].start:][:valueSize][0]))
}

// Deleted reports whether the series was deleted.
func (v *Value) Deleted() bool { return v.bits.Load() == StaleBits }

// StripeHint returns a number below n, a power of two, that tends to be the same
// for calls of one goroutine and to differ between goroutines, at next to no
// cost: it comes from where the goroutine's stack is. Another seed makes other
// goroutines meet.
func StripeHint(seed uint32, n uint) uint {
	var onStack byte
	// Stacks are at least 2 KiB apart; the multiplication spreads them.
	h := (uint64(uintptr(unsafe.Pointer(&onStack)))>>11 ^ uint64(seed)) * 0x9e3779b97f4a7c15
	return uint(h>>48) & (n - 1)
}
