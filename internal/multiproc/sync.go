package multiproc

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// sighting is what was seen of the directory itself when it was last listed.
type sighting struct {
	id       mmapfile.FileID
	exists   bool
	modified time.Time // when an entry was last added, removed or renamed
	listed   time.Time // when the listing began
	stale    bool      // list it again in any case
	whole    bool      // it was listed to its end once
	busy     time.Time // since when it could not be listed because another process folds it
	defied   bool      // it was listed all the same
	missing  bool      // its absence was logged
}

// mtimeGrain is more than any filesystem's modification times are apart, those
// with a grain of a second or two included. A listing that began less than this
// after a modification may have missed another one with the same time.
const mtimeGrain = 2 * time.Second

// syncLocked brings files up to date: those there are, the entries they hold,
// and who is alive as far as values depend on it. With full it looks at
// everything, even without a sign of news.
func (d *Dir) syncLocked(full bool) {
	if d.closed || !d.lookLocked(full) {
		return
	}
	if full {
		for _, f := range slices.Clone(d.order) {
			d.tendLocked(f)
		}
		return
	}
	for i := len(d.active) - 1; i >= 0; i-- { // it loses elements as it goes
		f := d.active[i]
		switch {
		case f.f == nil:
			d.retryLocked(f)
		case f.live():
			d.probeLocked(f)
		}
	}
	d.newsLocked()
}

// lookLocked brings the list of files up to date, and reports whether there is a
// directory. It lists it where there is a sign of news, or anyway.
func (d *Dir) lookLocked(anyway bool) bool {
	d.tallyLocked()
	now := d.opts.Now()
	defer func() {
		if d.failure == nil { // what could not be looked at has not been
			end := d.opts.Now()
			d.synced.Store(&end)
		}
	}()
	info, err := os.Stat(d.opts.Path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: d.opts.Path, Err: errors.New("not a directory")}
	}
	if err != nil {
		d.goneLocked(err)
		return false
	}
	id := mmapfile.ID(info)
	if !d.seen.exists || d.seen.id != id {
		if d.seen.exists {
			d.log.Info("the directory was replaced")
		} else if d.seen.missing {
			d.log.Info("the directory is there now")
		}
		d.dropAllLocked()
		d.tallyLocked() // whoever has the same id there is another one
		d.seen = sighting{id: id, exists: true, stale: true}
	}
	modified := info.ModTime()
	if anyway || d.seen.stale || !modified.Equal(d.seen.modified) || d.seen.listed.Sub(modified) < mtimeGrain {
		d.seen.modified, d.seen.listed = modified, now
		d.seen.stale = !d.scanAllLocked()
	}
	return true
}

// newsLocked indexes what files that are read have new.
func (d *Dir) newsLocked() {
	for next := len(d.active) - 1; next >= 0; next-- {
		news := false
		// One guard for as many files as have none: it is more than the look.
		fault := mmapfile.Guard(func() {
			for ; next >= 0; next-- {
				if f := d.active[next]; f.part != nil && f.f != nil && (f.damage != "" || f.f.News()) {
					news = true
					return
				}
			}
		})
		if news || fault != nil {
			d.walkLocked(d.active[next], false)
		}
	}
}

// placeLocked keeps a file in the lists in which it belongs.
func (d *Dir) placeLocked(f *file) {
	d.noteLocked(f)
	place(&d.order, f, &f.inOrder, d.files[f.base] == f)
	// The dead are left to Run, if there is one: frozen, or with live gauges, which
	// do not count. One that passes for dead without proof is looked at as the living are.
	idle := f.frozen() || d.running && f.f != nil && f.part == nil && f.verdict.Proven
	place(&d.active, f, &f.inActive, d.files[f.base] == f && !idle)
	d.idle[f.name.Type].add(f.idle, -1)
	d.idleBy[f.idleBy] -= f.idle.files
	if f.idle = (idleStats{}); idle && d.files[f.base] == f {
		f.idle.files, f.idle.bytes = 1, f.f.Size()
		if f.frozen() {
			f.idle.frozen, f.idle.entries = 1, f.part.Entries()
		}
	}
	d.idle[f.name.Type].add(f.idle, 1)
	f.idleBy = f.verdict.By
	d.idleBy[f.idleBy] += f.idle.files
}

// idleStats is what the files that are not active add to the statistics, which is
// kept so that nobody has to count them.
type idleStats struct {
	files, frozen, entries int
	bytes                  int64
}

func (s *idleStats) add(o idleStats, times int) {
	s.files += times * o.files
	s.frozen += times * o.frozen
	s.entries += times * o.entries
	s.bytes += int64(times) * o.bytes
}

// place puts a file into a list, or takes it out. at is its place there, from 1 on.
func place(list *[]*file, f *file, at *int, in bool) {
	switch {
	case in && *at == 0:
		*list = append(*list, f)
		*at = len(*list)
	case !in && *at > 0:
		i, last := *at-1, len(*list)-1
		moved := (*list)[last]
		(*list)[i] = moved
		(*list)[last] = nil
		*list = (*list)[:last]
		if moved != f {
			if at == &f.inOrder {
				moved.inOrder = i + 1
			} else {
				moved.inActive = i + 1
			}
		}
		*at = 0
	}
}

