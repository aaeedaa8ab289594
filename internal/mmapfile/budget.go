package mmapfile

import (
	"sync"
	"sync/atomic"
)

// Budget bounds how many descriptors and mappings the files opened with it keep.
// Those past it work all the same: a descriptor is opened when one is needed, and
// what is not mapped is read. It is safe for concurrent use.
type Budget struct {
	descriptors, mappings int64 // limits
	kept, mapped          atomic.Int64
}

// NewBudget returns a budget of so many descriptors and mappings.
func NewBudget(descriptors, mappings int64) *Budget {
	return &Budget{descriptors: descriptors, mappings: mappings}
}

// DefaultBudget is of half the descriptors that the process may have, and of the
// mappings all but an eighth. The rest is for others: a daemon that can't accept
// a connection, or allocate, is no use.
var DefaultBudget = sync.OnceValue(func() *Budget {
	return NewBudget(maxDescriptors()/2, maxMappings()/8*7)
})

// Mapped returns how many files are mapped.
func (b *Budget) Mapped() int64 { return b.mapped.Load() }

// take takes one of what n counts, if there is one left.
func take(n *atomic.Int64, limit int64) bool {
	if n.Add(1) > limit {
		n.Add(-1)
		return false
	}
	return true
}
