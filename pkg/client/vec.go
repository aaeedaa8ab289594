package client

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/promagg/promagg/internal/mmapfile"
)

// MetricVec is a family of metrics with the same name and label names, one for
// each combination of label values. It is safe for concurrent use. CounterVec,
// GaugeVec and so on are its instances.
type MetricVec[M placed] struct {
	*family[M]
	curried []curried // by position of the label
}

// curried is a label value that is given already.
type curried struct {
	label int
	value string
}

// family holds the metrics of one name. Look-ups take no lock and allocate
// nothing; what changes the table takes mu.
type family[M placed] struct {
	desc *Desc
	kind kind
	sum  bool // values of processes are added up, so a value may be moved by adding
	make func(values []string) M

	table atomic.Pointer[table[M]]
	mu    sync.Mutex // protects all below, and the table against other writers
	store *store     // nil until registered
	// forgotten says that the family's series were deleted when it left its store.
	forgotten bool
}

func newFamily[M placed](desc *Desc, k kind, sum bool, make func([]string) M) *family[M] {
	f := &family[M]{desc: desc, kind: k, sum: sum, make: make}
	f.table.Store(newTable[M](8))
	return f
}

// table is an open-addressing hash table that readers use without a lock: slots
// go from nil to an entry and perhaps to one that says that it is dead, never
// back to nil. Tables that get full are made anew, without the dead.
type table[M placed] struct {
	slots []atomic.Pointer[entry[M]]
	used  int // slots that are not nil
	dead  int
}

type entry[M placed] struct {
	hash   uint64
	values []string
	metric M
	dead   bool
}

func newTable[M placed](size int) *table[M] {
	return &table[M]{slots: make([]atomic.Pointer[entry[M]], size)}
}

var hashSeed = maphash.MakeSeed()

// add puts an entry into a table that has room for it.
func (t *table[M]) add(e *entry[M]) {
	for i := e.hash; ; i++ {
		if slot := &t.slots[i&uint64(len(t.slots)-1)]; slot.Load() == nil {
			slot.Store(e)
			t.used++
			return
		}
	}
}

// rebuilt returns a table with the entries that keep wants.
func (t *table[M]) rebuilt(size int, keep func(*entry[M]) bool) *table[M] {
	n := newTable[M](size)
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil && !e.dead && keep(e) {
			n.add(e)
		}
	}
	return n
}

// all yields the entries.
func (t *table[M]) all(yield func(*entry[M]) bool) {
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil && !e.dead && !yield(e) {
			return
		}
	}
}

// mix joins a label value's hash to that of the values before it.
func mix(h uint64, value string) uint64 {
	return (h ^ maphash.String(hashSeed, value)) * 0x9e3779b97f4a7c15
}

// find returns the metric of these label values, and whether there is one.
func (v *MetricVec[M]) find(lvs []string) (m M, ok bool) {
	if _, e := v.slot(v.table.Load(), lvs); e != nil {
		return e.metric, true
	}
	return m, false
}

// slot returns the slot of these label values and what is in it, nil if there is
// none.
func (v *MetricVec[M]) slot(t *table[M], lvs []string) (*atomic.Pointer[entry[M]], *entry[M]) {
	h := uint64(0)
	for i := range v.desc.labels {
		h = mix(h, v.value(i, lvs))
	}
	h ^= h >> 32
	for i := h; ; i++ {
		at := &t.slots[i&uint64(len(t.slots)-1)]
		e := at.Load()
		if e == nil {
			return nil, nil
		}
		if e.hash == h && !e.dead && v.same(e, lvs) {
			return at, e
		}
	}
}

// value returns the value of the i-th label: curried, or of those given.
func (v *MetricVec[M]) value(i int, lvs []string) string {
	if len(v.curried) == 0 {
		return lvs[i]
	}
	before := 0
	for _, c := range v.curried {
		if c.label == i {
			return c.value
		}
		if c.label < i {
			before++
		}
	}
	return lvs[i-before]
}

func (v *MetricVec[M]) same(e *entry[M], lvs []string) bool {
	for i, value := range e.values {
		if value != v.value(i, lvs) {
			return false
		}
	}
	return true
}

// GetMetricWithLabelValues returns the metric for the label values, in the order
// of the label names, and makes it where it is new. The error says what is wrong
// with their number or encoding.
func (v *MetricVec[M]) GetMetricWithLabelValues(lvs ...string) (M, error) {
	if len(lvs)+len(v.curried) == len(v.desc.labels) {
		if m, ok := v.find(lvs); ok {
			return m, nil
		}
	}
	return v.create(slices.Clone(lvs))
}

