package client

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// InfoOpts are the options of an info.
type InfoOpts Opts

// Info is a constant 1 whose labels say something about the program, such as its
// version. However many processes have it, it is served once. Its name should
// end in "_info", and gets that if it does not.
type Info struct {
	*GaugeVec
	mu   sync.Mutex // protects last
	last []string   // the label values that are set
}

// NewInfo returns an info with these label names and no series yet. Register it,
// then Set it.
func NewInfo(opts InfoOpts, labelNames []string) *Info {
	return &Info{GaugeVec: newInfoGauges(opts, labelNames)}
}

func newInfoGauges(opts InfoOpts, labelNames []string) *GaugeVec {
	if !strings.HasSuffix(opts.Name, "_info") {
		opts.Name += "_info"
	}
	return NewGaugeVec(GaugeOpts{
		Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help, ConstLabels: opts.ConstLabels,
		Mode: ModeLiveMax, // the same series of every process: one of them is served
	}, labelNames)
}

// Set says what there is to say, in the place of what was said before. It panics
// if the labels are not those of the info.
func (i *Info) Set(labels Labels) {
	lvs, err := i.ordered(labels)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.last != nil && !slices.Equal(i.last, lvs) {
		i.DeleteLabelValues(i.last...)
	}
	i.WithLabelValues(lvs...).Set(1)
	i.last = lvs
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
// that has the name of the metric. It begins in its first state.
type Enum struct {
	*GaugeVec
	states []string
	mu     sync.Mutex // protects the order of two changes
	now    int
}

// NewEnum returns an enum. It panics if there are no states or one stands twice.
func NewEnum(opts EnumOpts) *Enum {
	return newEnum(newEnumGauges(opts, nil), opts.States)
}

// newEnumGauges returns the gauges of enums with these labels.
func newEnumGauges(opts EnumOpts, labelNames []string) *GaugeVec {
	g := GaugeOpts{Namespace: opts.Namespace, Subsystem: opts.Subsystem, Name: opts.Name, Help: opts.Help, ConstLabels: opts.ConstLabels, Mode: opts.Mode}
	name := g.named().desc(nil).name
	sorted := slices.Sorted(slices.Values(opts.States))
	if len(slices.Compact(sorted)) != len(opts.States) || len(opts.States) == 0 {
		panic(fmt.Errorf("enum %q: want at least one state, and each once, got %q", name, opts.States))
	}
	return NewGaugeVec(g, append(slices.Clone(labelNames), name))
}

// newEnum returns the enum of a vector of which only the state's label is left.
func newEnum(g *GaugeVec, states []string) *Enum {
	e := &Enum{GaugeVec: g, states: slices.Clone(states)}
	for i, state := range e.states {
		v := 0.0
		if i == 0 {
			v = 1
		}
		e.WithLabelValues(state).Set(v)
	}
	return e
}

// State changes the state. It panics for one that is none of the enum's.
func (e *Enum) State(state string) {
	i := slices.Index(e.states, state)
	if i < 0 {
		panic(fmt.Errorf("enum %q: want one of %q, got %q", e.desc.name, e.states, state))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i != e.now {
		e.WithLabelValues(e.states[e.now]).Set(0)
		e.now = i
	}
	e.WithLabelValues(state).Set(1)
}

// EnumVec is a family of enums.
type EnumVec struct{ gaugesVec[Enum] }

// NewEnumVec returns a family of enums with these labels.
func NewEnumVec(opts EnumOpts, labelNames []string) *EnumVec {
	return &EnumVec{gaugesVec[Enum]{
		GaugeVec: newEnumGauges(opts, labelNames), names: slices.Clone(labelNames),
		make: func(g *GaugeVec) *Enum { return newEnum(g, opts.States) },
	}}
}

// InfoVec is a family of infos.
type InfoVec struct{ gaugesVec[Info] }

// NewInfoVec returns a family of infos that are told apart by labelNames and
// say something under infoNames.
func NewInfoVec(opts InfoOpts, labelNames, infoNames []string) *InfoVec {
	return &InfoVec{gaugesVec[Info]{
		GaugeVec: newInfoGauges(opts, slices.Concat(labelNames, infoNames)), names: slices.Clone(labelNames),
		make: func(g *GaugeVec) *Info { return &Info{GaugeVec: g} },
	}}
}

// gaugesVec is a family of metrics each of which is several gauges: all those of
// the vector that have the same values for names.
type gaugesVec[T any] struct {
	*GaugeVec
	names []string
	make  func(*GaugeVec) *T
	mu    sync.Mutex // protects made
	made  []made[T]
}

type made[T any] struct {
	labels Labels
	metric *T
}

// GetMetricWith returns the metric with these labels, made where it is new.
func (v *gaugesVec[T]) GetMetricWith(labels Labels) (*T, error) {
	for _, name := range v.names {
		if _, ok := labels[name]; !ok {
			return nil, fmt.Errorf("label name %q missing in label map", name)
		}
	}
	if len(labels) != len(v.names) {
		return nil, fmt.Errorf("%w: %q has labels %q but labels %v were provided", errInconsistentCardinality, v.desc.name, v.names, labels)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.made { // few: each is several series
		if maps.Equal(m.labels, labels) {
			return m.metric, nil
		}
	}
	curried, err := v.CurryWith(labels)
	if err != nil {
		return nil, err
	}
	m := v.make(curried)
	v.made = append(v.made, made[T]{maps.Clone(labels), m})
	return m, nil
}

// With is GetMetricWith that panics where that returns an error.
func (v *gaugesVec[T]) With(labels Labels) *T {
	m, err := v.GetMetricWith(labels)
	if err != nil {
		panic(err)
	}
	return m
}

// GetMetricWithLabelValues is GetMetricWith with the values in the order of the
// label names.
func (v *gaugesVec[T]) GetMetricWithLabelValues(lvs ...string) (*T, error) {
	if len(lvs) != len(v.names) {
		return nil, fmt.Errorf("%w: %q has %d variable labels named %q but %d values %q were provided",
			errInconsistentCardinality, v.desc.name, len(v.names), v.names, len(lvs), slices.Clone(lvs))
	}
	labels := make(Labels)
	for i, name := range v.names {
		labels[name] = lvs[i]
	}
	return v.GetMetricWith(labels)
}

// WithLabelValues is GetMetricWithLabelValues that panics where that returns an
// error.
func (v *gaugesVec[T]) WithLabelValues(lvs ...string) *T {
	m, err := v.GetMetricWithLabelValues(lvs...)
	if err != nil {
		panic(err)
	}
	return m
}

// Delete deletes the metric with these labels and reports whether there was one.
func (v *gaugesVec[T]) Delete(labels Labels) bool { return v.DeletePartialMatch(labels) > 0 }

// DeletePartialMatch deletes all metrics that have these labels among others and
// returns how many series that were.
func (v *gaugesVec[T]) DeletePartialMatch(labels Labels) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.made = slices.DeleteFunc(v.made, func(m made[T]) bool {
		for name, value := range labels {
			if m.labels[name] != value {
				return false
			}
		}
		return true
	})
	return v.GaugeVec.DeletePartialMatch(labels)
}

// Reset deletes all metrics.
func (v *gaugesVec[T]) Reset() { v.DeletePartialMatch(nil) }
