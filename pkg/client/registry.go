package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Collector is what can be registered: the metrics of this package, and whatever
// implements it outside. A collector of one's own sends metrics made by
// [NewConstMetric] and its like; since no scrape reaches a worker, it is asked at
// the registry's interval and at Close. One that takes longer holds nobody else
// up; Register and Close wait for it for 5 s at most.
type Collector interface {
	// Describe sends the descriptions of all that Collect may send; the rest is
	// left out, and logged once. A collector that describes nothing is unchecked:
	// it may send what it likes but for the names of others, and can't be
	// unregistered.
	Describe(ch chan<- *Desc)
	// Collect sends the metrics with their values of the moment. It must be safe
	// for concurrent use.
	Collect(ch chan<- Metric)
}

// Options are the settings of a registry. The zero Options take everything from
// the environment.
type Options struct {
	// Dir is the multiprocess directory. Default: $PROMETHEUS_MULTIPROC_DIR. An
	// empty one means that the metrics stay in this process.
	Dir string
	// ProcessID names this process among those that write to the directory; it
	// is the "pid" of its gauges. Default: $PROMAGG_PROCESS_ID, then the PID. One
	// that no file name can have, "archived", and names that end in "~" and a
	// number are refused: the metrics stay in this process, and Err says why.
	ProcessID string
	// Interval is how often collectors are asked. Default: 5 s.
	Interval time.Duration
	// ValueOnly writes files that the Python client before 0.18 can read too.
	// They have no timestamps, so the mostrecent modes do not work.
	ValueOnly bool
	// Logger is told once when files can't be written. Default: slog.Default().
	Logger *slog.Logger
}

// Registry holds the metrics of a process and gives their values a place. In a
// directory it is a writer of its own, with its own files: a second registry of
// the process that writes to the same directory is there as a second process
// would be, under the next free id. It is safe for concurrent use.
type Registry struct {
	store    *store
	interval time.Duration
	patience time.Duration   // how long anybody waits for a collector
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	asking   sync.WaitGroup // the goroutine that asks collectors

	// mu protects all below. It is taken before a family's and the store's lock,
	// and never while a collector is asked.
	mu         sync.Mutex
	byID       map[string]*registered   // by what descriptions must not share
	byName     map[string][]*registered // by name: each has its own constant labels
	collectors []*collected
	running    bool // the goroutine is
	closed     bool
}

// registered is a collector with what it describes.
type registered struct {
	c     Collector
	descs []*Desc
	m     *collected // nil for a bound one
}

// Registerer is what metrics can be registered with.
type Registerer interface {
	Register(Collector) error
	MustRegister(...Collector)
	Unregister(Collector) bool
}

// bound is a collector whose values live in the store itself.
type bound interface {
	bind(*store) error
	unbind(forget bool)
}

// NewRegistry returns a registry for this process.
func NewRegistry(opts Options) *Registry {
	opts.Dir = cmp.Or(opts.Dir, os.Getenv("PROMETHEUS_MULTIPROC_DIR"), os.Getenv("prometheus_multiproc_dir"))
	r := &Registry{store: newStore(opts), interval: 5 * time.Second, patience: 5 * time.Second, byID: make(map[string]*registered), byName: make(map[string][]*registered)}
	if opts.Interval > 0 {
		r.interval = opts.Interval
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// AlreadyRegisteredError is returned for a collector that describes the same as
// one that is registered.
type AlreadyRegisteredError struct {
	ExistingCollector, NewCollector Collector
}

func (e AlreadyRegisteredError) Error() string {
	return "duplicate metrics collector registration attempted"
}

// Register adds a collector, which from then on is served. It returns
// [AlreadyRegisteredError] if one that describes the same is there. Other errors
// tell of an invalid name, label or help text, of a name that has other label
// names or help elsewhere, or of a metric that another registry has.
func (r *Registry) Register(c Collector) error {
	reg := &registered{c: c, descs: describe(c)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.checkLocked(reg); err != nil {
		return err
	}
	r.startLocked()
	if b, ok := c.(bound); ok {
		if err := b.bind(r.store); err != nil {
			return err
		}
		r.addLocked(reg)
		return nil
	}
	refuse := reg.refuse
	if len(reg.descs) == 0 {
		refuse = func(d *Desc) error { return r.own(reg, d) }
	}
	reg.m = newCollected(c, r.store, r.patience, refuse)
	r.addLocked(reg)
	if r.closed {
		return nil
	}
	r.collectors = append(slices.Clip(r.collectors), reg.m)
	r.mu.Unlock() // collectors are asked without it: they may do what they like
	defer r.mu.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	reg.m.wait(ctx)
	return nil
}

// startLocked starts the goroutine that asks collectors and looks after the files.
func (r *Registry) startLocked() {
	if !r.running && !r.closed {
		r.running = true
		r.asking.Go(r.run)
	}
}

// checkLocked returns why a collector can't be registered.
func (r *Registry) checkLocked(reg *registered) error {
	var taken error
	for i, d := range reg.descs {
		if d.err != nil {
			return fmt.Errorf("descriptor %v is invalid: %w", d, d.err)
		}
		if i := slices.IndexFunc(reg.descs[:i], func(o *Desc) bool { return o.name == d.name }); i >= 0 && !d.alike(reg.descs[i]) {
			return fmt.Errorf("descriptors reported by collector have inconsistent label names or help strings for the same fully-qualified name, offender is %v", d)
		}
		for _, other := range r.byName[d.name] {
			for _, o := range other.descs {
				if o.name == d.name && !d.alike(o) {
					return fmt.Errorf("a previously registered descriptor with the same fully-qualified name as %v has different label names or a different help string: %v", d, o)
				}
			}
		}
		if others := r.byName[d.name]; len(others) > 0 && len(others[0].descs) == 0 {
			taken = AlreadyRegisteredError{others[0].c, reg.c} // unchecked: the name is all its own
		} else if other := r.byID[d.id]; other != nil && other.sameAs(reg) {
			taken = AlreadyRegisteredError{other.c, reg.c}
		} else if other != nil {
			taken = fmt.Errorf("descriptor %v already exists with the same fully-qualified name and const label values", d)
		}
	}
	return taken
}

// sameAs reports whether both describe the same.
func (g *registered) sameAs(o *registered) bool {
	ids := func(reg *registered) []string {
		var ids []string
		for _, d := range reg.descs {
			ids = append(ids, d.id)
		}
		slices.Sort(ids)
		return slices.Compact(ids)
	}
	return slices.Equal(ids(g), ids(o))
}

func (r *Registry) addLocked(reg *registered) {
	for _, d := range reg.descs {
		r.byID[d.id] = reg
		if !slices.Contains(r.byName[d.name], reg) {
			r.byName[d.name] = append(r.byName[d.name], reg)
		}
	}
}

// refuse returns an error for what the collector has not described.
func (g *registered) refuse(d *Desc) error {
	if slices.ContainsFunc(g.descs, func(own *Desc) bool { return own.id == d.id && own.alike(d) }) {
		return nil
	}
	return fmt.Errorf("sent a metric that it does not describe, which is left out: %v", d)
}

// own makes a name the unchecked collector's own, unless another one has it.
func (r *Registry) own(reg *registered, d *Desc) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch owners := r.byName[d.name]; {
	case len(owners) == 0:
		r.byName[d.name] = []*registered{reg}
	case owners[0] != reg:
		return fmt.Errorf("sent %q, which is left out: %T has that name", d.name, owners[0].c)
	}
	return nil
}

// run asks the collectors until the registry is closed. None of them waits for
// another.
func (r *Registry) run() {
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
			r.mu.Lock()
			collectors := r.collectors
			r.mu.Unlock()
			for _, m := range collectors {
				m.ask()
			}
			r.store.verify()
		}
	}
}