// WithLabelValues is GetMetricWithLabelValues for values that are known to be
// right: it panics where that returns an error. A look-up of a metric that
// exists allocates nothing and takes no lock.
func (v *MetricVec[M]) WithLabelValues(lvs ...string) M {
	if len(lvs)+len(v.curried) == len(v.desc.labels) {
		if m, ok := v.find(lvs); ok {
			return m
		}
	}
	m, err := v.create(slices.Clone(lvs))
	if err != nil {
		panic(err)
	}
	return m
}

// create makes the metric of label values that were not found.
func (v *MetricVec[M]) create(lvs []string) (m M, err error) {
	if n := len(v.desc.labels) - len(v.curried); len(lvs) != n {
		return m, fmt.Errorf("%w: %q has %d variable labels named %q but %d values %q were provided",
			errInconsistentCardinality, v.desc.name, n, v.desc.labels, len(lvs), lvs)
	}
	values := make([]string, len(v.desc.labels))
	for i := range values {
		values[i] = strings.Clone(v.value(i, lvs))
	}
	if err := v.desc.checkValues(values); err != nil {
		return m, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if m, ok := v.find(lvs); ok { // somebody was faster
		return m, nil
	}
	h := uint64(0)
	for _, value := range values {
		h = mix(h, value)
	}
	e := &entry[M]{hash: h ^ h>>32, values: values, metric: v.make(values)}
	if v.store != nil {
		v.bindLocked(e)
	}
	t := v.table.Load()
	if 2*(t.used+1) > len(t.slots) {
		size := len(t.slots)
		if 4*(t.used-t.dead+1) > size {
			size *= 2
		}
		t = t.rebuilt(size, func(*entry[M]) bool { return true })
		t.add(e)
		v.table.Store(t)
	} else {
		t.add(e)
	}
	return e.metric, nil
}

// few is how many label values find room on the stack.
const few = 8

// ordered appends the values of labels to lvs, in the order of the label names.
func (v *MetricVec[M]) ordered(lvs []string, labels Labels) ([]string, error) {
	n := 0
	for i, name := range v.desc.labels {
		if v.isCurried(i) {
			continue
		}
		n++
		value, ok := labels[name]
		if !ok {
			return nil, fmt.Errorf("label name %q missing in label map", name)
		}
		lvs = append(lvs, value)
	}
	if len(labels) != n {
		return nil, fmt.Errorf("%w: %q has %d variable labels named %q but labels %q were provided",
			errInconsistentCardinality, v.desc.name, n, v.desc.labels, slices.Sorted(maps.Keys(labels)))
	}
	return lvs, nil
}

func (v *MetricVec[M]) isCurried(label int) bool {
	for _, c := range v.curried {
		if c.label == label {
			return true
		}
	}
	return false
}

// GetMetricWith is GetMetricWithLabelValues with the values by label name.
func (v *MetricVec[M]) GetMetricWith(labels Labels) (m M, err error) {
	var room [few]string
	lvs, err := v.ordered(room[:0], labels)
	if err != nil {
		return m, err
	}
	return v.GetMetricWithLabelValues(lvs...)
}

// With is WithLabelValues with the values by label name.
func (v *MetricVec[M]) With(labels Labels) M {
	m, err := v.GetMetricWith(labels)
	if err != nil {
		panic(err)
	}
	return m
}

// CurryWith returns a vector of the same family that has some label values given
// already.
func (v *MetricVec[M]) CurryWith(labels Labels) (*MetricVec[M], error) {
	next := &MetricVec[M]{family: v.family, curried: slices.Clone(v.curried)}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		i := slices.Index(v.desc.labels, name)
		if i < 0 {
			return nil, fmt.Errorf("%d unknown label(s) found during currying: %q is no label of %q", 1, name, v.desc.name)
		}
		if next.isCurried(i) {
			return nil, fmt.Errorf("label name %q is already curried", name)
		}
		next.curried = append(next.curried, curried{i, labels[name]})
	}
	return next, nil
}

// MustCurryWith is CurryWith that panics where that returns an error.
func (v *MetricVec[M]) MustCurryWith(labels Labels) *MetricVec[M] {
	next, err := v.CurryWith(labels)
	if err != nil {
		panic(err)
	}
	return next
}

