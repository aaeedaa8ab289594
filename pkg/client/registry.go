package client

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Collector is what can be registered: the metrics of this package, and whatever
// implements it outside. A collector of one's own sends metrics made by
// [NewConstMetric] and its like; since no scrape reaches a worker, it is asked at
// the registry's interval and at Close.
type Collector interface {
	// Describe sends the descriptions of all that Collect may send. A collector
	// that describes nothing is unchecked: it may send what it likes, but what it
	// sends under a name that another one has is left out, and logged once. It
	// can't be unregistered.
	Describe(ch chan<- *Desc)
	// Collect sends the metrics with their values of the moment. It must be safe
	// for concurrent use.
	Collect(ch chan<- Metric)
}

// bound is a collector whose values live in the store itself.
type bound interface {
	bind(*store)
	unbind(forget bool)
}

// Options are the settings of a registry. The zero Options take everything from
// the environment.
type Options struct {
	// Dir is the multiprocess directory. Default: $PROMETHEUS_MULTIPROC_DIR. An
	// empty one means that the metrics stay in this process.
	Dir string
	// ProcessID names this process among those that write to the directory; it
	// is the "pid" of its gauges. Default: $PROMAGG_PROCESS_ID, then the PID.
	ProcessID string
	// Interval is how often collectors are asked. Default: 5 s.
	Interval time.Duration
	// ValueOnly writes files that the Python client before 0.18 can read too.
	// They have no timestamps, so the mostrecent modes do not work.
	ValueOnly bool
	// Logger is told once when files can't be written. Default: slog.Default().
	Logger *slog.Logger
}

// Registry holds the metrics of a process and gives their values a place. It is
// safe for concurrent use.
type Registry struct {
	store    *store
	interval time.Duration

	// mu protects all below. It is taken before a family's and the store's lock,
	// and never while a collector is asked.
	mu         sync.Mutex
	byName     map[string]registration
	collectors []*collected
	stop       chan struct{} // ends the goroutine that asks collectors; nil before the first
	stopped    chan struct{}
}

// registration is what a name is taken by.
type registration struct {
	c    Collector
	desc *Desc
}

// NewRegistry returns a registry for this process. All registries of a process
// that have the same directory and id write to the same files.
func NewRegistry(opts Options) *Registry {
	opts.Dir = cmp.Or(opts.Dir, os.Getenv("PROMETHEUS_MULTIPROC_DIR"), os.Getenv("prometheus_multiproc_dir"))
	opts.ProcessID = cmp.Or(opts.ProcessID, os.Getenv("PROMAGG_PROCESS_ID"), strconv.Itoa(os.Getpid()))
	return newRegistry(opts, storeOf(opts))
}

func newRegistry(opts Options, s *store) *Registry {
	return &Registry{store: s, interval: cmp.Or(opts.Interval, 5*time.Second), byName: make(map[string]registration)}
}

// stores are the stores of this process, by directory and id: a process must not
// meet its own locks.
var (
	storesMu sync.Mutex // protects stores
	stores   = make(map[[2]string]*store)
)

func storeOf(opts Options) *store {
	storesMu.Lock()
	defer storesMu.Unlock()
	at := [2]string{opts.Dir, opts.ProcessID}
	if s := stores[at]; s != nil && opts.Dir != "" && !s.isStopped() {
		return s
	}
	s := newStore(opts)
	stores[at] = s
	return s
}

