package multiproc

import (
	"slices"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Writer is a process that has value files in the directory.
type Writer struct {
	ID    string         // its PID, or what the application has chosen instead
	State mmapfile.State // dead once nobody can write any of its files
}

// roll is the register of writers, under the lock of the Dir: who they are, and how
// many have come and gone. It is brought up to date between two pieces of work, never
// within one: a file that is opened anew is closed for a moment, and its writer none
// the worse for it.
type roll struct {
	noted   []*file // to which something has happened since
	writers map[string]*writer
	// begun says that those are entered who were there at the first look, who have not
	// been seen to start.
	begun bool
	// paused says that all files are just read anew.
	paused         bool
	by             [mmapfile.Dead + 1]int // writers, by state
	started, ended uint64
}

// writer is an entry of the roll.
type writer struct {
	id      string
	files   []*file
	state   mmapfile.State // as which it is counted
	entered bool           // it is counted
	touched bool
}

// arriving is how long a file that nobody has written to yet, and that nobody has
// open, may be one that its writer is about to open.
const arriving = time.Second

// noteLocked notes that something has happened to a file.
func (d *Dir) noteLocked(f *file) {
	if !f.noted {
		f.noted = true
		d.roll.noted = append(d.roll.noted, f)
	}
}

// tallyLocked brings the roll up to date. It is for moments at which no work on a
// file is under way.
func (d *Dir) tallyLocked() {
	r := &d.roll
	if r.paused || d.synced.Load() == nil || d.failure != nil {
		return // nobody has gone only because the directory can't be looked at
	}
	if r.begun && len(r.noted) == 0 {
		return
	}
	if r.writers == nil {
		r.writers = make(map[string]*writer)
	}
	noted := r.noted
	r.noted = nil
	var touched []*writer
	for _, f := range noted {
		f.noted = false
		there := d.files[f.base] == f
		if f.name.IsArchive() || f.left {
			continue // nobody's
		}
		if f.writer == nil {
			// Also one that has come and gone meanwhile, which may be all there was of its writer.
			f.writer = r.enter(f)
		}
		if w := f.writer; !w.touched {
			w.touched = true
			touched = append(touched, w)
		}
		if f.state = f.known(d.opts.Now()); f.state == mmapfile.Unknown && f.verdict.State == mmapfile.Dead {
			d.noteLocked(f) // which time will tell
		}
		if !there {
			f.writer.files = slices.DeleteFunc(f.writer.files, func(o *file) bool { return o == f })
			f.writer, f.left = nil, true
		}
	}
	for _, w := range touched {
		w.touched = false
		r.count(w)
	}
	r.begun = true
}

// enter returns the writer of a file that is new.
func (r *roll) enter(f *file) *writer {
	id := f.name.Writer(false)
	// What may be the slot that the Ruby client has appended is looked into.
	if i := strings.LastIndexByte(id, '-'); i > 0 && f.f != nil && f.f.Ruby() {
		id = f.name.Writer(true)
	}
	w := r.writers[id]
	if w == nil {
		w = &writer{id: id}
		r.writers[id] = w
	}
	w.files = append(w.files, f)
	return w
}

// known is what is known of the file's writer, by this file.
func (f *file) known(now time.Time) mmapfile.State {
	if f.f == nil {
		return mmapfile.Unknown
	}
	if f.verdict.State == mmapfile.Dead && f.blank && now.Sub(f.died) < arriving {
		return mmapfile.Unknown
	}
	return f.verdict.State
}

// count counts a writer as what it is now.
func (r *roll) count(w *writer) {
	here, now := len(w.files) > 0, mmapfile.Dead
	for _, f := range w.files {
		if f.state == mmapfile.Alive || now == mmapfile.Dead {
			now = f.state
		}
	}
	was := w.state
	switch {
	case !w.entered && r.begun:
		r.started++
		if now == mmapfile.Dead {
			r.ended++
		}
	case w.entered && was == mmapfile.Dead && now != mmapfile.Dead:
		r.started++
	case w.entered && was != mmapfile.Dead && now == mmapfile.Dead:
		r.ended++
	}
	if w.entered {
		r.by[was]--
	}
	if w.state, w.entered = now, here; here {
		r.by[now]++
	} else {
		delete(r.writers, w.id)
	}
}

// Writers returns the writers that have files in the directory, in no order.
func (d *Dir) Writers() []Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tallyLocked()
	all := make([]Writer, 0, len(d.roll.writers))
	for _, w := range d.roll.writers {
		all = append(all, Writer{w.id, w.state})
	}
	return all
}

// FilesOf returns the files of a writer that it may still write.
func (d *Dir) FilesOf(id string) []mmapfile.FileID {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.roll.writers[id]
	if w == nil {
		return nil
	}
	var ids []mmapfile.FileID
	for _, f := range w.files {
		if f.state != mmapfile.Dead {
			ids = append(ids, f.id)
		}
	}
	return ids
}