// mirror asks all collectors and waits for their answers.
func (r *Registry) mirror() {
	r.mu.Lock()
	collectors := r.collectors
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	var asking sync.WaitGroup
	for _, m := range collectors {
		asking.Go(func() { m.wait(ctx) })
	}
	asking.Wait()
}

// MustRegister registers collectors and panics at the first that can't be.
func (r *Registry) MustRegister(cs ...Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister takes a collector out, deletes its series in this process, and
// reports whether it was registered. Collectors are the same if they describe
// the same.
func (r *Registry) Unregister(c Collector) bool {
	like := &registered{descs: describe(c)}
	if len(like.descs) == 0 {
		return false
	}
	r.mu.Lock()
	reg := r.byID[like.descs[0].id]
	if reg == nil || !reg.sameAs(like) {
		r.mu.Unlock()
		return false
	}
	for _, d := range reg.descs {
		delete(r.byID, d.id)
		r.byName[d.name] = slices.DeleteFunc(r.byName[d.name], func(other *registered) bool { return other == reg })
	}
	r.collectors = slices.DeleteFunc(slices.Clone(r.collectors), func(m *collected) bool { return m == reg.m })
	r.mu.Unlock()
	reg.end(true)
	return true
}

// end takes the collector's metrics out of the store. The registry's lock is not
// held: a collector that is just answering may want it.
func (g *registered) end(forget bool) {
	if g.m != nil {
		g.m.end(forget)
	} else {
		g.c.(bound).unbind(forget)
	}
}

// Err returns why metrics stay in this process although a directory is set, nil
// as long as they don't.
func (r *Registry) Err() error { return r.store.err() }

// Logger returns the logger that the registry was given.
func (r *Registry) Logger() *slog.Logger { return r.store.log.to }

// Dir returns the multiprocess directory, empty if the metrics stay in this
// process.
func (r *Registry) Dir() string { return r.store.dir }

// Images returns, for a registry without a directory, the value files that it
// would write, by name: that is how a handler in this process reads it. Their
// values are those of the moment.
func (r *Registry) Images() map[string][]byte {
	r.mirror()
	return r.store.images()
}

// Close ends the process's part in the directory: collectors are asked a last
// time and waited for, for 5 s at most; the files of live gauges are deleted, the locks given up. What was counted stays and is served as that of a
// process that has ended; a registry that is made afterwards is a new one, even
// in the same process. Metrics can still be used, to no effect.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.asking.Wait()
	r.mirror()
	r.mu.Lock()
	ending := make(map[*registered]bool)
	for _, reg := range r.byID {
		ending[reg] = true
	}
	for _, regs := range r.byName { // unchecked ones have no id
		for _, reg := range regs {
			ending[reg] = true
		}
	}
	collectors := r.collectors
	r.collectors = nil
	clear(r.byID)
	clear(r.byName)
	r.mu.Unlock()
	for _, m := range collectors {
		m.end(false)
	}
	for reg := range ending {
		reg.end(false)
	}
	defer r.store.log.wait()
	return r.store.stop()
}