// tendLocked looks at everything about a file, which needs to be done now and then.
func (d *Dir) tendLocked(f *file) {
	if d.files[f.base] != f {
		return // gone since
	}
	if f.f == nil {
		d.retryLocked(f)
		return
	}
	if f.frozen() && !d.freezing && !f.archive {
		d.thawLocked(f) // nobody would tell us of a writer that comes and goes
		return
	}
	d.probeLocked(f)
	d.readmitLocked(f)
	if f.part == nil || f.frozen() {
		return
	}
	d.resizeLocked(f)
	d.walkLocked(f, true)
	if f.verdict.State == mmapfile.Dead {
		d.freezeLocked(f)
	}
}

// tend looks at everything about the next files, 1/share of all, so that each has
// its turn once in as many calls. A file that is read at every snapshot has nothing
// urgent to tell but its writer's death: it is looked at every third time.
func (d *Dir) tend(share int) {
	const most = time.Millisecond // at a time, for snapshots that wait
	for left := -1; left != 0; {
		d.mu.Lock()
		if left < 0 {
			left = (len(d.order) + share - 1) / share
		}
		for begun := time.Now(); left > 0 && time.Since(begun) < most; left-- {
			if d.tended >= len(d.order) {
				d.tended = 0
				d.turn++
			}
			if d.closed || len(d.order) == 0 {
				left = 0
				break
			}
			f := d.order[d.tended]
			d.tended++
			if d.turn-f.turn >= 3 || f.part == nil || f.frozen() || f.damage != "" {
				f.turn = d.turn
				d.tendLocked(f)
			}
		}
		d.mu.Unlock()
	}
}

// retryLocked opens a file that could not be opened, in case it can be now:
// permissions change without a trace in the directory.
func (d *Dir) retryLocked(f *file) {
	info, err := d.lstat(f.base)
	if err == nil {
		err = d.openLocked(f, info)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.failedLocked(err)
		d.seen.stale = true
	}
}

// goneLocked handles a directory that is not there, or no longer.
func (d *Dir) goneLocked(err error) {
	d.dropAllLocked()
	if !errors.Is(err, fs.ErrNotExist) {
		d.seen = sighting{}
		d.failedLocked(err)
		return
	}
	if !d.seen.missing {
		d.log.Warn("the directory is not there; it is looked for until it is", "err", err)
	}
	d.seen = sighting{missing: true}
	d.failure = nil
}

// failedLocked notes why the directory can't be listed. The same is logged once.
func (d *Dir) failedLocked(err error) {
	if d.failure == nil || d.failure.Error() != err.Error() {
		d.log.Error("the directory can't be listed", "err", err)
	}
	d.failure = err
}

func (d *Dir) dropAllLocked() {
	d.leftOut = 0
	for base, f := range d.files {
		delete(d.files, base)
		d.closeLocked(f)
	}
	clear(d.lingering)
	d.included, d.regroup = nil, false
}

func (d *Dir) pathOf(base string) string { return filepath.Join(d.opts.Path, base) }

func (d *Dir) lstat(base string) (fs.FileInfo, error) { return os.Lstat(d.pathOf(base)) }

// scanLocked lists the directory and opens what is new. It reports false where
// the listing is not to be relied on.
func (d *Dir) scanLocked() bool {
	dir, err := os.Open(d.opts.Path)
	if err != nil {
		d.failedLocked(err)
		return false
	}
	defer dir.Close()
	if d.right == nil || !d.right.Holds(d.seen.id) { // it may be another's by now
		// While another process folds, its files have two names, or none, for a moment.
		// What is known serves for now; where nothing is, as at the start or when the rules
		// have changed, there is nothing to serve before that.
		most := maxWait
		if !d.seen.whole {
			most = maxBusy
		} else if since := d.seen.busy; !since.IsZero() && d.opts.Now().Sub(since) >= maxBusy && !d.seen.defied {
			most = maxBusy / 2 // who only folds lets go of it for a moment by then
		}
		err := mmapfile.LockListing(dir, most)
		if err != nil && d.putOffLocked(err) {
			return false
		}
		d.seen.busy, d.seen.defied = time.Time{}, err != nil
	}
	// A file that was passed over, because an archive included it, counts after all if
	// that archive turns out to be gone or another one.
	for range 3 {
		d.stats.Scans++
		d.stats.Ignored, d.leftOut = 0, 0
		clear(d.lingering)
		_, err := dir.Seek(0, io.SeekStart)
		if err == nil {
			err = mmapfile.List(dir, d.listedLocked)
		}
		if err != nil {
			d.failedLocked(err)
			return false
		}
		for base, f := range d.files {
			if f.scan != d.stats.Scans {
				d.vanishedLocked(f)
				delete(d.files, base)
				d.closeLocked(f)
			}
		}
		d.failure = nil
		if !d.regroupLocked() {
			d.seen.whole = true
			return true
		}
	}
	return false
}

