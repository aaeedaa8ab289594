package mmapfile

import "strings"

// Type is the metric type of a value file, which is its file name's first word.
type Type uint8

// The types of metric that have value files of their own.
const (
	Counter Type = iota
	Gauge
	Histogram
	Summary
)

var typeNames = [...]string{Counter: "counter", Gauge: "gauge", Histogram: "histogram", Summary: "summary"}

// String returns the type as it stands in file names and in the exposition.
func (t Type) String() string { return typeNames[t] }

// Mode is a gauge's multiprocess mode: how the values of several writers become
// one. Files of other types have the zero Mode.
type Mode uint8

// The gauge modes. A Live mode counts the values of living writers only.
const (
	NoMode Mode = iota
	All
	LiveAll
	Min
	LiveMin
	Max
	LiveMax
	Sum
	LiveSum
	MostRecent
	LiveMostRecent
)

var modeNames = [...]string{
	NoMode: "", All: "all", LiveAll: "liveall", Min: "min", LiveMin: "livemin", Max: "max", LiveMax: "livemax",
	Sum: "sum", LiveSum: "livesum", MostRecent: "mostrecent", LiveMostRecent: "livemostrecent",
}

// String returns the mode as it stands in file names; the empty string for NoMode.
func (m Mode) String() string { return modeNames[m] }

// Live reports whether a dead writer's values count for nothing in this mode.
func (m Mode) Live() bool { return m != NoMode && strings.HasPrefix(modeNames[m], "live") }

// Base returns the mode without its liveness: All for LiveAll, Sum for LiveSum.
func (m Mode) Base() Mode {
	if m.Live() {
		return m - 1
	}
	return m
}

// AsLive returns the mode with liveness: LiveAll for All and LiveAll.
func (m Mode) AsLive() Mode {
	if m == NoMode || m.Live() {
		return m
	}
	return m + 1
}

// Modes returns all gauge modes, in the order in which a conflict between two
// of them is decided: the earlier wins.
func Modes() []Mode {
	modes := make([]Mode, 0, len(modeNames)-1)
	for m := All; int(m) < len(modeNames); m++ {
		modes = append(modes, m)
	}
	return modes
}

// Name is what a value file's name says: counter_<id>.db, histogram_<id>.db,
// summary_<id>.db or gauge_<mode>_<id>.db.
type Name struct {
	Type Type
	Mode Mode // NoMode unless Type is Gauge
	// ID names the writer: its PID or whatever the application chose instead,
	// underscores included. Of files that the Ruby client wrote it still has the
	// slot suffix; see [Name.Writer].
	ID string
}

const nameSuffix = ".db"

// ParseName reads the name of a value file (its last path element). It reports
// false for every other name: such a file is not ours to open or delete.
func ParseName(base string) (Name, bool) {
	stem, ok := strings.CutSuffix(base, nameSuffix)
	if !ok || strings.ContainsAny(base, "/\x00") {
		return Name{}, false
	}
	word, id, ok := strings.Cut(stem, "_")
	if !ok {
		return Name{}, false
	}
	for t, s := range typeNames {
		if s != word {
			continue
		}
		n := Name{Type: Type(t), ID: id}
		if n.Type == Gauge {
			if word, n.ID, ok = strings.Cut(id, "_"); !ok {
				return Name{}, false
			}
			if n.Mode, ok = ParseMode(word); !ok {
				return Name{}, false
			}
		}
		return n, n.ID != ""
	}
	return Name{}, false
}

// ParseMode reads a gauge mode by its name.
func ParseMode(s string) (Mode, bool) {
	for _, m := range Modes() {
		if m.String() == s {
			return m, true
		}
	}
	return NoMode, false
}

// String returns the file name; it is the inverse of [ParseName].
func (n Name) String() string {
	if n.Type == Gauge {
		return n.Type.String() + "_" + n.Mode.String() + "_" + n.ID + nameSuffix
	}
	return n.Type.String() + "_" + n.ID + nameSuffix
}

// Writer returns the identity of the process that owns the file, or owned it before
// it was claimed. The Ruby
// client appends "-<slot>" to it, which is no part of the identity, but other
// writers' ids may end so and mean it: ruby says whether the keys are Ruby's.
func (n Name) Writer(ruby bool) string {
	n = n.Unclaimed()
	if !ruby {
		return n.ID
	}
	i := strings.LastIndexByte(n.ID, '-')
	if i <= 0 || i == len(n.ID)-1 || strings.Trim(n.ID[i+1:], "0123456789") != "" {
		return n.ID
	}
	return n.ID[:i]
}
