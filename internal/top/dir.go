package top

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// Dir looks at a directory. Files stay open and mapped from look to look, and a key is
// parsed once, so that a look costs little more than to read the values.
type Dir struct {
	path    string
	probe   mmapfile.Probe
	limits  multiproc.Limits
	now     func() time.Time
	files   map[uint64]*file // by inode: a file that is being folded changes its name
	workers writers
	procs   *procs.Watch
	entries int64 // of all files
	past    int   // entries that a limit has left out
	turn    int
	scratch []byte
	notes   notes
	// unread are the files of the look before that could not be read: what they have
	// counted until they can is not new.
	unread map[string]bool
}

// worker is what a Dir keeps of a worker from look to look.
type worker struct {
	cells map[FamilyID]*cell
	// Of this look:
	state          mmapfile.State
	files, entries int
	ids            []mmapfile.FileID // of files that may be written
	layered        bool              // and one of them is on overlayfs
}

// cell is a worker's share of a family.
type cell struct{ Share }

// file is a value file.
type file struct {
	*mmapfile.File
	base    string
	name    mmapfile.Name
	entries []entry
	turn    int   // at which it was last listed
	damage  error // what the walk ended with
	worker  *worker
	first   bool // no look has read it yet, and it was there before: what it has is not new
}

// entry is one entry of a file.
type entry struct {
	cell   *cell
	last   float64
	offset uint32 // 0 for one that is none of the family's counts
}

// NewDir returns a source for a directory. The limits are those of files, their size,
// and their keys and entries; series are not limited, for none are kept.
func NewDir(path string, probe mmapfile.Probe, limits multiproc.Limits) *Dir {
	ws := make(writers)
	return &Dir{path: path, probe: probe, limits: limits, now: time.Now, files: make(map[uint64]*file), workers: ws, procs: procs.New(ws)}
}

// Close closes the files.
func (d *Dir) Close() error {
	var errs []error
	for ino := range d.files {
		errs = append(errs, d.drop(ino))
	}
	return errors.Join(errs...)
}

func (d *Dir) drop(ino uint64) error {
	f := d.files[ino]
	delete(d.files, ino)
	d.entries -= int64(len(f.entries))
	return f.Close()
}

// Look implements [Source]. The error says that the directory can't be listed.
func (d *Dir) Look(context.Context) (*Look, error) {
	d.turn++
	before := d.notes.unread
	d.unread, d.notes = before, notes{unread: make(map[string]bool)}
	for _, w := range d.workers {
		w.files, w.entries, w.ids, w.layered = 0, 0, nil, false
		for _, c := range w.cells {
			c.Entries, c.Value = 0, 0
		}
	}
	if err := d.list(); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: run it as the user that the workers run as, or as root", err)
		}
		return nil, err
	}
	look := &Look{At: d.now(), Of: d.path, Workers: make(map[string]*Worker), Families: make(map[FamilyID]*Family), Apart: true}
	for ino, f := range d.files {
		if err := d.read(f); err != nil {
			d.notes.add(f.base, err)
			if errors.Is(err, mmapfile.ErrReset) || errors.Is(err, mmapfile.ErrFault) {
				_ = d.drop(ino) // it is read anew at the next look; nothing was written
			}
		}
	}
	for id, w := range d.workers {
		if w.files == 0 {
			delete(d.workers, id)
		}
	}
	seen := processes(d.procs)
	for id, w := range d.workers {
		shown := &Worker{ID: id, State: w.state, Files: w.files, Entries: w.entries, Process: seen[id]}
		if shown.Process != nil {
			shown.State = mmapfile.Alive // which a probe may not have been able to tell
		}
		look.Workers[id] = shown
		for fid, c := range w.cells {
			if c.Entries == 0 {
				continue
			}
			fam := look.Families[fid]
			if fam == nil {
				fam = &Family{By: make(map[string]Share)}
				look.Families[fid] = fam
			}
			fam.Entries += c.Entries
			fam.Value += c.Value
			fam.Rise += c.Rise
			fam.By[id] = c.Share
		}
	}
	look.Notes = d.noted()
	return look, nil
}

// list brings the files up to date with the directory. It takes no lock, so a file that
// is being renamed may be listed under both names or none: it is the same file under any,
// and one that is not listed once is kept for a look.
func (d *Dir) list() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	bases := make(map[string]bool)
	err = mmapfile.List(dir, func(base string, ino uint64) error {
		name, ok := mmapfile.ParseName(base)
		if !ok || name.Reserved() && !name.IsClaim() {
			return nil // not a worker's
		}
		bases[base] = true
		f := d.files[ino]
		if f != nil && f.base != base {
			f.base, f.name = base, name
			f.Moved(filepath.Join(d.path, base)) // first, for Verify may have to open it
		}
		if f != nil && errors.Is(f.Verify(), mmapfile.ErrReset) {
			_ = d.drop(ino) // its inode is another file's by now, or has other content
			f = nil
		}
		if f == nil {
			if f = d.open(base, name); f == nil {
				return nil
			}
			d.files[f.ID().Inode()] = f
		}
		f.turn = d.turn
		return nil
	})
	if err != nil {
		return err
	}
	for ino, f := range d.files {
		if f.turn < d.turn-1 || f.turn < d.turn && bases[f.base] {
			_ = d.drop(ino) // deleted, or another file has its name
		}
	}
	return nil
}