func newStore(opts Options) *store {
	s := &store{dir: opts.Dir, id: opts.ProcessID, layout: mmapfile.ValueTimestamp, log: opts.Logger, files: make(map[kind]*valueFile), heap: make(map[kind]map[string]heapValue)}
	if opts.ValueOnly {
		s.layout = mmapfile.ValueOnly
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	name := mmapfile.Name{Type: mmapfile.Counter, ID: opts.ProcessID}
	if parsed, ok := mmapfile.ParseName(name.String()); !ok || parsed != name || !utf8.ValidString(opts.ProcessID) {
		s.id = strconv.Itoa(os.Getpid())
		s.fail(fmt.Errorf("process id %q can't be part of a file name, want text without slashes; going by the PID", opts.ProcessID))
	}
	return s
}

// AlreadyRegisteredError is returned for a collector whose name is taken.
type AlreadyRegisteredError struct {
	ExistingCollector, NewCollector Collector
}

func (e AlreadyRegisteredError) Error() string {
	return "duplicate metrics collector registration attempted"
}

// Register adds a collector, which from then on is served. It returns
// [AlreadyRegisteredError] if one of that name is there, and the fault of an
// invalid name, label or help text.
func (r *Registry) Register(c Collector) error {
	descs := describe(c)
	if len(descs) == 0 {
		c = &unchecked{c, r, make(map[string]bool)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, d := range descs {
		if d.err != nil {
			return fmt.Errorf("descriptor %v is invalid: %w", d, d.err)
		}
		if existing, ok := r.byName[d.name]; ok {
			return AlreadyRegisteredError{existing.c, c}
		}
		for _, other := range descs[:i] {
			if other.name == d.name {
				return fmt.Errorf("descriptor %v stands twice in one collector", d)
			}
		}
	}
	for _, d := range descs {
		r.byName[d.name] = registration{c, d}
	}
	if b, ok := c.(bound); ok {
		b.bind(r.store)
		return nil
	}
	m := &collected{c: c, store: r.store, cells: make(map[cellKey]*collectedCell)}
	r.collectors = append(r.collectors, m)
	if r.stop == nil {
		r.stop, r.stopped = make(chan struct{}), make(chan struct{})
		go r.run(r.stop, r.stopped)
	}
	r.mu.Unlock() // collectors are asked without it: they may do what they like
	defer r.mu.Lock()
	m.mirror()
	return nil
}

// unchecked is a collector that describes nothing. A name becomes its own when
// it first sends a metric of that name.
type unchecked struct {
	Collector
	r     *Registry
	names map[string]bool // true: its own; false: another one's, which has been logged
}

// Collect implements Collector.
func (u *unchecked) Collect(ch chan<- Metric) {
	for m := range collect(u.Collector) {
		if cm, ok := m.(*constMetric); !ok || u.owns(cm.desc) {
			ch <- m
		}
	}
}

func (u *unchecked) owns(d *Desc) bool {
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	own, told := u.names[d.name]
	if own {
		return true
	}
	if other, taken := u.r.byName[d.name]; taken {
		if !told {
			u.names[d.name] = false
			u.r.store.log.Error("metric left out: another collector has its name", "metric", d.name,
				"collector", fmt.Sprintf("%T", u.Collector), "other", fmt.Sprintf("%T", other.c))
		}
		return false
	}
	u.r.byName[d.name] = registration{u.Collector, d}
	u.names[d.name] = true
	return true
}

// run asks the collectors until stop is closed.
func (r *Registry) run(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			r.mirror()
		}
	}
}

// mirror asks all collectors.
func (r *Registry) mirror() {
	r.mu.Lock()
	collectors := slices.Clone(r.collectors)
	r.mu.Unlock()
	for _, m := range collectors {
		m.mirror()
	}
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
	descs := describe(c)
	r.forget(c) // before its names are free for others
	r.mu.Lock()
	defer r.mu.Unlock()
	found := false
	for _, d := range descs {
		if reg, ok := r.byName[d.name]; ok && reg.desc == d {
			delete(r.byName, d.name)
			found = true
		}
	}
	if !found {
		return false
	}
	if b, ok := c.(bound); ok {
		b.unbind(true)
		return true
	}
	return true
}

// forget takes out a collector that is asked, and deletes what it said.
func (r *Registry) forget(c Collector) {
	r.mu.Lock()
	i := slices.IndexFunc(r.collectors, func(m *collected) bool { return m.c == c })
	if i < 0 {
		r.mu.Unlock()
		return
	}
	m := r.collectors[i]
	r.collectors = slices.Delete(slices.Clone(r.collectors), i, i+1)
	r.mu.Unlock()
	m.forget()
}

// Err returns why metrics stay in this process although a directory is set, nil
// as long as they don't.
func (r *Registry) Err() error { return r.store.err() }

// Logger returns the logger that the registry was given.
func (r *Registry) Logger() *slog.Logger { return r.store.log }

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
// time, the files of live gauges are deleted, the locks given up. What was
// counted stays and is served as that of a process that has ended. Metrics can
// still be used, to no effect.
func (r *Registry) Close() error {
	r.mu.Lock()
	stop, stopped := r.stop, r.stopped
	r.stop = nil
	r.mu.Unlock()
	if stop != nil {
		close(stop)
		<-stopped
	}
	r.mirror()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectors = nil
	for _, reg := range r.byName {
		if b, ok := reg.c.(bound); ok {
			b.unbind(false)
		}
	}
	clear(r.byName)
	return r.store.stop()
}

// DefaultRegistry returns the registry that the functions of the package use. It
// is made at the first call, so that a program may set the environment before.
var DefaultRegistry = sync.OnceValue(func() *Registry { return NewRegistry(Options{}) })

// Register registers a collector with the default registry.
func Register(c Collector) error { return DefaultRegistry().Register(c) }

// MustRegister registers collectors with the default registry and panics at the
// first that can't be.
func MustRegister(cs ...Collector) { DefaultRegistry().MustRegister(cs...) }

// Unregister takes a collector out of the default registry.
func Unregister(c Collector) bool { return DefaultRegistry().Unregister(c) }

// Err tells whether the default registry's metrics reach their files.
func Err() error { return DefaultRegistry().Err() }

// Close closes the default registry.
func Close() error { return DefaultRegistry().Close() }
