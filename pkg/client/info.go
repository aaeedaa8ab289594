package client

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// gauges makes a collector of the gauges that a metric consists of. It is no
// vector of them: by its methods one could break what the metric promises.
type gauges struct{ vec *GaugeVec }

// Desc returns the description of the gauges.
func (g gauges) Desc() *Desc { return g.vec.Desc() }

// Describe implements Collector.
func (g gauges) Describe(ch chan<- *Desc) { g.vec.Describe(ch) }

// Collect implements Collector.
func (g gauges) Collect(ch chan<- Metric) { g.vec.Collect(ch) }

func (g gauges) bind(s *store) error { return g.vec.bind(s) }
func (g gauges) unbind(forget bool)  { g.vec.unbind(forget) }

// InfoOpts are the options of an info, which has no unit.
type InfoOpts struct {
	Namespace   string
	Subsystem   string
	Name        string
	Help        string
	ConstLabels Labels
}

// Info is a constant 1 whose labels say something about the program, such as its
// version. However many processes have it, it is served once. Its name should
// end in "_info", and gets that if it does not. It is safe for concurrent use.
type Info struct {
	gauges
	mu      sync.Mutex // protects all below
	said    bool
	last    Labels // those that are set, if said
	dropped bool
}

// NewInfo returns an info with these label names and no series yet. Register it,
// then Set it.
func NewInfo(opts InfoOpts, labelNames []string) *Info {
	return &Info{gauges: gauges{newInfoGauges(opts, labelNames)}}
}

func newInfoGauges(opts InfoOpts, labelNames []string) *GaugeVec {
	if opts.Name != "" && !strings.HasSuffix(opts.Name, "_info") {
		opts.Name += "_info"
	}
	return NewGaugeVec(GaugeOpts{
		Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help, ConstLabels: opts.ConstLabels,
		Mode: ModeLiveMax, // the same series of every process: one of them is served
	}, labelNames)
}

// Set says what there is to say, in the place of what was said before. It panics
// if the labels are not those of the info or a value is not valid UTF-8; then
// what was said before stays.
func (i *Info) Set(labels Labels) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dropped {
		return
	}
	// The new series comes first: bad labels panic here, with the old one in its
	// place.
	i.vec.With(labels).Set(1)
	if i.said && !maps.Equal(i.last, labels) {
		i.vec.Delete(i.last)
	}
	i.said, i.last = true, cloned(labels)
}

// drop deletes the series for good: no Set brings one back.
func (i *Info) drop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dropped = true; i.said {
		i.vec.Delete(i.last)
	}
}

// EnumOpts are the options of an enum.
type EnumOpts struct {
	Namespace   string
	Subsystem   string
	Name        string
	Help        string
	ConstLabels Labels
	States      []string // at least one, each once
	// Mode says how the states of several processes become one. ModeLiveAll and
	// ModeAll tell each process's state; the sums, how many processes are in
	// each; ModeMostRecent, the state that was set last by any.
	Mode Mode
}

// Enum is the state that something is in, one of a few: a series per state with
// the value 1 for the current one and 0 for the others, told apart by a label
// that has the name of the metric. It begins in its first state. It is safe for
// concurrent use.
type Enum struct {
	gauges
	states []string
	mu     sync.Mutex // held while the state changes
	each   []Gauge    // by state
}

// NewEnum returns an enum. It panics if there are no states or one stands twice.
func NewEnum(opts EnumOpts) *Enum {
	return newEnum(newEnumGauges(opts, nil), slices.Clone(opts.States))
}

// newEnumGauges returns the gauges of enums with these labels.
func newEnumGauges(opts EnumOpts, labelNames []string) *GaugeVec {
	g := GaugeOpts{Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help, ConstLabels: opts.ConstLabels, Mode: opts.Mode}
	name := g.named().desc(nil).name
	sorted := slices.Sorted(slices.Values(opts.States))
	if len(slices.Compact(sorted)) != len(opts.States) || len(opts.States) == 0 {
		panic(fmt.Errorf("enum %q: want at least one state, and each once, got %q", name, opts.States))
	}
	for _, state := range opts.States {
		if !utf8.ValidString(state) {
			panic(fmt.Errorf("enum %q: state %q is not valid UTF-8", name, state))
		}
	}
	return NewGaugeVec(g, append(slices.Clone(labelNames), name))
}

// newEnum returns the enum of a vector of which only the state's label is left.
func newEnum(vec *GaugeVec, states []string) *Enum {
	e := &Enum{gauges: gauges{vec}, states: states}
	for _, state := range states {
		e.each = append(e.each, vec.WithLabelValues(state))
	}
	e.State(states[0])
	return e
}

