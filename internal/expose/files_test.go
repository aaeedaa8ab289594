package expose

import (
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// entry is an entry to write. at is its timestamp, in a file that has them.
type entry struct {
	key       string
	value, at float64
}

// valueFile is a value file to write, of value+timestamp layout unless plain.
type valueFile struct {
	name    string
	plain   bool
	entries []entry
}

// write writes value files to a new directory and returns it. Their writers are gone.
func write(t testing.TB, files ...valueFile) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		layout := mmapfile.ValueTimestamp
		if f.plain {
			layout = mmapfile.ValueOnly
		}
		w, err := mmapfile.Create(filepath.Join(dir, f.name), layout, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range f.entries {
			off, err := w.Append([]byte(e.key))
			if err != nil {
				t.Fatal(err)
			}
			if f.plain {
				w.Set(off, e.value)
			} else {
				w.SetAt(off, e.value, e.at)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read merges a directory, in which every file that exists counts as alive.
func read(t testing.TB, dir string) *merge.Snapshot {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeOff})
	defer d.Close()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// merged writes value files and merges them.
func merged(t testing.TB, files ...valueFile) *merge.Snapshot {
	t.Helper()
	return read(t, write(t, files...))
}

// counter is a file of one counter without labels.
func counter(family, help string, value float64) valueFile {
	return valueFile{name: "counter_1.db", entries: []entry{
		{key: `["` + family + `", "` + family + `_total", {}, "` + help + `"]`, value: value},
	}}
}
