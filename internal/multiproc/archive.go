package multiproc

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// recognizeLocked tells whether a file that has been opened is an archive, and what it
// includes. One that only has the name is a file like others. The error is that of a
// file that could not be read: it may be an archive, and then to count what it includes
// as well would be wrong.
func (d *Dir) recognizeLocked(f *file, info fs.FileInfo) error {
	if !f.name.IsArchive() {
		return nil
	}
	included, err := f.f.Included(f.name)
	if err == nil && !d.trusted(info) {
		err = fmt.Errorf("%w: its owner is none who may delete what it includes", mmapfile.ErrTrailer)
	}
	if err != nil && !errors.Is(err, mmapfile.ErrTrailer) {
		return err
	}
	if f.noArchive = err; err != nil {
		d.log.Warn("a file has the name of an archive and is none; its values are served, and nothing can be folded",
			"file", f.base, "err", err, "hint", "move it away, or delete it if its values are of no use")
		return nil
	}
	f.archive, f.included, f.size = true, included, info.Size()
	d.regroup = true
	return nil
}

// doubtArchives has the next listing look again at files that have the name of an archive
// and were none, if they are one by now: somebody may have mended them.
func (d *Dir) doubtArchives() {
	for _, name := range fold.Archives() {
		d.mu.Lock()
		f := d.files[name.String()]
		doubtful := f != nil && f.f != nil && f.noArchive != nil
		d.mu.Unlock()
		if !doubtful {
			continue
		}
		// This takes as long as reading all of it.
		info, err := d.lstat(name.String())
		if err != nil || !d.trusted(info) {
			continue
		}
		opened, err := d.opts.Budget.Open(d.pathOf(name.String()))
		if err != nil {
			continue
		}
		_, err = opened.Included(name)
		_ = opened.Close() // it was only read
		d.mu.Lock()
		if err == nil && d.files[name.String()] == f {
			f.anew, d.seen.stale = true, true
		}
		d.mu.Unlock()
	}
}

// trusted reports whether an archive is to be believed that other files count no more.
// Where the directory's sticky bit keeps users from deleting each other's files, it is
// only of those who may all the same: root, the directory's owner, and this process.
func (d *Dir) trusted(archive fs.FileInfo) bool {
	dir, err := os.Stat(d.opts.Path)
	if err != nil || dir.Mode()&fs.ModeSticky == 0 {
		return err == nil
	}
	owner, ok := mmapfile.Owner(archive)
	above, _ := mmapfile.Owner(dir)
	return !ok || owner == 0 || owner == above || owner == os.Geteuid()
}

// regroupLocked takes the files that archives include out of the merge, if archives
// have come or gone. It reports whether files count again that have not been opened.
func (d *Dir) regroupLocked() (missing bool) {
	if !d.regroup {
		return false
	}
	d.regroup = false
	included := make(map[string]bool)
	for _, f := range d.files {
		for _, base := range f.included {
			included[base] = true
		}
	}
	for base := range included {
		if f := d.files[base]; f != nil {
			delete(d.files, base)
			d.closeLocked(f)
			d.lingering[base] = true
		}
	}
	for base := range d.lingering {
		if !included[base] {
			missing = true
		}
	}
	maps.DeleteFunc(d.lingering, func(base string, _ bool) bool { return !included[base] })
	d.included = included
	return missing
}

// archivesLocked counts the archives, which are no writers' files.
func (d *Dir) archivesLocked(s *Stats) {
	for _, name := range fold.Archives() {
		f := d.files[name.String()]
		if f == nil || !f.archive {
			continue
		}
		s.Archives++
		s.ArchiveBytes += f.size
		s.Files--
		s.Dead--
		if dead := &s.ByType[name.Type].Dead; f.f != nil {
			dead.Files--
			dead.Bytes -= f.f.Size()
		}
		s.Probed[Probed{f.verdict.By, f.verdict.State}]--
		if f.frozen() {
			s.Frozen--
		}
	}
}