// State changes the state. It panics for one that is none of the enum's.
func (e *Enum) State(state string) {
	now := slices.Index(e.states, state)
	if now < 0 {
		panic(fmt.Errorf("enum %q: want one of %q, got %q", e.Desc().name, e.states, state))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// All of them, also those that are 0: in the mode mostrecent it is this process
	// now that says so.
	for i, g := range e.each {
		if i != now {
			g.Set(0)
		}
	}
	e.each[now].Set(1)
}

// drop deletes the series. What State sets from then on goes nowhere, as with
// any gauge that was deleted.
func (e *Enum) drop() {
	for _, state := range e.states {
		e.vec.DeleteLabelValues(state)
	}
}

// EnumVec is a family of enums. It is safe for concurrent use.
type EnumVec struct{ groupVec[*Enum] }

// NewEnumVec returns a family of enums with these labels. It panics if there are
// no states or one stands twice.
func NewEnumVec(opts EnumOpts, labelNames []string) *EnumVec {
	states := slices.Clone(opts.States)
	return &EnumVec{newGroupVec(newEnumGauges(opts, labelNames), labelNames, func(vec *GaugeVec) *Enum { return newEnum(vec, states) })}
}

// CurryWith returns a vector of the same family that has some label values given
// already.
func (v *EnumVec) CurryWith(labels Labels) (*EnumVec, error) {
	next, err := v.curry(labels)
	if err != nil {
		return nil, err
	}
	return &EnumVec{next}, nil
}

// MustCurryWith is CurryWith that panics where that returns an error.
func (v *EnumVec) MustCurryWith(labels Labels) *EnumVec {
	next, err := v.CurryWith(labels)
	if err != nil {
		panic(err)
	}
	return next
}

// InfoVec is a family of infos. It is safe for concurrent use.
type InfoVec struct{ groupVec[*Info] }

// NewInfoVec returns a family of infos that are told apart by labelNames and
// say something under infoNames.
func NewInfoVec(opts InfoOpts, labelNames, infoNames []string) *InfoVec {
	vec := newInfoGauges(opts, slices.Concat(labelNames, infoNames))
	return &InfoVec{newGroupVec(vec, labelNames, func(vec *GaugeVec) *Info { return &Info{gauges: gauges{vec}} })}
}

// CurryWith returns a vector of the same family that has some label values given
// already.
func (v *InfoVec) CurryWith(labels Labels) (*InfoVec, error) {
	next, err := v.curry(labels)
	if err != nil {
		return nil, err
	}
	return &InfoVec{next}, nil
}

// MustCurryWith is CurryWith that panics where that returns an error.
func (v *InfoVec) MustCurryWith(labels Labels) *InfoVec {
	next, err := v.CurryWith(labels)
	if err != nil {
		panic(err)
	}
	return next
}

// group is a metric that is several gauges.
type group interface {
	drop() // deletes its series for good
}

// groupVec is a family of groups, told apart by some of the labels that their
// gauges have.
type groupVec[M group] struct {
	gauges
	all     *groups[M]
	curried Labels // those that are given already
}

// groups is what vectors of one family share.
type groups[M group] struct {
	names []string
	make  func(*GaugeVec) M // of a vector that has values for names
	mu    sync.Mutex        // protects made
	made  map[string]made[M]
}

type made[M group] struct {
	labels Labels
	metric M
}

func newGroupVec[M group](vec *GaugeVec, names []string, make func(*GaugeVec) M) groupVec[M] {
	return groupVec[M]{gauges: gauges{vec}, all: &groups[M]{names: slices.Clone(names), make: make, made: map[string]made[M]{}}}
}

// left returns the names of the labels that are not curried.
func (v *groupVec[M]) left() []string {
	return slices.DeleteFunc(slices.Clone(v.all.names), func(name string) bool {
		_, ok := v.curried[name]
		return ok
	})
}

// whole returns labels with the curried ones. The error says what is wrong with
// their names or encoding.
func (v *groupVec[M]) whole(labels Labels) (Labels, error) {
	left := v.left()
	for _, name := range left {
		if _, ok := labels[name]; !ok {
			return nil, fmt.Errorf("label name %q missing in label map", name)
		}
	}
	if len(labels) != len(left) {
		return nil, fmt.Errorf("%w: %q has %d variable labels named %q but labels %q were provided",
			errInconsistentCardinality, v.Desc().name, len(left), left, slices.Sorted(maps.Keys(labels)))
	}
	whole := joined(v.curried, labels)
	for _, name := range v.all.names {
		if !utf8.ValidString(whole[name]) {
			return nil, fmt.Errorf("label value %q is not valid UTF-8", strings.Clone(whole[name]))
		}
	}
	return whole, nil
}

// named returns values for the labels that are not curried by name.
func (v *groupVec[M]) named(lvs []string) (Labels, error) {
	left := v.left()
	if len(lvs) != len(left) {
		return nil, fmt.Errorf("%w: %q has %d variable labels named %q but %d values %q were provided",
			errInconsistentCardinality, v.Desc().name, len(left), left, len(lvs), slices.Clone(lvs))
	}
	labels := make(Labels)
	for i, name := range left {
		labels[name] = lvs[i]
	}
	return labels, nil
}

// key returns the labels' values as one string that no others have.
func (g *groups[M]) key(labels Labels) string {
	var key []byte
	for _, name := range g.names {
		key = append(strconv.AppendInt(key, int64(len(labels[name])), 10), ':')
		key = append(key, labels[name]...)
	}
	return string(key)
}

// GetMetricWith returns the metric with these labels, and makes it where it is
// new. The error says what is wrong with their names or encoding.
func (v *groupVec[M]) GetMetricWith(labels Labels) (m M, err error) {
	whole, err := v.whole(labels)
	if err != nil {
		return m, err
	}
	key := v.all.key(whole)
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if old, ok := v.all.made[key]; ok {
		return old.metric, nil
	}
	whole = cloned(whole)
	vec, err := v.vec.CurryWith(whole)
	if err != nil {
		return m, err
	}
	m = v.all.make(vec)
	v.all.made[key] = made[M]{whole, m}
	return m, nil
}

// With is GetMetricWith that panics where that returns an error.
func (v *groupVec[M]) With(labels Labels) M {
	m, err := v.GetMetricWith(labels)
	if err != nil {
		panic(err)
	}
	return m
}

// GetMetricWithLabelValues is GetMetricWith with the values in the order of the
// label names.
func (v *groupVec[M]) GetMetricWithLabelValues(lvs ...string) (m M, err error) {
	labels, err := v.named(lvs)
	if err != nil {
		return m, err
	}
	return v.GetMetricWith(labels)
}

// WithLabelValues is GetMetricWithLabelValues that panics where that returns an
// error.
func (v *groupVec[M]) WithLabelValues(lvs ...string) M {
	m, err := v.GetMetricWithLabelValues(lvs...)
	if err != nil {
		panic(err)
	}
	return m
}

func (v *groupVec[M]) curry(labels Labels) (next groupVec[M], err error) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !slices.Contains(v.all.names, name) {
			return next, fmt.Errorf("%d unknown label(s) found during currying: %q is no label of %q", 1, name, v.Desc().name)
		}
		if _, ok := v.curried[name]; ok {
			return next, fmt.Errorf("label name %q is already curried", name)
		}
	}
	return groupVec[M]{v.gauges, v.all, joined(v.curried, labels)}, nil
}

