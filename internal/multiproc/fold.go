package multiproc

import (
	"cmp"
	"context"
	"errors"
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
	Took    time.Duration
}

// folder folds a directory. It is one goroutine's.
type folder struct {
	d *Dir
	f *fold.Folder // nil without the right to fold
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
		if d.Ready() {
			_ = w.round(ctx, d.opts.Fold.MinFiles) // which it has logged
		}
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
	return d.folds, errors.Join(d.failure, err)
}

func (w *folder) close() {
	if w.f == nil {
		return
	}
	if err := w.f.Close(); err != nil {
		w.d.log.Debug("closing the directory failed", "err", err)
	}
	w.f = nil
	w.active(false)
}

// active notes whether this process is the one that folds.
func (w *folder) active(yes bool) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.folds.Active = yes
}

// open takes the right to fold the directory that has the path now.
func (w *folder) open() (ok bool, err error) {
	id, there := w.d.sighted()
	if w.f != nil && (!there || !w.f.Holds(id)) {
		w.close()
	}
	if !there || w.f != nil {
		return there, nil
	}
	f, err := fold.Open(w.d.opts.Path, w.d.opts.Fold.Hook)
	if err != nil {
		return false, err
	}
	if !f.Holds(id) {
		return false, f.Close() // the next scan sees what has the path now
	}
	if err := f.Clean(); err != nil {
		return false, errors.Join(err, f.Close())
	}
	w.f = f
	w.active(true)
	// Who had the right before may have folded since the directory was looked at: names
	// of claims are taken now, and names of files are other files'.
	w.d.look(true)
	return true, nil
}

// round folds what there is to fold, where there are at least least files of a kind.
func (w *folder) round(ctx context.Context, least int) (err error) {
	begun := w.d.opts.Now()
	ok, err := w.open()
	if ok && err == nil {
		err = w.linger()
	}
	if ok && err == nil {
		err = w.work(ctx, max(1, least))
	}
	w.d.mu.Lock()
	w.d.folds.Took += w.d.opts.Now().Sub(begun)
	if err != nil && !barred(err) {
		w.d.folds.Failed++
	}
	w.d.mu.Unlock()
	w.report(err)
	return err
}

// work claims all files that are to go, and folds or deletes them.
func (w *folder) work(ctx context.Context, least int) error {
	expired, err := w.claim(w.dead(w.expired))
	if err != nil {
		return err
	}
	kinds := make(map[mmapfile.Name][]*file)
	for _, archive := range fold.Archives() {
		files := w.dead(func(f *file) bool { return f.name.Archive() == archive })
		if len(files) < least {
			continue
		}
		if kinds[archive], err = w.claim(files); err != nil {
			return err
		}
	}
	if len(expired) == 0 && len(kinds) == 0 {
		return nil
	}
	// What stays claimed, should this be the end, is a dead writer's file all the same.
	w.settle(ctx)
	err = w.expire(expired)
	for _, archive := range fold.Archives() {
		if claimed := kinds[archive]; len(claimed) > 0 && err == nil && ctx.Err() == nil {
			err = w.kind(archive, claimed)
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
		w.d.log.Warn("the directory can't be written: dead writers' files are served, and not folded", "err", err,
			"hint", "let promagg write the directory, or set --fold=false")
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
	w.d.mu.Lock()
	names := make([]string, 0, len(w.d.lingering))
	for base := range w.d.lingering {
		names = append(names, base)
	}
	w.d.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return w.delete(names)
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
		// What is past a limit is not to be kept for ever.
		refused := f.part != nil && f.part.Refused()
		if !f.name.IsArchive() && f.f != nil && f.damage == "" && !refused && f.verdict.Proven && !f.died.After(before) && which(f) {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b *file) int { return strings.Compare(a.base, b.base) })
	return found
}

// atOnce is how many files are claimed or given back without letting anybody look at
// the directory.
const atOnce = 64

// claim claims files, and returns those that it has got and of which nobody is seen
// to write them any more.
func (w *folder) claim(files []*file) (claimed []*file, err error) {
	for some := range slices.Chunk(files, atOnce) {
		err = w.f.Locked(func() error {
			w.d.mu.Lock()
			defer w.d.mu.Unlock()
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
				if err != nil {
					return err
				}
				w.renamedLocked(f, name)
				claimed = append(claimed, f)
			}
			return nil
		})
		if err != nil {
			return claimed, err
		}
	}
	return claimed, nil
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

// giveBack gives claimed files their names back.
func (w *folder) giveBack(files []*file) error {
	var failed error
	for some := range slices.Chunk(files, atOnce) {
		err := w.f.Locked(func() error {
			w.d.mu.Lock()
			defer w.d.mu.Unlock()
			for _, f := range some {
				if w.d.files[f.base] != f {
					continue
				}
				name, err := w.f.Return(f.name)
				switch {
				case err == nil:
					w.renamedLocked(f, name)
				case !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist):
					failed = cmp.Or(failed, err)
				}
				// One whose name is taken remains as it is: its values count all the same.
			}
			return nil
		})
		failed = cmp.Or(failed, err)
	}
	return failed
}