// renameLocked notes that a file has another name.
func (d *Dir) renameLocked(f *file, name mmapfile.Name, info fs.FileInfo) {
	delete(d.files, f.base)
	f.base, f.name = name.String(), name
	d.files[f.base] = f
	if f.f != nil {
		f.f.Moved(d.pathOf(f.base))
	}
	if info != nil {
		f.changed = mmapfile.Changed(info)
	}
}

// idOf tells which file was last seen to have a name; it is zero where there was none.
func (d *Dir) idOf(name mmapfile.Name) mmapfile.FileID {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name.String()]; f != nil {
		return f.id
	}
	return mmapfile.FileID{}
}

// committedLocked puts an archive that has just been committed into the place of the files it
// includes, so that no snapshot has both or neither. ready is what is known of it
// already, nil if nothing is. It reports whether the archive has been read and is sound.
func (d *Dir) committedLocked(archive mmapfile.Name, files []*file, ready *file) (sound bool) {
	base := archive.String()
	old := d.files[base]
	// The new ones first: series that have entries all the time remain what they are.
	info, err := d.lstat(base)
	fresh := &file{base: base, name: archive}
	if err == nil && ready != nil && ready.part.In(d.index) && ready.id == mmapfile.ID(info) && ready.size == info.Size() {
		fresh = ready
	}
	fresh.base, fresh.scan = base, d.stats.Scans
	d.files[base] = fresh
	switch {
	case err != nil:
	case fresh == ready:
		err = d.startLocked(fresh, info)
	default:
		err = d.openLocked(fresh, info)
	}
	if err != nil {
		// The next listing opens it, or tells why there is no snapshot.
		delete(d.files, base)
		d.closeLocked(fresh)
		d.seen.stale = true
	}
	if old != nil {
		d.closeLocked(old)
	}
	d.regroup = true
	for _, f := range files {
		d.lingering[f.base] = true
	}
	d.regroupLocked()
	return err == nil && fresh.archive
}

// inSlice is how many entries of an archive are indexed without letting a snapshot in.
const inSlice = 1024

// ready indexes a draft, of which nothing counts before startLocked: so nobody has to
// wait for that when it is committed. It returns nil where it can't, which is no loss
// but of time.
func (d *Dir) ready(archive mmapfile.Name, draft *fold.Draft) *file {
	f := &file{base: draft.Name(), name: archive}
	opened, err := d.openUpTo(f)
	if err != nil {
		d.log.Debug("an archive is not read before it counts", "file", f.base, "err", err)
		return nil
	}
	f.f, f.id, f.size = opened, opened.ID(), draft.Size
	d.mu.Lock()
	defer d.mu.Unlock()
	f.part = d.index.AddPending(archive)
	n := 0
	err = f.f.Walk(func(e mmapfile.Entry) error {
		if n++; n%inSlice == 0 {
			d.mu.Unlock()
			d.mu.Lock()
		}
		return d.addLocked(f, e)
	})
	if f.id != draft.ID() {
		err = errors.Join(err, fold.ErrMeddled)
	}
	if err != nil {
		d.log.Debug("an archive is not read before it counts", "file", f.base, "err", err)
		d.unreadyLocked(f)
		return nil
	}
	return f
}

// unready forgets a draft that has not come to count. f may be nil.
func (d *Dir) unready(f *file) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f != nil && d.files[f.base] != f {
		d.unreadyLocked(f)
	}
}

func (d *Dir) unreadyLocked(f *file) {
	if f.part != nil && f.part.In(d.index) {
		d.index.Remove(f.part)
		f.part = nil
	}
	if f.f != nil {
		if err := f.f.Close(); err != nil {
			d.log.Debug("closing a draft failed", "file", f.base, "err", err)
		}
		f.f = nil
	}
}

// startLocked makes an archive count that was made ready.
func (d *Dir) startLocked(f *file, info fs.FileInfo) error {
	f.f.Moved(d.pathOf(f.base))
	f.changed = mmapfile.Changed(info)
	f.part.Start()
	f.part.Ended(true)
	d.byPart[f.part] = f
	d.mapLocked(f)
	if err := d.recognizeLocked(f, info); err != nil {
		return err // it is closed by the caller
	}
	d.placeLocked(f)
	d.probeLocked(f)
	d.freezeLocked(f)
	return nil
}
