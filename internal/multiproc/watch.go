package multiproc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/promagg/promagg/internal/mmapfile"
)

// settle is how long new files are waited for after the first of a burst, so
// that a fleet of starting workers costs a few listings, not one per file.
const settle = 20 * time.Millisecond

// Run keeps the directory's index warm until ctx ends: it looks at new files as
// the kernel tells of them, and at everything once per rescan interval, which is
// all there is where the kernel can't tell. A snapshot does not rely on it.
func (d *Dir) Run(ctx context.Context) {
	w := &watch{d: d}
	d.pulse.watching.set(&d.pulse, d.opts.Now())
	defer d.pulse.watching.clear()
	d.run(true)
	defer d.run(false)
	defer w.close()
	proves := d.opts.Liveness != mmapfile.ProbeOff && d.opts.Liveness != mmapfile.ProbeFlock
	if d.opts.Fold.Interval > 0 && !proves {
		d.log.Info("nothing is folded: with this liveness probe nobody is ever proven dead", "liveness", d.opts.Liveness.String())
	}
	if d.opts.Fold.Interval > 0 && proves {
		var folding sync.WaitGroup
		folding.Go(func() { d.fold(ctx) })
		defer folding.Wait()
	}
	tend := time.NewTicker(d.opts.Rescan / rounds)
	defer tend.Stop()
	grow := time.NewTicker(growEvery)
	defer grow.Stop()
	rescan := time.NewTicker(d.opts.Rescan)
	defer rescan.Stop()
	burst := time.NewTimer(0)
	defer burst.Stop()
	full, armed := true, true
	arm := func() {
		if !armed { // events that go on and on must not put it off
			armed = true
			burst.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tend.C:
			d.tend(rounds)
		case <-grow.C:
			d.grow()
		case c, ok := <-w.closings:
			if ok {
				d.released(c)
			} else {
				w.unfreeze()
			}
		case <-rescan.C:
			d.pulse.watching.set(&d.pulse, d.opts.Now())
			d.look(w.w == nil)
			w.follow()
		case <-burst.C:
			armed = false
			d.look(full)
			w.follow()
			if full {
				full = false
				d.tend(1)
			}
			d.Sync(false)
		case e, ok := <-w.events():
			if !ok || w.lost(e) {
				w.close() // the next follow watches what has the name then
			}
			if w.w == nil || w.matters(e) {
				arm()
			}
		case err := <-w.errors():
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				d.overflowed()
			} else {
				w.fail(err)
			}
			full = true
			arm()
		}
	}
}

// rounds is in how many pieces the work of one rescan interval is done, so that
// no snapshot waits long for it.
const rounds = 10

// growEvery is how often files that grow are looked at.
const growEvery = 100 * time.Millisecond

// look looks at the directory itself, not at the files that are known: it lists it
// if there is a sign of news, or in any case.
func (d *Dir) look(anyway bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.lookLocked(anyway)
	}
}

// run notes that Run is there, or no longer: then nobody looks after files that
// snapshots leave alone.
func (d *Dir) run(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = yes
	for _, f := range slices.Clone(d.order) {
		d.placeLocked(f)
	}
}

// closing are files that somebody has let go of; lost means any.
type closing struct {
	names []string
	lost  bool
}

// released looks at files that somebody has let go of. A writer may have come and
// gone, so one that is frozen is read again; and one that is not is perhaps dead.
func (d *Dir) released(c closing) {
	if c.lost {
		d.mu.Lock()
		d.freezing = false // all that are frozen thaw at their next turn
		d.mu.Unlock()
		d.tend(1)
		d.mu.Lock()
		d.freezing = true
		d.mu.Unlock()
		return
	}
	for _, base := range c.names {
		d.mu.Lock()
		d.tallyLocked() // who comes after this one under the same id is another
		if f := d.files[base]; f != nil && !d.closed {
			if f.frozen() {
				d.thawLocked(f)
			}
			d.tendLocked(f)
		}
		d.mu.Unlock()
	}
}

// watch is the kernel's watch on a directory. One goroutine owns it.
type watch struct {
	d *Dir
	w *fsnotify.Watcher  // nil without a watch
	c *mmapfile.Closings // nil without
	// closings passes on what c has, until that ends.
	closings chan closing
	id       mmapfile.FileID // of the directory that is watched
	// failure is what was logged of a watch that can't be had.
	failure string
}