// prove reports whether nobody can write a claimed file, and calls with with the file
// if so.
func (w *folder) prove(f *file, with func(*mmapfile.File) error) (dead bool, err error) {
	opened, err := w.d.opts.Budget.Open(w.d.pathOf(f.base))
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

// expired reports whether a dead writer's file counts for nothing, or not any more.
func (w *folder) expired(f *file) bool {
	if f.name.Mode.Live() {
		return true
	}
	kept := w.d.opts.Fold.Retention
	// What is claimed was about to be deleted, and would hide a new process of its id.
	return f.name.Mode == mmapfile.All && (f.name.IsClaim() || kept != Forever && w.d.opts.Now().Sub(f.died) >= kept)
}

// expire deletes claimed files that count for nothing.
func (w *folder) expire(claimed []*file) (err error) {
	var back []*file
	for _, f := range claimed {
		if err != nil {
			break
		}
		dead, proveErr := w.prove(f, func(*mmapfile.File) error { return nil })
		switch {
		case errors.Is(proveErr, fs.ErrNotExist):
		case proveErr != nil:
			err = proveErr
		case !dead:
			back = append(back, f)
		default:
			err = w.expireFile(f)
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

// kind folds claimed files of one type and mode.
func (w *folder) kind(archive mmapfile.Name, claimed []*file) error {
	a := fold.New(archive)
	old, err := w.f.Old(a, w.d.opts.Budget, w.d.opts.Limits.FileSize)
	if err != nil {
		return errors.Join(err, w.giveBack(claimed))
	}
	included, back, err := w.collect(a, claimed)
	// What is given back has its name before the directory is synced for the rest.
	if err = errors.Join(err, w.giveBack(back)); err != nil || len(included) == 0 {
		return err
	}
	return w.commit(a, old, included)
}

// collect adds the claimed files to an archive that nobody writes and that can be
// read to their end, and returns them and the others.
func (w *folder) collect(a *fold.Archive, claimed []*file) (included, back []*file, err error) {
	for _, f := range claimed {
		damaged := false
		dead, err := w.prove(f, func(opened *mmapfile.File) error {
			content, err := opened.Content()
			if err == nil {
				if err = a.Add(content); err != nil {
					damaged = true // which the file's next turn tells
				}
			}
			return err
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Deleted by somebody, and with it its values.
		case damaged || errors.Is(err, mmapfile.ErrFault) || err == nil && !dead:
			back = append(back, f)
		case err != nil:
			return nil, claimed, err
		default:
			included = append(included, f)
		}
	}
	return included, back, nil
}

// commit puts an archive into the place of the old one.
func (w *folder) commit(a *fold.Archive, old fold.Old, files []*file) error {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.base
	}
	like, err := w.f.Lstat(names[0])
	if err != nil {
		return err
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
	draft, err := w.f.Write(a, old, trailer, like)
	if err != nil {
		return err
	}
	if alive, err := w.revived(files); err != nil || alive != nil {
		return errors.Join(err, w.f.Discard(draft), w.giveBack(alive))
	}
	err = w.f.Locked(func() error {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		if err := w.f.Commit(draft); err != nil {
			return err
		}
		w.d.committedLocked(a.Name(), files)
		w.d.folds.Folds++
		w.d.folds.Folded += uint64(len(files))
		w.d.folds.Written += uint64(draft.Size)
		return nil
	})
	if err != nil {
		return errors.Join(err, w.f.Discard(draft))
	}
	w.d.log.Debug("folded", "archive", a.Name().String(), "files", len(files), "entries", a.Entries(), "bytes", draft.Size)
	return w.delete(names)
}

// revived returns the files that somebody writes again, who must have been about to
// open them when they were claimed.
func (w *folder) revived(files []*file) (alive []*file, err error) {
	for _, f := range files {
		dead, err := w.prove(f, func(*mmapfile.File) error { return nil })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && !dead {
			alive = append(alive, f)
		}
	}
	return alive, nil
}

// committedLocked puts an archive that has just been committed into the place of the files it
// includes, so that no snapshot has both or neither.
func (d *Dir) committedLocked(archive mmapfile.Name, files []*file) {
	base := archive.String()
	old := d.files[base]
	fresh := &file{base: base, name: archive, scan: d.stats.Scans}
	d.files[base] = fresh
	// The new ones first: series that have entries all the time remain what they are.
	info, err := d.lstat(base)
	if err == nil {
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
}
