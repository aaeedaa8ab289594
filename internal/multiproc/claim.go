package multiproc

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// atOnce is how many files are claimed or given back without letting anybody look at
// the directory.
const atOnce = 64

// letIn is how long the directory is left to those who wait to list it, who look every
// now and then, before it is locked again.
const letIn = 3 * mmapfile.LockPause

// locked calls do with the lock of the Dir, while nobody who lists the directory sees what
// do changes. It waits for who lists it, and for a snapshot, but with neither of both locks
// held: nobody else has to wait for that. It returns [mmapfile.ErrBusy] where somebody does
// not let go.
func (w *folder) locked(do func() error) error {
	try := func() error {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		return w.f.Locked(do)
	}
	for waited := time.Duration(0); ; waited += mmapfile.LockPause {
		if err := try(); !errors.Is(err, mmapfile.ErrBusy) || waited >= maxBusy {
			return err
		}
		time.Sleep(mmapfile.LockPause)
	}
}

// inChunks is locked for a few of many files at a time.
func (w *folder) inChunks(files []*file, do func([]*file) error) error {
	for len(files) > 0 {
		some := files[:min(atOnce, len(files))]
		if err := w.locked(func() error { return do(some) }); err != nil {
			return err
		}
		if files = files[len(some):]; len(files) > 0 {
			time.Sleep(letIn)
		}
	}
	return nil
}

// claim claims files, of one kind if their kind has an archive. It returns those that it
// has got and of which nobody is seen to write them any more. It goes on after an error
// that is one file's own matter; the first is returned.
func (w *folder) claim(files []*file) (claimed []*file, failed error) {
	err := w.inChunks(files, func(some []*file) error {
		if archive := some[0].name.Archive(); archive.Foldable() {
			if err := w.knownLocked(archive); err != nil {
				return err
			}
		}
		for _, f := range some {
			if w.d.files[f.base] != f || f.f == nil {
				continue // gone since
			}
			if f.name.IsClaim() {
				claimed = append(claimed, f)
				continue
			}
			// It may have been taken up since it was looked at last.
			if w.d.probeLocked(f); !f.verdict.Proven {
				continue
			}
			name, err := w.f.Claim(f.name, w.d.takenLocked)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if mmapfile.ReadOnly(err) {
				return err
			}
			if err != nil {
				failed = cmp.Or(failed, err)
				continue
			}
			w.renamedLocked(f, name)
			claimed = append(claimed, f)
		}
		return nil
	})
	return claimed, cmp.Or(err, failed)
}

// knownLocked returns an error unless it is known which files an archive includes, or that
// there is no archive. A file that is claimed by the name of one that is included would
// be taken for that, and deleted.
func (w *folder) knownLocked(archive mmapfile.Name) error {
	if !w.d.seen.whole {
		return errUnlisted
	}
	f := w.d.files[archive.String()]
	info, err := w.f.Lstat(archive.String())
	switch {
	case f == nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case f == nil || err != nil || f.id != mmapfile.ID(info):
		return fmt.Errorf("%s: %w", archive, fold.ErrMeddled) // which the next look sees
	case f.archive:
		return nil
	}
	why := cmp.Or(f.noArchive, mmapfile.ErrTrailer)
	if errors.Is(why, fs.ErrPermission) {
		why = errors.New(why.Error()) // the file's own matter: not one of the directory
	}
	return fmt.Errorf("%s: %w; move it away to begin a new one", archive, why)
}

// takenLocked reports whether a name may not be used for a claim: a file has it, or
// an archive says of a file of that name that it is included.
func (d *Dir) takenLocked(base string) bool { return d.files[base] != nil || d.included[base] }

func (w *folder) renamedLocked(f *file, name mmapfile.Name) {
	info, err := w.f.Lstat(name.String())
	if err != nil {
		info = nil // whoever removed it has been seen by the next listing
	}
	w.d.renameLocked(f, name, info)
}

// ruledAsNamed reports whether all that the file has is merged as its name says. What a
// rule merges in another mode would not be the same in an archive.
func (f *file) ruledAsNamed() bool { return f.part != nil && !f.part.Overruled() }

// overruledLocked returns the claimed files that rules merge otherwise than an archive
// would, or of which that is not known: they may have been read anew since.
func (d *Dir) overruledLocked(claimed []*file) (overruled []*file) {
	for _, f := range claimed {
		if now := d.files[f.base]; now == nil || !now.ruledAsNamed() {
			overruled = append(overruled, f)
		}
	}
	return overruled
}

// giveBack gives claimed files their names back.
func (w *folder) giveBack(files []*file) error {
	var failed error
	err := w.inChunks(files, func(some []*file) error {
		for _, f := range some {
			now := w.d.files[f.base] // it may have been read anew since
			if now == nil || now.id != f.id {
				continue
			}
			name, err := w.f.Return(f.name)
			switch {
			case err == nil:
				w.renamedLocked(now, name)
			case !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist):
				failed = cmp.Or(failed, err)
			}
			// One whose name is taken remains as it is: its values count all the same.
		}
		return nil
	})
	return cmp.Or(failed, err)
}

// prove reports whether nobody can write a claimed file, and calls with with the file
// if so.
func (w *folder) prove(f *file, with func(*mmapfile.File) error) (dead bool, err error) {
	opened, err := w.d.openUpTo(f)
	if err != nil {
		return false, err
	}
	defer opened.Close()
	if opened.ID() != f.id {
		return false, nil // another file has the name
	}
	v := probe(opened, f.name, w.d.opts.Liveness)
	if !v.Proven {
		return false, nil
	}
	return true, with(opened)
}

// revived returns the files that somebody writes again, who must have been about to
// open them when they were claimed. One that has been deleted since it was read is an
// error: its values must not come back.
func (w *folder) revived(files []*file) (alive []*file, err error) {
	for _, f := range files {
		dead, err := w.prove(f, func(*mmapfile.File) error { return nil })
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", f.base, fold.ErrMeddled)
		}
		if err != nil {
			return nil, err
		}
		if !dead {
			alive = append(alive, f)
		}
	}
	return alive, nil
}
