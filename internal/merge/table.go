package merge

// table is a hash table of values that know their own hash: a slot is no more
// than the value, so that it takes a quarter of what a map does. It is open
// addressed with linear probing. The zero T is an empty slot.
type table[T comparable] struct {
	slots []T // a power of two of them, at least a quarter empty
	used  int
	hash  func(T) uint64
}

// find returns the value of that hash for which is reports true, else the zero T.
func (t *table[T]) find(hash uint64, is func(T) bool) (v T) {
	if t.used == 0 {
		return v
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; t.slots[i] != v; i = (i + 1) & mask {
		if is(t.slots[i]) {
			return t.slots[i]
		}
	}
	return v
}

// add adds a value that is not there yet.
func (t *table[T]) add(v T) {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.resize(max(4, 2*len(t.slots)))
	}
	t.used++
	t.put(v)
}

func (t *table[T]) put(v T) {
	var empty T
	mask := uint64(len(t.slots) - 1)
	i := t.hash(v) & mask
	for t.slots[i] != empty {
		i = (i + 1) & mask
	}
	t.slots[i] = v
}

// remove removes a value that is there.
func (t *table[T]) remove(v T) {
	var empty T
	mask := uint64(len(t.slots) - 1)
	i := t.hash(v) & mask
	for t.slots[i] != v {
		i = (i + 1) & mask
	}
	t.used--
	// Whatever follows may stand where it does only because of this one.
	for gap := i; ; {
		i = (i + 1) & mask
		next := t.slots[i]
		if next == empty {
			t.slots[gap] = empty
			return
		}
		// It may move to the gap if that is between its own place and where it is.
		if home := t.hash(next) & mask; (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = next
			gap = i
		}
	}
}

// replace puts a value in the place of one that is there and has the same hash.
func (t *table[T]) replace(old, v T) {
	mask := uint64(len(t.slots) - 1)
	i := t.hash(old) & mask
	for t.slots[i] != old {
		i = (i + 1) & mask
	}
	t.slots[i] = v
}

// all yields the values.
func (t *table[T]) all(yield func(T) bool) {
	var empty T
	for _, v := range t.slots {
		if v != empty && !yield(v) {
			return
		}
	}
}

// shrink gives back the room that is not needed.
func (t *table[T]) shrink() {
	size := 4
	for 4*t.used > 3*size {
		size *= 2
	}
	if size < len(t.slots) {
		t.resize(size)
	}
}

func (t *table[T]) resize(size int) {
	old := *t
	t.slots = make([]T, size)
	for v := range old.all {
		t.put(v)
	}
}
