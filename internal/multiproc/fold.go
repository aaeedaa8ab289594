package multiproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// Folding says what becomes of dead writers' files.
type Folding struct {
	// Interval is how often files are folded, at most. 0 means never.
	Interval time.Duration
	// MinFiles is how many dead files of one type and mode are worth writing their
	// archive anew; at least 1.
	MinFiles int
	// Retention is how long the gauges of mode "all" are kept of a writer that was
	// found dead: Forever, or 0 for not at all.
	Retention time.Duration
	// Settle is how long a writer must have been found dead before its files are
	// claimed, and how long claimed files are left alone before it is asked whether
	// anybody writes them after all: a process that is about to open a file is not seen
	// until it has. 0 is for tests.
	Settle time.Duration
	// Hook is called before each step that changes the directory, which is not made
	// if it returns an error. It is for tests.
	Hook func(fold.Step) error
}

// Forever is a retention without end.
const Forever = time.Duration(1<<63 - 1)

// FoldStats counts what folding has done since the start.
type FoldStats struct {
	Active  bool   // this process has the right to fold the directory
	Folds   uint64 // archives that were written
	Failed  uint64 // rounds that did not come to their end
	Folded  uint64 // files that were included in an archive
	Expired uint64 // files of live gauges, and of "all" gauges past their retention, that were deleted
	Written uint64 // bytes of archives that were written
	Dropped uint64 // entries past a limit that were not kept
	Took    time.Duration
}

// folder folds a directory. It is one goroutine's.
type folder struct {
	d *Dir
	f *fold.Folder // nil without the right to fold
	// swept says that what an earlier fold had left is deleted.
	swept bool
	// yielded says that it has given up the right, of which it could make no use.
	yielded bool
	// failure is what was logged last of a fold that can't be had.
	failure string
}

// fold folds files as they die until ctx ends.
func (d *Dir) fold(ctx context.Context) {
	w := &folder{d: d}
	defer w.close()
	tick := time.NewTicker(d.opts.Fold.Interval)
	defer tick.Stop()
	for {
		w.report(w.round(ctx, d.opts.Fold.MinFiles))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// FoldOnce looks at the directory and folds all dead writers' files that are there.
// The error wraps [mmapfile.ErrTaken] where another process folds the directory.
func (d *Dir) FoldOnce(ctx context.Context) (FoldStats, error) {
	d.Sync(true)
	w := &folder{d: d}
	defer w.close()
	w.settle(ctx)
	err := w.round(ctx, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.folds, cmp.Or(d.failure, err) // a failed look makes the rest fail
}

func (w *folder) close() {
	if w.f == nil {
		return
	}
	f := w.f
	w.f = nil
	w.active()
	if err := f.Close(); err != nil {
		w.d.log.Debug("closing the directory failed", "err", err)
	}
}

// active notes whether this process is the one that folds.
func (w *folder) active() {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.folds.Active, w.d.right = w.f != nil, w.f
}

// open takes the right to fold the directory that has the path now.
func (w *folder) open() (ok bool, err error) {
	w.d.doubtArchives()
	w.d.look(false)
	id, there := w.d.sighted()
	if w.f != nil && (!there || !w.f.Holds(id)) {
		w.close()
	}
	if !there || w.f != nil {
		return there, w.sweep()
	}
	if w.yielded && w.d.provesNothing() {
		return false, nil
	}
	f, err := fold.Open(w.d.opts.Path, w.d.opts.Fold.Hook)
	if err != nil {
		return false, err
	}
	if !f.Holds(id) { // another directory has the path now, or no file the lock's name
		return false, errors.Join(fold.ErrUnlocked, f.Close())
	}
	w.f, w.swept, w.yielded = f, false, false
	// Whoever had the right before may have committed an archive since the directory was
	// listed. What that has must not be added to it again, nor a name be used for a claim
	// that it says is deleted. So it has to be listed to its end, and before active says
	// that nobody else changes names: who has just lost the right may be about to.
	if err := w.d.relist(); err != nil {
		w.close()
		return false, err
	}
	w.active()
	return true, w.sweep()
}

// errUnlisted is returned where the directory could not be listed to its end.
var errUnlisted = errors.New("the directory could not be listed to its end")

// relist lists the directory in any case, and returns an error unless that has come to its
// end. Another look in between would tell of itself.
func (d *Dir) relist() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	there := !d.closed && d.lookLocked(true)
	switch {
	case d.failure != nil:
		return d.failure
	case !d.seen.busy.IsZero():
		return fmt.Errorf("%s: %w", d.opts.Path, mmapfile.ErrBusy)
	case !there, d.seen.stale, !d.seen.whole:
		return errUnlisted
	}
	return nil
}

// sweep deletes what a fold has left that was cut short, once.
func (w *folder) sweep() (err error) {
	if w.f != nil && !w.swept {
		err = w.f.DiscardDrafts()
		w.swept = err == nil
	}
	return err
}

// round folds what there is to fold, where there are at least least files of a kind.
func (w *folder) round(ctx context.Context, least int) (err error) {
	begun := w.d.opts.Now()
	ok, err := w.open()
	if ok {
		// What fails with some files need not fail with others.
		err = cmp.Or(err, w.linger(), w.work(ctx, max(1, least)))
		if w.d.provesNothing() {
			w.close()
			w.yielded = true
		}
	}
	w.d.mu.Lock()
	w.d.folds.Took += max(0, w.d.opts.Now().Sub(begun))
	if err != nil && !barred(err) {
		w.d.folds.Failed++
	}
	w.d.mu.Unlock()
	return err
}

// provesNothing reports whether there are files and of none of them it can be proven that
// it has no writer: another process may be able to, as one with another user.
func (d *Dir) provesNothing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	some := false
	for _, f := range d.order {
		switch {
		case f.archive, f.f == nil && f.logged != fs.ErrPermission:
			// Nobody's, or nobody could fold it.
		case f.f != nil && f.verdict.Err == nil && f.verdict.By != mmapfile.ProbeFlock:
			return false
		default:
			some = true
		}
	}
	return some
}

// work claims all files that are to go, and folds or deletes them. It goes on after an
// error, of which it returns the first.
func (w *folder) work(ctx context.Context, least int) error {
	expired, err := w.claim(w.dead(w.expired))
	some := len(expired) > 0
	kinds := make(map[mmapfile.Name][]*file)
	for _, archive := range fold.Archives() {
		if errors.Is(err, mmapfile.ErrBusy) {
			return err // none of the others would get it, either; what is claimed is a dead writer's file all the same
		}
		files := w.dead(func(f *file) bool {
			return f.name.Archive() == archive && f.ruledAsNamed()
		})
		if len(files) < least {
			continue
		}
		claimed, failed := w.claim(files)
		kinds[archive], err = claimed, cmp.Or(err, failed)
		some = some || len(claimed) > 0
	}
	if !some {
		return err
	}
	if w.settle(ctx); ctx.Err() != nil {
		return err // what stays claimed is a dead writer's file all the same
	}
	err = cmp.Or(err, w.expire(expired))
	for _, archive := range fold.Archives() {
		if claimed := kinds[archive]; len(claimed) > 0 && ctx.Err() == nil {
			err = cmp.Or(err, w.kind(archive, claimed))
		}
	}
	return err
}

// settle waits until who was about to open a file has done so.
func (w *folder) settle(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(w.d.opts.Fold.Settle):
	}
}