// open opens a file; nil if it can't, which is noted.
func (d *Dir) open(base string, name mmapfile.Name) *file {
	if most := d.limits.Files; most > 0 && int64(len(d.files)) >= most {
		d.notes.left++
		d.notes.unread[base] = true
		return nil
	}
	path := filepath.Join(d.path, base)
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = mmapfile.ErrNotRegular // and is not opened, for that may do something to a device
	}
	var f *mmapfile.File
	if err == nil {
		size := d.limits.FileSize
		if size == 0 {
			size = math.MaxInt64
		}
		f, err = mmapfile.DefaultBudget().OpenUpTo(path, size)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since it was listed
	}
	if err != nil {
		d.notes.add(base, err)
		return nil
	}
	return &file{File: f, base: base, name: name, first: d.turn == 1 || d.unread[base]}
}

// read reads a file's values into its worker's cells.
func (d *Dir) read(f *file) error {
	walked := d.walk(f)
	w := f.worker
	v := f.Probe(d.probe)
	if w.files++; w.files == 1 || v.State == mmapfile.Alive || w.state == mmapfile.Dead {
		w.state = v.State
	}
	w.entries += len(f.entries)
	if v.State != mmapfile.Dead || f.Layered() {
		w.ids = append(w.ids, f.ID())
		w.layered = w.layered || f.Layered()
	}
	content := f.Bytes()
	if !f.Mapped() {
		var err error
		if content, err = f.ReadWalked(&d.scratch); err != nil {
			return err
		}
	}
	fault := mmapfile.Guard(func() {
		for i := range f.entries {
			f.entries[i].read(content, f.first)
		}
	})
	if fault != nil {
		return fault
	}
	f.first = false
	return walked
}

// read reads one value.
func (e *entry) read(content mmapfile.Bytes, first bool) {
	e.cell.Entries++
	if e.offset == 0 {
		return
	}
	v, _ := content.Float64(e.offset)
	// Old Python clients write a zero before the value.
	for try := 0; v < e.last && try < 3; try++ {
		v, _ = content.Float64(e.offset)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return // deleted, or nothing that adds up
	}
	e.cell.Value += v
	if !first {
		e.cell.Rise += rise(e.last, v)
	}
	e.last = v
}

// walk takes in what is new in a file.
func (d *Dir) walk(f *file) error {
	if f.damage != nil && !f.News() {
		return f.damage
	}
	f.damage = f.Walk(func(e mmapfile.Entry) error {
		if most := d.limits.KeyLength; most > 0 && int64(len(e.Key)) > most {
			d.past++
			return nil
		}
		if most := d.limits.Entries; most > 0 && d.entries >= most {
			d.past++
			return nil
		}
		k, err := mmapfile.ParseKeyUpTo(e.Key, d.limits.Labels)
		if errors.Is(err, mmapfile.ErrLabels) {
			d.past++
			return nil
		}
		if err != nil {
			return err
		}
		if f.worker == nil || len(f.entries) == 0 {
			f.worker = d.workerOf(f.name.Writer(k.Ruby))
		}
		w := f.worker
		id, counts := familyOf(f.name.Type, k)
		if !counts {
			e.Value = 0
		}
		c := w.cells[id]
		if c == nil {
			c = new(cell)
			w.cells[id] = c
		}
		f.entries = append(f.entries, entry{cell: c, offset: e.Value})
		d.entries++
		return nil
	})
	if f.worker == nil {
		f.worker = d.workerOf(f.name.Writer(false)) // who may have written nothing yet
	}
	return f.damage
}

func (d *Dir) workerOf(id string) *worker {
	w := d.workers[id]
	if w == nil {
		w = &worker{cells: make(map[FamilyID]*cell)}
		d.workers[id] = w
	}
	return w
}

// familyOf returns the family that an entry is shown under, and whether it is what counts
// there: of the parts of a histogram or summary that is the count.
func familyOf(t mmapfile.Type, k mmapfile.Key) (id FamilyID, counts bool) {
	id = FamilyID{k.Family, t.String()}
	switch t {
	case mmapfile.Counter:
		if base, created := strings.CutSuffix(k.Sample, "_created"); created {
			id.Name = base + "_total"
			return id, false
		}
		id.Name = k.Sample
	case mmapfile.Summary:
		return id, strings.HasSuffix(k.Sample, "_count")
	case mmapfile.Histogram:
		if k.Ruby { // its buckets are cumulative
			return id, strings.HasSuffix(k.Sample, "_count")
		}
		return id, strings.HasSuffix(k.Sample, "_bucket")
	}
	return id, true
}

// notes are what could not be read at a look.
type notes struct {
	damaged int
	first   string
	left    int // files past the limit
	unread  map[string]bool
}

func (n *notes) add(base string, err error) {
	n.unread[base] = true
	if n.damaged++; n.first == "" || base < n.first {
		n.first = fmt.Sprintf("%s: %v", base, err)
	}
}

func (d *Dir) noted() (list []string) {
	switch n := d.notes; {
	case n.damaged == 1:
		list = append(list, n.first)
	case n.damaged > 1:
		list = append(list, fmt.Sprintf("%d files can't be read to their end, the first: %s", n.damaged, n.first))
	}
	if d.notes.left > 0 {
		list = append(list, fmt.Sprintf("%d files are past the limit", d.notes.left))
	}
	if d.past > 0 {
		list = append(list, fmt.Sprintf("%d entries were past a limit", d.past))
	}
	return list
}
