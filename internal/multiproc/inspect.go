package multiproc

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Report is what a value file holds and who may still write it.
type Report struct {
	Path    string        `json:"path"`
	Writer  string        `json:"writer"`           // the process: a PID or what the application chose
	Client  string        `json:"client,omitempty"` // the library, as far as keys and layout tell
	Type    string        `json:"type"`
	Mode    string        `json:"mode,omitempty"`
	Layout  string        `json:"layout"`
	Entries int           `json:"entries"`
	Used    int64         `json:"used_bytes"`
	Size    int64         `json:"size_bytes"`
	State   string        `json:"state"` // alive, dead or unknown, or archive: nobody's any more
	By      string        `json:"state_by,omitempty"`
	Proven  bool          `json:"proven_dead"`           // not only by the lack of a lock
	Why     string        `json:"state_error,omitempty"` // why it is unknown
	Damage  string        `json:"damage,omitempty"`
	List    []EntryReport `json:"list,omitempty"`
}

// EntryReport is one entry of a file. Numbers are strings, for JSON has no NaN.
type EntryReport struct {
	Family    string            `json:"family"`
	Sample    string            `json:"sample"`
	Labels    map[string]string `json:"labels"`
	Help      string            `json:"help,omitempty"`
	Value     string            `json:"value"`
	Timestamp string            `json:"timestamp,omitempty"` // Unix seconds
}

// ErrNotValueFile is returned for a file whose name is not a value file's.
var ErrNotValueFile = errors.New("not a value file")

// Inspect reports on one file; with its entries, if list. Damage is part of the
// report. The error says why there is nothing to report on.
func Inspect(path string, p mmapfile.Probe, list bool) (*Report, error) {
	name, ok := mmapfile.ParseName(filepath.Base(path))
	if !ok {
		return nil, &fs.PathError{Op: "inspect", Path: path, Err: ErrNotValueFile}
	}
	r := &Report{Path: path, Writer: name.ID, Type: name.Type.String(), Mode: name.Mode.String(),
		Layout: mmapfile.UnknownLayout.String(), State: mmapfile.Unknown.String()}
	f, err := mmapfile.OpenFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		r.Damage = err.Error()
		return r, nil
	}
	defer f.Close()
	if name.IsArchive() && isArchive(f, name) {
		r.State, r.Proven = "archive", true
	} else {
		v := probe(f, name, p)
		r.State, r.By, r.Proven = v.State.String(), v.By.String(), v.Proven
		if v.Err != nil {
			r.Why = v.Err.Error()
		}
	}
	var first mmapfile.Key
	var values []uint32
	err = f.Walk(func(e mmapfile.Entry) error {
		k, err := mmapfile.ParseKey(e.Key)
		if err != nil {
			return err
		}
		if r.Entries++; r.Entries == 1 {
			first = k
		}
		if list {
			er := EntryReport{Family: k.Family, Sample: k.Sample, Help: k.Help, Labels: make(map[string]string)}
			for _, l := range k.Labels {
				er.Labels[l.Name] = l.Value
			}
			r.List = append(r.List, er)
			values = append(values, e.Value)
		}
		return nil
	})
	if err != nil {
		r.Damage = err.Error()
	}
	r.Size, r.Used = int64(len(f.Bytes())), f.Used()
	r.Layout = f.Layout().String()
	if r.Entries > 0 {
		r.Writer = name.Writer(first.Ruby)
		r.Client = client(first, f.Layout())
	}
	err = mmapfile.Guard(func() {
		for i, off := range values {
			r.List[i].Value = formatAt(f.Bytes(), off)
			if f.Layout() == mmapfile.ValueTimestamp {
				r.List[i].Timestamp = formatAt(f.Bytes(), off+8)
			}
		}
	})
	if err != nil {
		r.Damage = err.Error()
	}
	return r, nil
}

// isArchive reports whether a file that has an archive's name is one.
func isArchive(f *mmapfile.File, name mmapfile.Name) bool {
	_, err := f.Included(name)
	return err == nil
}

func formatAt(b mmapfile.Bytes, off uint32) string {
	v, ok := b.Float64(off)
	if !ok {
		return ""
	}
	if math.Float64bits(v) == mmapfile.StaleBits {
		return "deleted"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// client tells which library writes such keys in such a layout.
func client(k mmapfile.Key, l mmapfile.Layout) string {
	switch {
	case k.Ruby:
		return "ruby mmap"
	case k.Items == 3:
		return "python up to 0.15"
	case l == mmapfile.ValueOnly:
		return "python 0.16 to 0.17"
	case l == mmapfile.ValueTimestamp:
		return "python from 0.18, or promagg's"
	}
	return "python from 0.16, or promagg's"
}

// InspectDir reports on all value files of a directory, by name, and names the
// entries that are none.
func InspectDir(path string, probe mmapfile.Probe, list bool) (reports []*Report, others []string, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		r, err := Inspect(filepath.Join(path, e.Name()), probe, list)
		switch {
		case mmapfile.Own(e.Name()):
		case errors.Is(err, ErrNotValueFile):
			others = append(others, e.Name())
		case err == nil:
			reports = append(reports, r)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, nil, err
		}
	}
	return reports, others, nil
}
