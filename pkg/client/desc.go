package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Labels are label names with their values.
type Labels map[string]string

// Desc identifies a family and the labels of its series. It is immutable.
type Desc struct {
	name   string
	help   string
	labels []string // variable, in the order given
	consts []mmapfile.Label
	mode   mmapfile.Mode // of gauges that a collector sends
	err    error
	// id is the same for two descriptions that have series in common: the name
	// with the constant labels. ident has all that the file has of the
	// description.
	id, ident string
}

// WithMode returns a copy of the description for gauges of another mode than
// ModeLiveAll, which is that of what a collector sends.
func (d *Desc) WithMode(m Mode) *Desc {
	c := *d
	c.mode = m.file()
	return &c
}

// family returns the name of the family in the value file: a counter's is
// without _total.
func (d *Desc) family(k kind) string {
	if k.typ == mmapfile.Counter {
		return strings.TrimSuffix(d.name, "_total")
	}
	return d.name
}

// NewDesc returns the description of a family. What is wrong with it shows when
// it is registered.
func NewDesc(fqName, help string, variableLabels []string, constLabels Labels) *Desc {
	d := &Desc{name: fqName, help: help, labels: slices.Clone(variableLabels), mode: mmapfile.LiveAll}
	for _, name := range slices.Sorted(maps.Keys(constLabels)) {
		d.consts = append(d.consts, mmapfile.Label{Name: name, Value: constLabels[name]})
	}
	d.err = d.check()
	id := strconv.AppendQuote(nil, d.name)
	for _, l := range d.consts {
		id = strconv.AppendQuote(append(id, l.Name...), l.Value)
	}
	d.id = string(id)
	d.ident = string(strconv.AppendQuote(fmt.Appendf(id, "%q", d.labels), d.help))
	return d
}

// NewInvalidDesc returns a description that can't be registered, and says why.
func NewInvalidDesc(err error) *Desc { return &Desc{err: err} }

// BuildFQName joins the parts of a metric's name that are not empty with "_".
func BuildFQName(namespace, subsystem, name string) string {
	if name == "" {
		return ""
	}
	parts := slices.DeleteFunc([]string{namespace, subsystem, name}, func(s string) bool { return s == "" })
	return strings.Join(parts, "_")
}

// alike reports whether two descriptions of one name can be one family: with the
// same label names, variable and constant, and help text.
func (d *Desc) alike(o *Desc) bool {
	return d.help == o.help && slices.Equal(d.labelNames(), o.labelNames()) && len(d.labels) == len(o.labels) &&
		!slices.ContainsFunc(d.labels, func(name string) bool { return !slices.Contains(o.labels, name) })
}

// labelNames returns the names of all labels, sorted.
func (d *Desc) labelNames() []string {
	names := slices.Clone(d.labels)
	for _, l := range d.consts {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// String describes the family as error messages do.
func (d *Desc) String() string {
	consts := make([]string, len(d.consts))
	for i, l := range d.consts {
		consts[i] = fmt.Sprintf("%s=%q", l.Name, l.Value)
	}
	return fmt.Sprintf("Desc{fqName: %q, help: %q, constLabels: {%s}, variableLabels: {%s}}",
		d.name, d.help, strings.Join(consts, ","), strings.Join(d.labels, ","))
}

func (d *Desc) check() error {
	if !mmapfile.ValidName(d.name, true) {
		return fmt.Errorf("%q is not a valid metric name", d.name)
	}
	if !utf8.ValidString(d.help) {
		return fmt.Errorf("help text %q of metric %q is not valid UTF-8", d.help, d.name)
	}
	seen := make(map[string]bool)
	name := func(label string) error {
		if !mmapfile.ValidName(label, false) || strings.HasPrefix(label, "__") {
			return fmt.Errorf("%q is not a valid label name for metric %q", label, d.name)
		}
		if seen[label] {
			return fmt.Errorf("duplicate label names in constant and variable labels for metric %q", d.name)
		}
		seen[label] = true
		return nil
	}
	for _, l := range d.consts {
		if err := name(l.Name); err != nil {
			return err
		}
		if !utf8.ValidString(l.Value) {
			return fmt.Errorf("label %s: value %q is not valid UTF-8", l.Name, l.Value)
		}
	}
	for _, label := range d.labels {
		if err := name(label); err != nil {
			return err
		}
	}
	return nil
}

// checkPID refuses the label by which the gauges of processes are told apart.
func (d *Desc) checkPID() error {
	if slices.Contains(d.labelNames(), "pid") {
		return fmt.Errorf("gauge %q: \"pid\" is not allowed as label name in gauges: it says which process a value is of", d.name)
	}
	return nil
}

var errInconsistentCardinality = errors.New("inconsistent label cardinality")

// checkValues checks the values for the variable labels.
func (d *Desc) checkValues(values []string) error {
	if len(values) != len(d.labels) {
		return fmt.Errorf("%w: %q has %d variable labels named %q but %d values %q were provided",
			errInconsistentCardinality, d.name, len(d.labels), d.labels, len(values), slices.Clone(values))
	}
	for _, v := range values {
		if !utf8.ValidString(v) {
			return fmt.Errorf("label value %q is not valid UTF-8", strings.Clone(v))
		}
	}
	return nil
}

// key returns the key of a sample of the series with these label values, in the
// words of the value file: the family, the sample, all labels, the help text.
func (d *Desc) key(family, sample string, values []string, extra ...mmapfile.Label) []byte {
	labels := slices.Concat(d.consts, extra)
	for i, name := range d.labels {
		labels = append(labels, mmapfile.Label{Name: name, Value: values[i]})
	}
	return mmapfile.AppendKey(nil, mmapfile.Key{Family: family, Sample: sample, Labels: labels, Help: d.help})
}
