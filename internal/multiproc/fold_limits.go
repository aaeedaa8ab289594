package multiproc

import (
	"errors"
	"maps"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// add adds a claimed file to an archive. Of a file of which entries were left out for
// want of room no others are kept: its writer is gone, and they would take the room for
// ever. What was left out because no exposition can hold it is kept for other readers of
// the archive, as long as that is within the limit on series.
func (w *folder) add(a *fold.Archive, f *file, content []byte) error {
	admitted, refused, known := w.admitted(f)
	if !known {
		return errAnew
	}
	if admitted == nil {
		return a.Add(content)
	}
	most := w.d.opts.Limits.Series
	dropped, err := a.AddSome(content, func(e mmapfile.Entry) bool {
		return admitted[e.Value] || !refused && (most == 0 || int64(a.Entries()) < most)
	})
	if dropped > 0 {
		w.d.mu.Lock()
		w.d.folds.Dropped += uint64(dropped)
		w.d.mu.Unlock()
		w.d.log.Warn("entries of a dead writer that are past a limit are not kept", "file", f.base, "entries", dropped)
	}
	return err
}

// admitted returns which entries of a file were taken in, by the offset of the value, or
// nil if all were; and whether others were refused for want of room. known is false of a
// file that has been read anew since it was claimed.
func (w *folder) admitted(f *file) (offsets map[uint32]bool, refused, known bool) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.files[f.base] != f || f.part == nil {
		return nil, false, false
	}
	refused = f.part.Refused()
	if !refused && f.dropped == 0 {
		return nil, false, true
	}
	return maps.Collect(func(yield func(uint32, bool) bool) {
		for off := range f.part.Offsets {
			if !yield(off, true) {
				return
			}
		}
	}), refused, true
}

// errAnew is returned for a file that has been read anew since it was claimed, by other
// rules perhaps: the next round folds it.
var errAnew = errors.New("the file has been read anew since it was claimed")
