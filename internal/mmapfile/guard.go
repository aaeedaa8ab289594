package mmapfile

import (
	"fmt"
	"runtime/debug"
)

// Guard runs read, which reads from mappings. Where a page that it touches is
// gone, read ends there and Guard returns an error that wraps [ErrFault]; any
// other panic goes on. Locks that read takes must be released by defer.
func Guard(read func()) (err error) {
	// The setting belongs to the goroutine, so that nobody else's fault is
	// taken for one of ours.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		// The runtime's errors have an address only for a fault at a mapped one;
		// a nil pointer of our own has none.
		fault, ok := r.(interface{ Addr() uintptr })
		if !ok {
			panic(r)
		}
		err = fmt.Errorf("%w (fault at %#x)", ErrFault, fault.Addr())
	}()
	read()
	return nil
}
