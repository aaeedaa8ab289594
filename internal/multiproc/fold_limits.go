package multiproc

import (
	"errors"
	"maps"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// add adds a claimed file to an archive. Of a file of which entries were left out for
// want of room no others are kept: its writer is gone, and they would take the room for
// ever. What was left out because no exposition can hold it, or by a rule, which may
// change, is kept as long as that is within the limit on series.
func (w *folder) add(a *fold.Archive, f *file, content []byte) error {
	in, ok := w.intake(f)
	if !ok {
		return errAnew
	}
	if in.all {
		return a.Add(content)
	}
	most := w.d.opts.Limits.Series
	dropped, err := a.AddSome(content, func(e mmapfile.Entry) bool {
		if in.admitted[e.Value] {
			return true
		}
		return (!in.refused || in.index.LeavesOut(f.name.Type, e.Key)) && (most == 0 || int64(a.Entries()) < most)
	})
	if dropped > 0 {
		w.d.mu.Lock()
		w.d.folds.Dropped += uint64(dropped)
		w.d.mu.Unlock()
		w.d.log.Warn("entries of a dead writer that are past a limit are not kept", "file", f.base, "entries", dropped)
	}
	return err
}

// intake is what of a file was taken in by an index.
type intake struct {
	all      bool            // all its entries were, but for what rules leave out
	refused  bool            // some were not, for want of room
	admitted map[uint32]bool // those that were, by the offset of the value, unless all were
	index    *merge.Index
}

// intake returns what was taken in of a file, false of one that has been read anew since
// it was claimed.
func (w *folder) intake(f *file) (in intake, ok bool) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.files[f.base] != f || f.part == nil {
		return in, false
	}
	in = intake{refused: f.part.Refused(), index: w.d.index}
	if !in.refused && f.dropped == 0 {
		in.all = true
		return in, true
	}
	in.admitted = maps.Collect(func(yield func(uint32, bool) bool) {
		for off := range f.part.Offsets {
			if !yield(off, true) {
				return
			}
		}
	})
	return in, true
}

// errAnew is returned for a file that has been read anew since it was claimed, by other
// rules perhaps: the next round folds it.
var errAnew = errors.New("the file has been read anew since it was claimed")