func (w *watch) events() <-chan fsnotify.Event {
	if w.w == nil {
		return nil
	}
	return w.w.Events
}

func (w *watch) errors() <-chan error {
	if w.w == nil {
		return nil
	}
	return w.w.Errors
}

// lost reports whether an event says that the directory itself is gone from
// its name, and the watch with it. Another one may have the same inode.
func (w *watch) lost(e fsnotify.Event) bool {
	return filepath.Clean(e.Name) == filepath.Clean(w.d.opts.Path) && e.Op.Has(fsnotify.Remove|fsnotify.Rename)
}

// matters reports whether an event is about a value file.
func (w *watch) matters(e fsnotify.Event) bool {
	_, ok := mmapfile.ParseName(filepath.Base(e.Name))
	return ok
}

// follow watches the directory that the last sync saw, if it is not the one
// that is watched already.
func (w *watch) follow() {
	id, ok := w.d.sighted()
	if ok && w.w != nil && w.id == id {
		return
	}
	w.close()
	if !ok {
		return
	}
	var err error
	if w.w, err = fsnotify.NewWatcher(); err != nil {
		w.fail(err)
		return
	}
	if err := w.w.Add(w.d.opts.Path); err != nil {
		w.fail(err)
		return
	}
	// What is watched is what has the name now, which need not be what was seen.
	info, err := os.Stat(w.d.opts.Path)
	if err != nil {
		w.fail(err)
		return
	}
	w.id = mmapfile.ID(info)
	w.failure = ""
	w.d.watching(true)
	w.followClosings()
	// A file that came before the watch was there has no event.
	w.d.Sync(false)
}

// followClosings lets files be frozen if the kernel tells of those who let go of
// them.
func (w *watch) followClosings() {
	c, err := mmapfile.WatchClosings(w.d.opts.Path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			w.d.log.Info("files of dead writers are read at every scrape: the kernel can't tell who lets go of them", "err", err)
		}
		return
	}
	w.c, w.closings = c, make(chan closing)
	go func(to chan<- closing) {
		defer close(to)
		for {
			names, lost, err := c.Next()
			if err != nil {
				return
			}
			to <- closing{names, lost}
		}
	}(w.closings)
	w.d.freeze(true)
	w.d.tend(1)
}

// unfreeze ends what followClosings has begun.
func (w *watch) unfreeze() {
	if w.c == nil {
		return
	}
	if err := w.c.Close(); err != nil {
		w.d.log.Debug("closing the watch failed", "err", err)
	}
	for range w.closings { // until its goroutine is gone
	}
	w.c, w.closings = nil, nil
	w.d.freeze(false)
}

// freeze allows files to be frozen, or has those that are thaw at their next turn.
func (d *Dir) freeze(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freezing = yes
}

// fail goes on without a watch until the next rescan.
func (w *watch) fail(err error) {
	if w.failure != err.Error() && !errors.Is(err, os.ErrNotExist) {
		w.failure = err.Error()
		hint := "check the directory's permissions"
		if !errors.Is(err, os.ErrPermission) {
			hint = "raise fs.inotify.max_user_watches or max_user_instances"
		}
		w.d.log.Warn("the kernel can't watch the directory; listing it instead", "err", err, "interval", w.d.opts.Rescan, "hint", hint)
	}
	w.close()
}

func (w *watch) close() {
	w.unfreeze()
	if w.w == nil {
		return
	}
	if err := w.w.Close(); err != nil {
		w.d.log.Debug("closing the watch failed", "err", err)
	}
	w.w = nil
	w.d.watching(false)
}

// sighted returns the directory that was last seen under the path.
func (d *Dir) sighted() (id mmapfile.FileID, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen.id, d.seen.exists
}

func (d *Dir) watching(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Watching = yes
	if yes {
		d.stats.Watches++
	}
}

// overflowed notes that the kernel had more to tell than it could keep.
func (d *Dir) overflowed() {
	d.log.Debug("the kernel dropped events; listing the directory")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Overflows++
}
