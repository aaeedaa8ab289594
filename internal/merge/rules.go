package merge

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Rules say how families are served otherwise than their writers have it. The zero
// value changes nothing. All regular expressions are matched against the whole name of
// a family, which is that under # TYPE in the text format: of a counter with its _total.
type Rules struct {
	// Modes are the modes of gauges; the first that matches counts.
	Modes []ModeRule
	// Drop are the families that are left out.
	Drop []*regexp.Regexp
	// DropLabels are the labels that are left out. Series that do not differ any more
	// become one, as those of several writers do; those of one writer in a gauge of
	// mode "all" are added up.
	DropLabels []LabelRule
	// Labels are added to all series, sorted by name. A series' own label of such a name
	// gets "exported_" before its name, as Prometheus has it for those of a target.
	Labels []mmapfile.Label
}

// ModeRule is the mode in which the gauges of some names are merged. A writer whose
// files have a live mode keeps its part in that: Max is LiveMax for it.
type ModeRule struct {
	Family *regexp.Regexp
	Mode   mmapfile.Mode
}

// LabelRule is a label that the families of some names are served without.
type LabelRule struct {
	Family *regexp.Regexp
	Label  string
}

// Expression compiles a regular expression that is to match a whole name.
func Expression(s string) (*regexp.Regexp, error) {
	if s == "" {
		return nil, errors.New("want a regular expression for names of families, got none")
	}
	if _, err := regexp.Compile(s); err != nil { // which "a)|(b" would not be with what stands around it
		return nil, err
	}
	return regexp.Compile("^(?:" + s + ")$")
}

// Pattern returns what an Expression was compiled from.
func Pattern(e *regexp.Regexp) string {
	return strings.TrimSuffix(strings.TrimPrefix(e.String(), "^(?:"), ")$")
}

// CheckLabel returns an error for a label name that no rule may be about.
func CheckLabel(name string) error {
	switch {
	case !mmapfile.ValidName(name, false) || strings.HasPrefix(name, "__"):
		return fmt.Errorf("bad label name %q: want letters, digits and _, not first a digit or __", name)
	case name == "le" || name == "quantile":
		return fmt.Errorf("label %q is what a histogram or summary is made of: it can't be added or left out", name)
	case name == "pid":
		return fmt.Errorf("label %q tells the writers of a gauge apart: use --gauge.mode to merge them", name)
	}
	return nil
}

// Rule sets the rules. Call it before anything is added.
func (x *Index) Rule(r Rules) { x.rules = r }

// mode returns the mode in which the gauges of a family are merged that a file of this
// mode has.
func (r *Rules) mode(family string, of mmapfile.Mode) mmapfile.Mode {
	for _, rule := range r.Modes {
		if rule.Family.MatchString(family) {
			if of.Live() {
				return rule.Mode.AsLive()
			}
			return rule.Mode
		}
	}
	return of
}

func (r *Rules) drops(family string) bool {
	return slices.ContainsFunc(r.Drop, func(e *regexp.Regexp) bool { return e.MatchString(family) })
}

// LeavesOut reports whether a rule leaves out the family of an entry with that key. It is
// safe for concurrent use.
func (x *Index) LeavesOut(t mmapfile.Type, key []byte) bool {
	if len(x.rules.Drop) == 0 {
		return false
	}
	k, err := mmapfile.ParseKey(key)
	if err != nil {
		return false
	}
	id, _, lawful := identify(&k, t)
	return lawful && x.rules.drops(id.family)
}

// joins reports whether series of a family may become one because of a label less.
func (r *Rules) joins(family string) bool {
	return slices.ContainsFunc(r.DropLabels, func(rule LabelRule) bool { return rule.Family.MatchString(family) })
}

