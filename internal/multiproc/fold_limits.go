package multiproc

import (
	"maps"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// add adds a claimed file to an archive. Of a file of which entries were left out for
// want of room no others are kept: its writer is gone, and they would take the room for
// ever. What was left out because no exposition can hold it is kept for other readers of
// the archive, as long as that is within the limit on series.
func (w *folder) add(a *fold.Archive, f *file, content []byte) error {
	admitted, refused := w.admitted(f)
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
// nil if all were; and whether others were refused for want of room.
func (w *folder) admitted(f *file) (offsets map[uint32]bool, refused bool) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	refused = f.part != nil && f.part.Refused()
	if !refused && f.dropped == 0 || f.part == nil {
		return nil, false
	}
	return maps.Collect(func(yield func(uint32, bool) bool) {
		for off := range f.part.Offsets {
			if !yield(off, true) {
				return
			}
		}
	}), refused
}
