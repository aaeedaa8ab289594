package multiproc

import (
	"cmp"
	"errors"
	"io/fs"

	"github.com/promagg/promagg/internal/mmapfile"
)

// expired reports whether a dead writer's file counts for nothing, or not any more.
func (w *folder) expired(f *file) bool {
	if f.name.Mode.Live() {
		return true
	}
	kept := w.d.opts.Fold.Retention
	// What is claimed was about to be deleted, and would hide a new process of its id.
	return f.name.Mode == mmapfile.All && (f.name.IsClaim() || kept != Forever && w.d.opts.Now().Sub(f.died) >= kept)
}

// expire deletes claimed files that count for nothing. It goes on after an error, of which
// it returns the first.
func (w *folder) expire(claimed []*file) (err error) {
	var back []*file
	for _, f := range claimed {
		dead, proveErr := w.prove(f, func(*mmapfile.File) error { return nil })
		switch {
		case errors.Is(proveErr, fs.ErrNotExist):
		case proveErr != nil:
			err = cmp.Or(err, proveErr)
		case !dead:
			back = append(back, f)
		default:
			err = cmp.Or(err, w.expireFile(f))
		}
	}
	return errors.Join(err, w.giveBack(back))
}

func (w *folder) expireFile(f *file) error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	_, err := w.f.Delete([]string{f.base})
	if err == nil && w.d.files[f.base] == f {
		delete(w.d.files, f.base)
		w.d.closeLocked(f)
		w.d.folds.Expired++
	}
	return err
}
