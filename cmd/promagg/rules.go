package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v2"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// ruleFlags say how families are served otherwise than their writers have it.
type ruleFlags struct {
	modes, drop, dropLabels, labels []string
	file                            string
}

func (f *ruleFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.modes, "gauge.mode", nil, "merge the gauges whose names match in another mode: `REGEX=MODE`, such as '.*_info=max'; the first match counts; may be given more than once")
	cmd.Flags().StringArrayVar(&f.drop, "drop", nil, "leave out the families whose names match `REGEX`; may be given more than once")
	cmd.Flags().StringArrayVar(&f.dropLabels, "drop-label", nil, "leave a label out of the families whose names match, and merge what does not differ any more: `REGEX=LABEL`; may be given more than once")
	cmd.Flags().StringArrayVar(&f.labels, "label", nil, "add a label to all series: `NAME=VALUE`; may be given more than once")
	cmd.Flags().StringVar(&f.file, "rules.file", "", "YAML file with more of these four, behind those of flags; serve and export read it again at SIGHUP")
}

// rules returns what flags and file say.
func (f *ruleFlags) rules() (r merge.Rules, err error) {
	b := ruleBuilder{labels: make(map[string]string)}
	for _, s := range f.modes {
		family, mode, ok := cutLast(s)
		if !ok {
			return r, usageError{fmt.Errorf("--gauge.mode: want REGEX=MODE, got %q", s)}
		}
		b.where = "--gauge.mode " + s
		b.mode(family, mode)
	}
	for _, s := range f.drop {
		b.where = "--drop " + s
		b.dropped(s)
	}
	for _, s := range f.dropLabels {
		family, label, ok := cutLast(s)
		if !ok {
			return r, usageError{fmt.Errorf("--drop-label: want REGEX=LABEL, got %q", s)}
		}
		b.where = "--drop-label " + s
		b.dropLabel(family, label)
	}
	for _, s := range f.labels {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return r, usageError{fmt.Errorf("--label: want NAME=VALUE, got %q", s)}
		}
		b.where = "--label " + s
		b.label(name, value)
	}
	if err := errors.Join(b.errs...); err != nil {
		return r, usageError{err}
	}
	if f.file != "" {
		if err := b.read(f.file); err != nil {
			return r, err
		}
	}
	return b.rules(), nil
}

// cutLast cuts at the last "=", for a regular expression may have others.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndex(s, "=")
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// rulesFile is a file of rules.
type rulesFile struct {
	GaugeModes []fileMode        `yaml:"gauge_modes"`
	Drop       []string          `yaml:"drop"`
	DropLabels []fileLabel       `yaml:"drop_labels"`
	Labels     map[string]string `yaml:"labels"`
}

type fileMode struct {
	Family string `yaml:"family"`
	Mode   string `yaml:"mode"`
}

type fileLabel struct {
	Family string `yaml:"family"`
	Label  string `yaml:"label"`
}

var goType = regexp.MustCompile(` in type \S+| into \S+`)

// ruleBuilder collects rules, and what is wrong with them, at where.
type ruleBuilder struct {
	where   string
	collect merge.Rules
	labels  map[string]string
	errs    []error
}

func (b *ruleBuilder) wrong(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("%s: %w", b.where, fmt.Errorf(format, args...)))
}

func (b *ruleBuilder) expression(s string) *regexp.Regexp {
	e, err := merge.Expression(s)
	if err != nil {
		b.wrong("%w", err)
	}
	return e
}

func (b *ruleBuilder) mode(family, name string) {
	mode, ok := mmapfile.ParseMode(name)
	switch {
	case !ok:
		b.wrong("want one of the modes all, liveall, min, livemin, max, livemax, sum, livesum, got %q", name)
	case mode.Base() == mmapfile.MostRecent:
		b.wrong("mode %s needs the times that only writers of that mode store: set it in the application", name)
	}
	b.collect.Modes = append(b.collect.Modes, merge.ModeRule{Family: b.expression(family), Mode: mode})
}

func (b *ruleBuilder) dropped(family string) {
	b.collect.Drop = append(b.collect.Drop, b.expression(family))
}

func (b *ruleBuilder) dropLabel(family, label string) {
	if err := merge.CheckLabel(label); err != nil {
		b.wrong("%w", err)
	}
	b.collect.DropLabels = append(b.collect.DropLabels, merge.LabelRule{Family: b.expression(family), Label: label})
}