// DeleteLabelValues deletes the metric of these label values, in this process,
// and reports whether there was one. What others still hold of it goes nowhere.
func (v *MetricVec[M]) DeleteLabelValues(lvs ...string) bool {
	if len(lvs)+len(v.curried) != len(v.desc.labels) {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table.Load()
	at, e := v.slot(t, lvs)
	if e == nil {
		return false
	}
	at.Store(&entry[M]{dead: true})
	t.dead++
	v.removedLocked(e)
	return true
}

// Delete is DeleteLabelValues with the values by label name.
func (v *MetricVec[M]) Delete(labels Labels) bool {
	lvs, err := v.ordered(nil, labels)
	return err == nil && v.DeleteLabelValues(lvs...)
}

// DeletePartialMatch deletes all metrics that have these labels among others,
// and returns how many.
func (v *MetricVec[M]) DeletePartialMatch(labels Labels) int {
	return v.remove(func(e *entry[M]) bool {
		for name, value := range labels {
			if i := slices.Index(v.desc.labels, name); i < 0 || e.values[i] != value {
				return false
			}
		}
		return v.matchesCurried(e)
	})
}

// Reset deletes all metrics of the vector.
func (v *MetricVec[M]) Reset() { v.remove(v.matchesCurried) }

func (v *MetricVec[M]) matchesCurried(e *entry[M]) bool {
	for _, c := range v.curried {
		if e.values[c.label] != c.value {
			return false
		}
	}
	return true
}

// remove deletes the entries that match.
func (f *family[M]) remove(match func(*entry[M]) bool) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	f.table.Store(t.rebuilt(len(t.slots), func(e *entry[M]) bool {
		if !match(e) {
			return true
		}
		n++
		f.removedLocked(e)
		return false
	}))
	return n
}

// removedLocked deletes the series of an entry that has left the table.
func (f *family[M]) removedLocked(e *entry[M]) {
	if f.store != nil {
		f.leaveLocked(e, true)
	}
}

// Desc returns the description of the family.
func (f *family[M]) Desc() *Desc { return f.desc }

// Describe implements Collector.
func (f *family[M]) Describe(ch chan<- *Desc) { ch <- f.desc }

// Collect implements Collector.
func (f *family[M]) Collect(ch chan<- Metric) {
	for e := range f.table.Load().all {
		ch <- e.metric
	}
}

func (f *family[M]) home() bound { return f }

// bind moves the family's metrics to where a registry keeps its values.
func (f *family[M]) bind(s *store) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store != nil {
		return fmt.Errorf("metric %q is registered with another registry: its values have one place only", f.desc.name)
	}
	f.store = s
	for e := range f.table.Load().all {
		f.bindLocked(e)
	}
	return nil
}

func (f *family[M]) bindLocked(e *entry[M]) {
	for _, p := range e.metric.places() {
		to := f.store.place(f.kind, f.keyOf(e, p))
		if p.stamp != nil && to.stamp != nil {
			p.stamp.move(spot{value: to.stamp}, false)
		}
		p.cell.move(to, f.sum)
	}
}

// leaveLocked takes an entry back to the heap; with forget, its series are
// deleted.
func (f *family[M]) leaveLocked(e *entry[M], forget bool) {
	for _, p := range e.metric.places() {
		if p.stamp != nil {
			p.stamp.leave(false)
		}
		left := p.cell.leave(f.sum && !forget && f.store.dir != "")
		if !forget {
			continue
		}
		for _, v := range left {
			v.Delete()
		}
		f.store.drop(f.kind, f.keyOf(e, p))
	}
}

// stripe gives a cell of the family more entries.
func (f *family[M]) stripe(c *cell) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store == nil {
		return
	}
	for e := range f.table.Load().all {
		if !e.metric.holds(c) {
			continue
		}
		for _, p := range e.metric.places() {
			if p.cell == c {
				if all, ok := f.store.more(f.kind, f.keyOf(e, p), stripes); ok {
					c.spread(all)
				}
				return
			}
		}
	}
}

// keyOf returns the key of one value of an entry.
func (f *family[M]) keyOf(e *entry[M], p place) []byte {
	return f.desc.key(f.desc.family(f.kind), f.desc.name+p.suffix, e.values, p.extra...)
}

// unbind takes the family's metrics back to the heap; with forget, their series
// are deleted.
func (f *family[M]) unbind(forget bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store == nil {
		return
	}
	for e := range f.table.Load().all {
		f.leaveLocked(e, forget)
	}
	f.store, f.forgotten = nil, forget
}

// set stores x once more for who has just stored it in a place that the cell has
// left meanwhile, and makes sure that it does not bring back a series that is
// deleted.
func (f *family[M]) set(c *cell, was *mmapfile.Value, x float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.at.Load().Set(x)
	if was == &c.heap || f.store == nil && !f.forgotten {
		return
	}
	for e := range f.table.Load().all {
		for _, p := range e.metric.places() {
			if p.cell.at.Load() == was {
				return // the series has been made again
			}
		}
	}
	was.Delete()
}