// report logs why folding does not go on, once for each reason.
func (w *folder) report(err error) {
	if err == nil {
		w.failure = ""
		return
	}
	if w.failure == err.Error() {
		return
	}
	w.failure = err.Error()
	switch {
	case errors.Is(err, mmapfile.ErrTaken):
		w.d.log.Info("another promagg folds this directory; this one only serves it")
	case barred(err):
		w.d.log.Warn("dead writers' files that can't be renamed are served, and not folded", "err", err,
			"hint", "let promagg write the directory, as the owner of the files if it has the sticky bit, or set --fold=false")
	default:
		w.d.log.Error("folding failed; files are served as they are, and it is tried again", "err", err, "interval", w.d.opts.Fold.Interval)
	}
}

// barred reports whether an error says that this process is not to fold the directory.
func barred(err error) bool {
	return errors.Is(err, mmapfile.ErrTaken) || errors.Is(err, fs.ErrPermission) || mmapfile.ReadOnly(err)
}

// linger deletes files that an archive includes already: the last fold was cut short.
func (w *folder) linger() error {
	names, err := w.lingering()
	if len(names) == 0 {
		return err
	}
	return cmp.Or(err, w.delete(names))
}

// lingering returns the names of files that archives include, as far as these are still
// those that say so.
func (w *folder) lingering() (names []string, err error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	known := make(map[mmapfile.Name]error)
	for base := range w.d.lingering {
		name, _ := mmapfile.ParseName(base)
		archive := name.Archive()
		failed, ok := known[archive]
		if !ok {
			failed = w.knownLocked(archive)
			known[archive] = failed
		}
		if err = cmp.Or(err, failed); failed == nil {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return names, err
}

// delete deletes files that an archive includes, once that is sure to last.
func (w *folder) delete(names []string) error {
	if err := w.f.Sync(); err != nil {
		return err
	}
	gone, err := w.f.Delete(names)
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	for _, base := range names {
		if err == nil {
			delete(w.d.lingering, base)
		}
	}
	w.d.log.Debug("folded files are deleted", "files", gone)
	return err
}

// dead returns the files of dead writers for which which reports true, by name.
func (w *folder) dead(which func(*file) bool) []*file {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	before := w.d.opts.Now().Add(-w.d.opts.Fold.Settle)
	var found []*file
	for _, f := range w.d.order {
		// What only has the name of an archive is somebody's to move away, and may include
		// files that nobody knows of any more.
		if !f.name.IsArchive() && f.f != nil && f.damage == "" && f.verdict.Proven && !f.died.After(before) && which(f) {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b *file) int { return strings.Compare(a.base, b.base) })
	return found[:min(len(found), inRound)]
}

// inRound is how many files of a kind are folded in a round; the rest is the next one's.
// So a round ends in good time, however many there are, and a promagg that is killed
// again and again gets on with it; and a trailer has room for so many, and for those that
// an earlier one has and that could not be deleted.
const inRound = 4096

// kind folds claimed files of one type and mode.
func (w *folder) kind(archive mmapfile.Name, claimed []*file) error {
	a := fold.New(archive)
	old, err := w.f.Old(a, w.d.opts.Budget, w.d.opts.Limits.FileSize)
	if err != nil {
		return err // what stays claimed is a dead writer's file all the same
	}
	if w.d.idOf(archive) != old.ID {
		return fmt.Errorf("%s: %w", archive, fold.ErrMeddled) // which the next look sees
	}
	included, back, mode, unread := w.collect(a, claimed)
	// What is given back has its name before the directory is synced for the rest.
	if err := w.giveBack(back); err != nil || len(included) == 0 {
		return cmp.Or(err, unread)
	}
	if old.ID != (mmapfile.FileID{}) {
		mode &= old.Mode
	}
	return cmp.Or(w.commit(a, old, included, mode), unread)
}

// archiveMode is the most that anybody may do with an archive: nobody but its owner
// writes it.
const archiveMode = 0o644

// collect adds the claimed files to an archive that nobody writes and that can be
// read to their end, and returns them and the others, and the permissions that all of
// the included have in common. The error is why some that are not damaged could not be
// read.
func (w *folder) collect(a *fold.Archive, claimed []*file) (included, back []*file, mode fs.FileMode, err error) {
	mode = archiveMode
	for _, f := range claimed {
		damaged := false
		allowed := mode
		dead, failed := w.prove(f, func(opened *mmapfile.File) error {
			allowed &= opened.Mode()
			content, err := opened.Content()
			if err == nil {
				if err = w.add(a, f, content); err != nil {
					damaged = true // which the file's next turn tells, or it is read anew
				}
			}
			return err
		})
		switch {
		case errors.Is(failed, fs.ErrNotExist):
			// Deleted by somebody, and with it its values.
		case damaged || errors.Is(failed, mmapfile.ErrFault) || failed == nil && !dead:
			back = append(back, f)
		case mmapfile.Exhausted(failed):
			return nil, claimed, 0, failed
		case failed != nil:
			back = append(back, f)
			// The file's own matter, whatever it is: not one of the directory.
			err = cmp.Or(err, errors.New(failed.Error()))
		default:
			included, mode = append(included, f), allowed
		}
	}
	return included, back, mode, err
}

// commit puts an archive into the place of the old one.
func (w *folder) commit(a *fold.Archive, old fold.Old, files []*file, mode fs.FileMode) error {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.base
	}
	// Files that the old archive includes and that are still there must not count
	// from now on, either.
	trailer := slices.Clone(names)
	for _, base := range old.Included {
		if _, err := w.f.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
			trailer = append(trailer, base)
		}
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	draft, err := w.f.Write(a, old, trailer, mode)
	if err != nil {
		return err
	}
	ready := w.d.ready(a.Name(), draft)
	defer w.d.unready(ready)
	if alive, err := w.revived(files); err != nil || alive != nil {
		return errors.Join(err, w.f.Discard(draft), w.giveBack(alive))
	}
	seen := false
	var overruled []*file
	err = w.locked(func() error {
		for _, base := range names { // promagg clean may have come between
			if _, err := w.f.Lstat(base); errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", base, fold.ErrMeddled)
			}
		}
		if overruled = w.d.overruledLocked(files); overruled != nil {
			return nil // rules have come since they were claimed
		}
		if err := w.f.Commit(draft); err != nil {
			return err
		}
		seen = w.d.committedLocked(a.Name(), files, ready)
		w.d.folds.Folds++
		w.d.folds.Folded += uint64(len(files))
		w.d.folds.Written += uint64(draft.Size)
		return nil
	})
	if err != nil || overruled != nil {
		return errors.Join(err, w.f.Discard(draft), w.giveBack(overruled))
	}
	w.d.log.Debug("folded", "archive", a.Name().String(), "files", len(files), "entries", a.Entries(), "bytes", draft.Size)
	if !seen {
		return nil // the next look sees what may be deleted
	}
	return w.delete(names)
}