func (b *ruleBuilder) label(name, value string) {
	if err := merge.CheckLabel(name); err != nil {
		b.wrong("%w", err)
	}
	if value == "" { // which to Prometheus is no label
		b.wrong("label %s has no value", name)
	}
	if !utf8.ValidString(value) {
		b.wrong("the value of label %s is not UTF-8", name)
	}
	if was, ok := b.labels[name]; ok && was != value {
		b.wrong("label %s has another value already, %q", name, was)
	}
	b.labels[name] = value
}

// read adds the rules of a file.
func (b *ruleBuilder) read(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--rules.file: %w", err)
	}
	var file rulesFile
	if err := onlyDocument(content, &file); err != nil {
		var wrong *yaml.TypeError
		if errors.As(err, &wrong) { // which names types of ours
			err = errors.New(goType.ReplaceAllString(strings.Join(wrong.Errors, "; "), ""))
		}
		return fmt.Errorf("--rules.file %s: %w", path, err)
	}
	in := func(section string, i int) { // as people count
		b.where = fmt.Sprintf("--rules.file %s: %s, number %d", path, section, i+1)
	}
	for i, m := range file.GaugeModes {
		in("gauge_modes", i)
		b.mode(m.Family, m.Mode)
	}
	for i, family := range file.Drop {
		in("drop", i)
		b.dropped(family)
	}
	for i, l := range file.DropLabels {
		in("drop_labels", i)
		b.dropLabel(l.Family, l.Label)
	}
	b.where = "--rules.file " + path + ": labels"
	for _, name := range slices.Sorted(maps.Keys(file.Labels)) {
		b.label(name, file.Labels[name])
	}
	return errors.Join(b.errs...)
}

// onlyDocument reads the one document of a YAML file. What stands in a second one would
// be left out without a word.
func onlyDocument(content []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.SetStrict(true)
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) { // an empty file
			return nil
		}
		return err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("want one YAML document, got another one behind a line ---")
	}
	return nil
}

func (b *ruleBuilder) rules() merge.Rules {
	r := b.collect
	for name, value := range b.labels {
		r.Labels = append(r.Labels, mmapfile.Label{Name: name, Value: value})
	}
	slices.SortFunc(r.Labels, func(x, y mmapfile.Label) int { return cmp.Compare(x.Name, y.Name) })
	return r
}

// reloadBy lets the rules of the file be read again for directories that were opened
// with these options.
func (f *ruleFlags) reloadBy(r *reloader, dirs *dirsFlag, opened *multiproc.Group, options []multiproc.Options) {
	if f.file == "" {
		return
	}
	now := options[0].Rules // the labels of a directory's name do not change
	r.add("rules", func() ([]string, error) {
		all, err := dirs.options(f, multiproc.Options{})
		if err != nil {
			return nil, err
		}
		changes := changedRules(now, all[0].Rules)
		if len(changes) == 0 {
			return nil, nil
		}
		for i, d := range opened.Dirs() {
			d.Rule(all[i].Rules)
		}
		now = all[0].Rules
		return changes, nil
	})
}

// changedRules tells which rules have come and gone.
func changedRules(was, now merge.Rules) (changes []string) {
	old, fresh := rulesText(was), rulesText(now)
	for _, s := range fresh {
		if !slices.Contains(old, s) {
			changes = append(changes, "+ "+s)
		}
	}
	for _, s := range old {
		if !slices.Contains(fresh, s) {
			changes = append(changes, "- "+s)
		}
	}
	if len(changes) == 0 && !slices.Equal(old, fresh) {
		changes = append(changes, "their order")
	}
	return changes
}

// rulesText returns the rules as flags would have them.
func rulesText(r merge.Rules) (list []string) {
	for _, m := range r.Modes {
		list = append(list, fmt.Sprintf("--gauge.mode %s=%s", merge.Pattern(m.Family), m.Mode))
	}
	for _, e := range r.Drop {
		list = append(list, "--drop "+merge.Pattern(e))
	}
	for _, l := range r.DropLabels {
		list = append(list, fmt.Sprintf("--drop-label %s=%s", merge.Pattern(l.Family), l.Label))
	}
	for _, l := range r.Labels {
		list = append(list, fmt.Sprintf("--label %s=%s", l.Name, l.Value))
	}
	return list
}