// maxWait is how long a snapshot waits for another process that is renaming files.
const maxWait = 100 * time.Millisecond

// maxBusy is how long a directory is not listed because another process is renaming
// files in it. That takes milliseconds at a time, even of a busy machine.
const maxBusy = 2 * time.Second

// putOffLocked reports whether the directory is not to be listed now, although it may
// have changed: what is known of it is good for a while yet, and a listing while files
// are renamed can miss some of them, which would make counters fall.
func (d *Dir) putOffLocked(err error) bool {
	now := d.opts.Now()
	if d.seen.busy.IsZero() || now.Before(d.seen.busy) {
		d.seen.busy = now
	}
	off := errors.Is(err, mmapfile.ErrBusy) && d.seen.whole && now.Sub(d.seen.busy) < maxBusy
	d.log.Debug("the directory is being folded", "put off", off, "err", err)
	return off
}

// listedLocked looks at one directory entry. An error means that it is not the
// file's fault that it can't be looked at.
func (d *Dir) listedLocked(base string, ino uint64) error {
	if mmapfile.Own(base) {
		return nil
	}
	if d.included[base] {
		d.lingering[base] = true // an archive has its values
		return nil
	}
	name, ok := mmapfile.ParseName(base)
	if !ok {
		d.stats.Ignored++
		return nil
	}
	f := d.files[base]
	if f != nil && f.f != nil && f.id.HasInode(ino) && f.f.Held() && !f.anew {
		f.scan = d.stats.Scans
		return nil
	}
	if f == nil && d.leaveOutLocked(name, ino) {
		return nil
	}
	info, err := d.lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since it was listed
	}
	if err != nil {
		return err
	}
	// What is not held open may have the inode of another file by now. Nobody changes an
	// archive: one that has changed is another one.
	changed := mmapfile.Changed(info)
	other := f != nil && f.archive && !changed.Equal(f.changed)
	if f == nil || f.f == nil || f.anew || other || f.id != mmapfile.ID(info) {
		fresh := &file{base: base, name: name}
		if f != nil {
			delete(d.files, base)
			d.closeLocked(f)
			if f.id == mmapfile.ID(info) {
				fresh.damage, fresh.logged = f.damage, f.logged // so that the same is not logged again
			}
		}
		f = fresh
		d.files[base] = f
		if err := d.openLocked(f, info); errors.Is(err, fs.ErrNotExist) {
			delete(d.files, base)
			d.placeLocked(f)
			return nil
		} else if err != nil {
			delete(d.files, base)
			d.closeLocked(f)
			return err
		}
	} else if !changed.Equal(f.changed) {
		if f.changed = changed; f.frozen() {
			d.thawLocked(f)
		} else if f.part != nil {
			d.walkLocked(f, true)
		}
	}
	f.scan = d.stats.Scans
	return nil
}

// statsLocked counts what there is.
func (d *Dir) statsLocked() Stats {
	s := d.stats
	s.Files = len(d.files)
	s.Series = d.index.Series()
	s.LeftOut = d.leftOut
	s.Dropped = make(map[merge.Reason]uint64)
	for _, r := range merge.Reasons() {
		s.Dropped[r] = d.index.Dropped(r)
	}
	for t, idle := range d.idle {
		s.Dead += idle.files
		s.Frozen += idle.frozen
		s.Entries += idle.entries
		s.ByType[t].Dead = Amount{idle.files, idle.bytes}
	}
	s.Fold, s.Merges = d.folds, d.merges
	d.tallyLocked()
	s.Writers, s.Started, s.Ended = d.roll.by, d.roll.started, d.roll.ended
	var probed [len(d.idleBy)][mmapfile.Dead + 1]int
	for by, files := range d.idleBy {
		probed[by][mmapfile.Dead] = files
	}
	for _, f := range d.active {
		switch {
		case f.damage == "":
		case f.logged == mmapfile.ErrSize:
			s.CutOff++
		default:
			s.Corrupt++
		}
		if f.f == nil {
			continue
		}
		s.Bytes += int64(len(f.f.Bytes()))
		probed[f.verdict.By][f.verdict.State]++
		switch {
		case f.part == nil:
		case f.f.Mapped():
			s.Mapped++
		default:
			s.Read++
		}
		amount := &s.ByType[f.name.Type].Alive
		if f.verdict.State == mmapfile.Dead {
			s.Dead++
			amount = &s.ByType[f.name.Type].Dead
		} else {
			s.Alive++
		}
		amount.Files++
		amount.Bytes += f.f.Size()
		if f.part != nil {
			s.Entries += f.part.Entries()
		}
	}
	s.Probed = make(map[Probed]int)
	for by, states := range probed {
		for state, files := range states {
			if files > 0 {
				s.Probed[Probed{mmapfile.Probe(by), mmapfile.State(state)}] = files
			}
		}
	}
	d.archivesLocked(&s)
	return s
}
