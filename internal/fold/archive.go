package fold

import (
	"fmt"
	"math"

	"github.com/promagg/promagg/internal/exact"
	"github.com/promagg/promagg/internal/mmapfile"
)

// Archive collects the values of files of one type and mode. Entries of the same key
// become one; different spellings of one series remain different entries, which
// readers of the archive add up as they would those of the files. It takes memory
// for each key, whatever the number of files. It is one goroutine's.
type Archive struct {
	name    mmapfile.Name
	layout  mmapfile.Layout
	entries []entry
	index   map[string]int // by key
	ruby    rubyHistograms
}

// entry is what the files have for one key.
type entry struct {
	key   string
	value float64
	rest  float64 // of a sum, what value lacks
	stamp float64 // of gauges that are merged by time
	fed   bool    // by a file in which it was not deleted
}

// New returns an archive that nothing has been added to, for files of the type and
// mode of name, which must be foldable.
func New(name mmapfile.Name) *Archive {
	if !name.Foldable() {
		panic("fold: bug: no archive for " + name.String())
	}
	return &Archive{name: name.Archive(), index: make(map[string]int)}
}

// Name returns the name that the archive has in the directory.
func (a *Archive) Name() mmapfile.Name { return a.name }

// Entries returns how many entries it has.
func (a *Archive) Entries() int { return len(a.entries) }

// Add adds all entries of a file, or of an older archive. content is the file up to used, which nobody
// changes. After an error, which wraps that of the damage, nothing of the file has
// been added.
func (a *Archive) Add(content []byte) error {
	_, err := a.AddSome(content, func(mmapfile.Entry) bool { return true })
	return err
}

// AddSome is Add for the entries that keep keeps. It returns how many it left out.
func (a *Archive) AddSome(content []byte, keep func(mmapfile.Entry) bool) (dropped int, err error) {
	var walker mmapfile.Walker
	var found []mmapfile.Entry
	if err := walker.Walk(content, func(e mmapfile.Entry) error {
		if keep(e) {
			found = append(found, e)
		} else {
			dropped++
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if a.name.Type == mmapfile.Histogram {
		// What Ruby has cumulated is not to be added as it stands.
		found = a.ruby.add(a, content, found)
	}
	stamped := walker.Layout() == mmapfile.ValueTimestamp
	if stamped || a.layout == mmapfile.UnknownLayout {
		a.layout = walker.Layout()
	}
	for _, e := range found {
		stamp := 0.0
		if stamped {
			stamp = mmapfile.Float64(content, e.Value+8)
		}
		a.at(e.Key).add(a.name, mmapfile.Float64(content, e.Value), stamp)
	}
	return dropped, nil
}

// at returns the entry of a key.
func (a *Archive) at(key []byte) *entry {
	i, ok := a.index[string(key)]
	if !ok {
		i = len(a.entries)
		a.entries = append(a.entries, entry{key: string(key)})
		a.index[a.entries[i].key] = i
	}
	return &a.entries[i]
}

// add adds a value as the type and mode have it.
func (e *entry) add(name mmapfile.Name, v, stamp float64) {
	if math.Float64bits(v) == mmapfile.StaleBits {
		return
	}
	cur := e.value
	first := !e.fed
	e.fed = true
	switch name.Mode {
	case mmapfile.Min:
		if first || v < cur || cur != cur {
			e.value = v
		}
	case mmapfile.Max:
		if first || v > cur || cur != cur {
			e.value = v
		}
	case mmapfile.MostRecent:
		// A time that is no number is no time, and any other is later.
		if first || stamp > e.stamp || e.stamp != e.stamp || stamp == e.stamp && (v > cur || cur != cur) {
			e.value, e.stamp = v, stamp
		}
	default:
		var lost float64
		e.value, lost = exact.Add(e.value, v)
		e.rest += lost
	}
}

// Bytes returns the archive as a file that includes files of these names.
func (a *Archive) Bytes(included []string) ([]byte, error) {
	if len(included) > mmapfile.MaxIncluded {
		return nil, fmt.Errorf("%s: want at most %d files that it includes, got %d", a.name, mmapfile.MaxIncluded, len(included))
	}
	layout := a.layout
	if layout == mmapfile.UnknownLayout {
		layout = mmapfile.ValueTimestamp // of no entries
	}
	im := mmapfile.NewImage(layout)
	a.ruby.finish(a)
	for i := range a.entries {
		if e := &a.entries[i]; e.fed {
			im.Append([]byte(e.key), e.total(a.name), e.stamp)
		}
		if n := len(im.Bytes()); n > maxArchive {
			return nil, fmt.Errorf("%s: want at most %d bytes, got more", a.name, maxArchive)
		}
	}
	return mmapfile.AppendTrailer(im.Bytes(), included), nil
}

// maxArchive is the most that a value file can speak of, less than that by more than an
// entry.
const maxArchive = math.MaxInt32 - 1<<20

// total returns the value that is written.
func (e *entry) total(name mmapfile.Name) float64 {
	if name.Type == mmapfile.Gauge {
		return exact.Round(e.value, e.rest)
	}
	return exact.RoundUp(e.value, e.rest)
}