// relabel returns the labels, which are sorted by name, as the rules have them, and
// whether some are left out.
func (r *Rules) relabel(family string, labels []mmapfile.Label) (changed []mmapfile.Label, less bool) {
	changed = labels
	for _, rule := range r.DropLabels {
		is := func(l mmapfile.Label) bool { return l.Name == rule.Label }
		if slices.ContainsFunc(changed, is) && rule.Family.MatchString(family) {
			changed = slices.DeleteFunc(slices.Clone(changed), is)
			less = true
		}
	}
	if len(r.Labels) == 0 {
		return changed, less
	}
	has := func(name string) bool {
		return slices.ContainsFunc(changed, func(l mmapfile.Label) bool { return l.Name == name })
	}
	named := func(name string) bool {
		return slices.ContainsFunc(r.Labels, func(l mmapfile.Label) bool { return l.Name == name })
	}
	all := slices.Clone(r.Labels)
	for _, l := range changed {
		name := l.Name
		if named(name) {
			for named(name) || has(name) {
				name = "exported_" + name
			}
		}
		all = append(all, mmapfile.Label{Name: name, Value: l.Value})
	}
	slices.SortFunc(all, func(a, b mmapfile.Label) int { return strings.Compare(a.Name, b.Name) })
	return all, less
}

// source numbers the label sets that become one series, for parts in which the
// entries of each have to stand together. No cell has such a number.
func (x *Index) source(family string, labels []mmapfile.Label) uint32 {
	key := family + "\x00" + string(labelsOf(labels))
	n, ok := x.sources[key]
	if !ok {
		if len(x.sources) >= x.sourcesDue {
			x.forgetSources()
		}
		n = 1<<31 | x.lastSource
		x.lastSource++
		if x.sources == nil {
			x.sources = make(map[string]uint32)
		}
		x.sources[key] = n
	}
	return n
}

// forgetSources forgets the label sets whose number no part and no key has.
func (x *Index) forgetSources() {
	used := make(map[uint32]bool)
	for _, t := range x.keys.special {
		used[t.source] = true
	}
	for _, parts := range [][]*Part{x.parts, x.added, x.pending} {
		for _, p := range parts {
			if p.x == nil {
				continue // removed
			}
			for i := range p.cumulative {
				used[p.cumulative[i].series] = true
			}
		}
	}
	maps.DeleteFunc(x.sources, func(_ string, n uint32) bool { return !used[n] })
	x.sourcesDue = max(1<<12, 2*len(x.sources))
}

// counted returns the part that has the entries of a family: p, or the one for those
// that are merged in another mode. It is nil where the family does not count.
func (p *Part) counted(fam *family) *Part {
	if fam.mode == p.name.Mode {
		return p
	}
	if fam.mode.Live() && p.ended {
		p.lost = true
		return nil
	}
	for _, other := range p.others {
		if other.name.Mode == fam.mode {
			return other
		}
	}
	name := p.name
	name.Mode = fam.mode
	other := p.x.part(name)
	other.of = p
	other.bytes, other.read, other.stamp = p.bytes, p.read, p.stamp
	p.others = append(p.others, other)
	p.x.untidy = true
	return other
}

// Ended tells the part whether its writer is dead: gauges that rules have made live
// ones do not count then. What was lost by that does not come back, see Lost.
func (p *Part) Ended(yes bool) {
	p.ended = yes
	if !yes {
		return
	}
	p.others = slices.DeleteFunc(p.others, func(other *Part) bool {
		if !other.name.Mode.Live() {
			return false
		}
		p.lost = true
		if !p.pending {
			p.x.entries.taken -= int64(other.Entries())
		}
		p.x.withdraw(other)
		p.x.shrink()
		return true
	})
}

// Live reports whether values of the part count only as long as its writer is alive,
// which the mode of its file does not tell.
func (p *Part) Live() bool {
	return slices.ContainsFunc(p.others, func(other *Part) bool { return other.name.Mode.Live() })
}

// Lost reports whether entries of the part do not count because its writer was dead.
// Where it is alive after all, the part has to be made anew.
func (p *Part) Lost() bool { return p.lost }

// Overruled reports whether some entries of the part are merged in another mode than
// their file has.
func (p *Part) Overruled() bool { return len(p.others) > 0 || p.lost }