// Delete deletes the metric with exactly these labels, in this process, and
// reports whether there was one. What others still hold of it goes nowhere.
func (v *groupVec[M]) Delete(labels Labels) bool {
	whole, err := v.whole(labels)
	if err != nil {
		return false
	}
	key := v.all.key(whole)
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	m, ok := v.all.made[key]
	if ok {
		delete(v.all.made, key)
		m.metric.drop()
	}
	return ok
}

// DeleteLabelValues is Delete with the values in the order of the label names.
func (v *groupVec[M]) DeleteLabelValues(lvs ...string) bool {
	labels, err := v.named(lvs)
	return err == nil && v.Delete(labels)
}

// DeletePartialMatch deletes all metrics that have these labels among others,
// and returns how many.
func (v *groupVec[M]) DeletePartialMatch(labels Labels) (n int) {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	maps.DeleteFunc(v.all.made, func(_ string, m made[M]) bool {
		if !m.has(v.curried) || !m.has(labels) {
			return false
		}
		n++
		m.metric.drop()
		return true
	})
	return n
}

// Reset deletes all metrics of the vector.
func (v *groupVec[M]) Reset() { v.DeletePartialMatch(nil) }

// has reports whether the metric has these labels.
func (m made[M]) has(labels Labels) bool {
	for name, value := range labels {
		if own, ok := m.labels[name]; !ok || own != value {
			return false
		}
	}
	return true
}

// joined returns the labels of both.
func joined(a, b Labels) Labels {
	all := make(Labels, len(a)+len(b))
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// cloned returns a copy that keeps nothing else in memory.
func cloned(labels Labels) Labels {
	c := make(Labels, len(labels))
	for name, value := range labels {
		c[strings.Clone(name)] = strings.Clone(value)
	}
	return c
}
