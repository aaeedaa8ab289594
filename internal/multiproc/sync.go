package multiproc

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	if d.closed {
		return
	}
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
		return
	}
	id := mmapfile.ID(info)
	if !d.seen.exists || d.seen.id != id {
		if d.seen.exists {
			d.log.Info("the directory was replaced")
		} else if d.seen.missing {
			d.log.Info("the directory is there now")
		}
		d.dropAllLocked()
		d.seen = sighting{id: id, exists: true, stale: true}
	}
	modified := info.ModTime()
	if full || d.seen.stale || !modified.Equal(d.seen.modified) || d.seen.listed.Sub(modified) < mtimeGrain {
		d.seen.modified, d.seen.listed = modified, now
		d.seen.stale = !d.scanLocked()
	}
	for _, f := range d.files {
		switch {
		case f.f == nil:
			d.retryLocked(f)
		case full || f.name.Mode.Live():
			d.probeLocked(f)
		}
		if f.part != nil {
			d.walkLocked(f, full)
		}
	}
}

// retryLocked opens a file that could not be opened, in case it can be now:
// permissions change without a trace in the directory.
func (d *Dir) retryLocked(f *file) {
	info, err := os.Lstat(filepath.Join(d.opts.Path, f.base))
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
	for _, f := range d.files {
		d.closeLocked(f)
	}
	clear(d.files)
}

// scanLocked lists the directory and opens what is new. It reports false where
// the listing is not to be relied on.
func (d *Dir) scanLocked() bool {
	d.stats.Scans++
	d.stats.Ignored = 0
	dir, err := os.Open(d.opts.Path)
	if err != nil {
		d.failedLocked(err)
		return false
	}
	defer dir.Close()
	for err == nil {
		var entries []fs.DirEntry
		entries, err = dir.ReadDir(1024)
		for _, e := range entries {
			if e := d.listedLocked(e); e != nil {
				err = e
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		d.failedLocked(err)
		return false
	}
	for base, f := range d.files {
		if f.scan != d.stats.Scans {
			d.closeLocked(f)
			delete(d.files, base)
		}
	}
	d.failure = nil
	return true
}

// listedLocked looks at one directory entry. An error means that it is not the
// file's fault that it can't be looked at.
func (d *Dir) listedLocked(e fs.DirEntry) error {
	name, ok := mmapfile.ParseName(e.Name())
	if !ok {
		d.stats.Ignored++
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since it was listed
	}
	if err != nil {
		return err
	}
	f := d.files[e.Name()]
	if f == nil || f.f == nil || f.id != mmapfile.ID(info) {
		fresh := &file{base: e.Name(), name: name}
		if f != nil {
			d.closeLocked(f)
			if f.id == mmapfile.ID(info) {
				fresh.damage, fresh.logged = f.damage, f.logged // so that the same is not logged again
			}
		}
		f = fresh
		if err := d.openLocked(f, info); errors.Is(err, fs.ErrNotExist) {
			delete(d.files, e.Name())
			return nil
		} else if err != nil {
			return err
		}
	} else if info.Size() < int64(len(f.f.Bytes())) {
		d.resizeLocked(f)
	}
	f.scan = d.stats.Scans
	d.files[e.Name()] = f
	return nil
}

// statsLocked counts what there is.
func (d *Dir) statsLocked() Stats {
	s := d.stats
	s.Files = len(d.files)
	s.Series = d.index.Series()
	s.Dropped = make(map[merge.Reason]uint64)
	for _, r := range merge.Reasons() {
		s.Dropped[r] = d.index.Dropped(r)
	}
	for _, f := range d.files {
		if f.damage != "" {
			s.Corrupt++
		}
		if f.f == nil {
			continue
		}
		s.Bytes += int64(len(f.f.Bytes()))
		if f.verdict.State == mmapfile.Dead {
			s.Dead++
		} else {
			s.Alive++
		}
		if f.part != nil {
			s.Entries += f.part.Entries()
		}
	}
	return s
}
