package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// collected mirrors what one collector says into a store.
type collected struct {
	c     Collector
	store *store
	// refuse returns why the collector may not send a metric of a description.
	refuse   func(*Desc) error
	patience time.Duration // after which the collector is said to be slow
	asking   chan struct{} // full while the collector is asked

	mu    sync.Mutex // protects all below; not held while the collector is asked
	cells map[string]*collectedCell
	bound map[bound]bool // families that it passes on; true: their values are in the store because of it
	key   []byte         // scratch
	round int
	began time.Time       // when it was asked last
	ended bool            // nothing is stored any more
	told  map[string]bool // the faults that have been logged
}

func newCollected(c Collector, s *store, patience time.Duration, refuse func(*Desc) error) *collected {
	return &collected{c: c, store: s, refuse: refuse, patience: patience, asking: make(chan struct{}, 1), cells: make(map[string]*collectedCell), bound: make(map[bound]bool), told: make(map[string]bool)}
}

// collectedCell is one value that a collector tells.
type collectedCell struct {
	spot
	kind kind
	file []byte  // its key there
	base float64 // what a dead process of the same id had counted
	seen int     // the last round in which the collector had it
}

// ask asks the collector, unless it still owes an answer.
func (m *collected) ask() {
	select {
	case m.asking <- struct{}{}:
		m.begin()
		go m.answer()
	default:
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.began.IsZero() && time.Since(m.began) > m.patience {
			m.tellSlow()
		}
	}
}

// wait asks the collector and returns once what it says is stored, or ctx ends.
// What it says later is stored then.
func (m *collected) wait(ctx context.Context) {
	done := make(chan struct{})
	select {
	case m.asking <- struct{}{}:
		m.begin()
		go func() { m.answer(); close(done) }()
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		m.tellSlow()
	}
}

// begin notes when the collector was asked.
func (m *collected) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = time.Now()
}

// answer has the collector answer. The caller has filled asking.
func (m *collected) answer() {
	metrics, err := collect(m.c)
	var own []Metric // what it may send; this is found out without our lock
	var refused []error
	for _, metric := range metrics {
		if refusal := m.refuse(metric.Desc()); refusal != nil {
			refused = append(refused, refusal)
		} else {
			own = append(own, metric)
		}
	}
	m.mirror(own, refused, err)
	<-m.asking
}

func (m *collected) tellSlow() {
	m.tell("slow", fmt.Errorf("has not answered for %v: its metrics are as old as its last answer", m.patience))
}

// mirror stores what the collector said. What it no longer says is deleted,
// unless it could not answer.
func (m *collected) mirror(metrics []Metric, refused []error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = time.Time{}
	if m.ended {
		return
	}
	for _, err := range refused {
		m.tell(err.Error(), err)
	}
	if err != nil {
		m.tell("panic", err)
		return
	}
	m.round++
	for _, metric := range metrics {
		switch metric := metric.(type) {
		case *constMetric:
			for _, s := range metric.samples {
				m.put(metric, s)
			}
		case *invalidMetric:
			m.tell(metric.desc.name, metric.err)
		case placed:
			m.bind(metric)
		default:
			m.tell(fmt.Sprintf("%T", metric), fmt.Errorf("sent a %T: want metrics of this package, or what NewConstMetric and its like return", metric))
		}
	}
	for k, cell := range m.cells {
		if cell.seen != m.round {
			cell.delete()
			delete(m.cells, k)
			m.store.drop(cell.kind, cell.file)
		}
	}
}

// bind takes care of a collector that passes on metrics of this package, which it
// holds without having registered them: their values move to the store, where
// they need not be asked for.
func (m *collected) bind(metric placed) {
	home := metric.home()
	if _, ok := m.bound[home]; ok {
		return
	}
	err := home.bind(m.store)
	m.bound[home] = err == nil
	if err != nil {
		m.tell(metric.Desc().name, err)
	}
}

// tell logs the first fault of each kind.
func (m *collected) tell(kind string, err error) {
	if !m.told[kind] {
		m.told[kind] = true
		m.store.log.tell("collector", "collector", fmt.Sprintf("%T", m.c), "err", err)
	}
}

func (m *collected) put(cm *constMetric, s constSample) {
	// The key of the file says the same, but takes longer to write.
	m.key = append(m.key[:0], byte(cm.kind.typ), byte(cm.kind.mode))
	m.key = appendText(appendText(m.key, cm.desc.ident), s.suffix)
	for _, l := range s.extra {
		m.key = appendText(m.key, l.Value)
	}
	for _, v := range cm.values {
		m.key = appendText(m.key, v)
	}
	cell := m.cells[string(m.key)]
	if cell == nil {
		key := cm.desc.key(cm.desc.family(cm.kind), cm.desc.name+s.suffix, cm.values, s.extra...)
		cell = &collectedCell{spot: m.store.place(cm.kind, key), kind: cm.kind, file: key}
		if cm.kind.mode.Base() != mmapfile.MostRecent {
			cell.stamp = nil
		}
		if cm.kind.typ != mmapfile.Gauge && !cell.value.Deleted() {
			cell.base = cell.value.Load()
		}
		m.cells[string(m.key)] = cell
	}
	cell.seen = m.round
	if cell.stamp != nil && (cell.stamp.Load() == 0 || cell.value.Load() != s.value) {
		// As new as its change: else whoever is asked last would always win.
		cell.stamp.Set(unixSeconds(time.Now()))
	}
	cell.value.Set(cell.base + s.value)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (c *collectedCell) delete() {
	c.value.Delete()
	for _, v := range c.rest {
		v.Delete()
	}
}

// end makes what the collector still says go nowhere; with forget, what it has
// said is deleted.
func (m *collected) end(forget bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for home, ours := range m.bound {
		if ours {
			home.unbind(forget)
		}
	}
	clear(m.bound)
	if !forget {
		return
	}
	for _, cell := range m.cells {
		cell.delete()
		m.store.drop(cell.kind, cell.file)
	}
}

// collect returns what a collector sends. One that panics does so where nobody
// could recover, so it is done here.
func collect(c Collector) (metrics []Metric, err error) {
	ch := make(chan Metric)
	go func() {
		defer close(ch)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panicked, so its metrics stay as they were: %v", r)
			}
		}()
		c.Collect(ch)
	}()
	for m := range ch {
		metrics = append(metrics, m)
	}
	return metrics, err
}

// DescribeByCollect is a Describe for a collector that always sends the same
// metrics: it describes those that it sends now.
func DescribeByCollect(c Collector, ch chan<- *Desc) {
	metrics := make(chan Metric)
	go func() { c.Collect(metrics); close(metrics) }()
	for m := range metrics {
		ch <- m.Desc()
	}
}

// describe returns what a collector describes.
func describe(c Collector) (descs []*Desc) {
	ch := make(chan *Desc)
	go func() { c.Describe(ch); close(ch) }()
	for d := range ch {
		descs = append(descs, d)
	}
	return descs
}
