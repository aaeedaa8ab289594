package multiproc

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// file is one value file of a directory. It is the Dir's, under its lock.
type file struct {
	base    string
	name    mmapfile.Name
	id      mmapfile.FileID
	f       *mmapfile.File // nil where it could not be opened
	part    *merge.Part    // nil while its values do not count
	verdict mmapfile.Verdict
	damage  string    // what is wrong with it; empty while it is sound
	logged  error     // the kind of damage that was logged last
	dropped reasons   // for which a dropped entry was logged
	changed time.Time // its ctime when it was listed last without being held open
	turn    int       // of the Dir, at which it was tended last
	// Its places in the lists of the Dir, from 1 on, 0 for none.
	inOrder, inActive int
	idle              idleStats // what it adds to that of the Dir
	growing           bool      // among the Dir's growing
	scan              uint64    // the scan that saw it last
	// idleBy is the probe by which idle is counted.
	idleBy mmapfile.Probe
	died   time.Time // when its writer was found dead
	blank  bool      // nothing was written then
	// archive says that it is no writer's but holds what dead ones have left, and
	// included which files' values are among it.
	archive  bool
	included []string
	// noArchive is why it is no archive, although it has the name of one, and anew that the
	// next listing is to open it as if it were new.
	noArchive error
	anew      bool
	// Its entry in the roll of writers, what that was last told of it, and whether
	// there is more to tell.
	writer      *writer
	state       mmapfile.State
	noted, left bool
	size        int64 // of an archive, in bytes
	// Not before readmit it is tried again to take in all of it, see there.
	readmit  time.Time
	patience time.Duration
}

// openLocked opens a file that was found in the directory, or takes note of why
// it can't be. It returns fs.ErrNotExist for one that is gone again, and what
// [mmapfile.Exhausted] is about, which is not the file's fault.
func (d *Dir) openLocked(f *file, info fs.FileInfo) error {
	f.id, f.changed = mmapfile.ID(info), mmapfile.Changed(info)
	if !info.Mode().IsRegular() {
		// Not even opened: that alone may do something to a device.
		d.damagedLocked(f, mmapfile.ErrNotRegular)
		d.placeLocked(f)
		return nil
	}
	err := d.reopenLocked(f)
	f.noArchive = err // if it has the name of one
	switch {
	case err == nil:
		if err := d.recognizeLocked(f, info); err != nil {
			d.closeLocked(f)
			return err
		}
		d.placeLocked(f)
		d.probeLocked(f)
		if f.verdict.State == mmapfile.Dead {
			d.freezeLocked(f)
		}
	case errors.Is(err, fs.ErrNotExist), mmapfile.Exhausted(err):
		return err
	}
	d.placeLocked(f)
	return nil
}

// closeLocked forgets a file and its values.
func (d *Dir) closeLocked(f *file) {
	d.uncountLocked(f)
	if f.f != nil {
		if err := f.f.Close(); err != nil {
			d.log.Warn("closing a value file failed", "file", f.base, "err", err)
		}
		f.f = nil
	}
	d.regroup = d.regroup || f.included != nil
	d.placeLocked(f)
}

func (d *Dir) uncountLocked(f *file) {
	if f.part != nil {
		d.index.Remove(f.part)
		delete(d.byPart, f.part)
		f.part = nil
	}
}

// countLocked takes a file's values in.
func (d *Dir) countLocked(f *file) {
	f.part = d.index.Add(f.name)
	f.part.Ended(f.verdict.State == mmapfile.Dead)
	d.byPart[f.part] = f
	d.placeLocked(f)
}

// counts reports whether the file's values count: all do but those of a live
// gauge whose writer is dead.
func (f *file) counts() bool {
	return f.verdict.State != mmapfile.Dead || !f.name.Mode.Live()
}

// live reports whether some of the file's values count only as long as its writer is
// alive.
func (f *file) live() bool { return f.name.Mode.Live() || f.part != nil && f.part.Live() }

// frozen reports whether the file was proven dead and read a last time: its values
// are on the heap.
func (f *file) frozen() bool { return f.part != nil && f.part.Frozen() }

// freezeLocked reads a dead file a last time, so that it costs nothing any more
// until it is taken up again. One that is damaged remains to be looked at, and so
// does one whose writer may be alive after all. That nobody has written anything yet
// is a sign of that: a file is there an instant before its writer has it open.
func (d *Dir) freezeLocked(f *file) {
	proven := f.verdict.Proven && (d.freezing || f.archive)
	if f.part == nil || f.frozen() || f.damage != "" || !proven || f.f.Used() == 0 || !f.part.Freeze() {
		return
	}
	d.placeLocked(f)
	d.restLocked(f)
}

// restLocked unmaps a file that is not read any more.
func (d *Dir) restLocked(f *file) {
	if err := f.f.Rest(); err != nil {
		d.log.Warn("unmapping a value file failed", "file", f.base, "err", err)
	}
}

// thawLocked reads a frozen file again. If it can't be opened it remains frozen.
func (d *Dir) thawLocked(f *file) {
	opened, err := d.openUpTo(f)
	if err != nil {
		if mmapfile.Exhausted(err) {
			d.starved = err
		}
		return // a file that is gone is the listing's matter
	}
	d.closeLocked(f)
	f.f, f.id = opened, opened.ID()
	d.countLocked(f)
	d.walkLocked(f, false)
}

// probeLocked asks whether the file's writer is alive and takes a live gauge's
// values in or out accordingly.
func (d *Dir) probeLocked(f *file) {
	was := f.verdict
	if f.archive {
		f.verdict = mmapfile.Verdict{State: mmapfile.Dead, Proven: true}
	} else {
		f.verdict = probe(f.f, f.name, d.opts.Liveness)
	}
	if f.frozen() && f.verdict.State != mmapfile.Alive && !f.verdict.Proven {
		f.verdict = was // what can't be asked is as it was; a deleted file is the listing's matter
		return
	}
	if f.verdict.State == mmapfile.Dead && was.State != mmapfile.Dead {
		f.died, f.blank = d.opts.Now(), f.f.Used() == 0 // which is not known of one that rests
	}
	if f.verdict.State != was.State || f.verdict.By != was.By {
		d.noteLocked(f)
		d.log.Debug("writer", "file", f.base, "state", f.verdict.State.String(), "by", f.verdict.By.String())
	}
	if f.verdict.Err != nil {
		d.unprobedLocked(f)
	}
	if f.part != nil && f.verdict.State == mmapfile.Dead {
		f.part.Ended(true)
	}
	switch {
	case !f.counts():
		d.uncountLocked(f)
		d.restLocked(f)
		d.placeLocked(f)
	case f.frozen():
		if f.verdict.State == mmapfile.Alive {
			d.thawLocked(f)
		} else {
			d.placeLocked(f) // it is counted by its probe
		}
	case f.part == nil, f.part.Lost() && f.verdict.State != mmapfile.Dead:
		if was.State == mmapfile.Dead || f.part != nil {
			// A new process has taken up the file: all its entries are new to us.
			if d.reopenLocked(f) != nil {
				return
			}
		}
		d.countLocked(f)
		d.walkLocked(f, false)
	case f.verdict.State != mmapfile.Dead:
		f.part.Ended(false)
	}
}

// unprobedLocked says why it can't be known whether a file's writer is alive: once for
// each thing that there is to do about it.
func (d *Dir) unprobedLocked(f *file) {
	err := f.verdict.Err
	hint := ""
	switch by := f.verdict.By; {
	case mmapfile.Exhausted(err), by != mmapfile.ProbePID && errors.Is(err, fs.ErrNotExist):
		return // we may not open the file again, or it is gone: no matter of the probe
	case errors.Is(err, errNoPID):
		hint = "--liveness=pid needs writers whose ids are their PIDs; set auto, flock or off"
	case by == mmapfile.ProbePID:
		hint = "run promagg in the PID namespace of the writers and with its /proc, as their user or as root"
	case by == mmapfile.ProbeLease && errors.Is(err, fs.ErrPermission):
		hint = "run promagg as the owner of the files or with CAP_LEASE, or set --liveness=flock, pid or off"
	case by == mmapfile.ProbeLease:
		hint = "put the directory on a filesystem that has leases (Linux: tmpfs, ext4, xfs), or set --liveness=flock, pid or off"
	default:
		hint = "put the directory on a filesystem that has locks, or set --liveness=pid or off"
	}
	if slices.Contains(d.unprobed, hint) {
		return
	}
	d.unprobed = append(d.unprobed, hint)
	d.log.Warn("can't tell whether writers are alive: their live gauges are served as long as their files exist",
		"file", f.base, "err", err, "hint", hint)
}

// reopenLocked opens a file from the start again, without its values. What is
// wrong with the file itself is noted.
func (d *Dir) reopenLocked(f *file) error {
	d.closeLocked(f)
	opened, err := d.openUpTo(f)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !mmapfile.Exhausted(err) {
			d.damagedLocked(f, err)
		}
		return err
	}
	f.f, f.id = opened, opened.ID()
	return nil
}

// walkLocked indexes the entries of a counted file that are new. With verify it
// first looks whether the old ones are still what they were.
func (d *Dir) walkLocked(f *file, verify bool) {
	var err error
	if verify {
		err = f.f.Verify()
	}
	if err == nil {
		err = d.indexLocked(f)
	}
	if errors.Is(err, mmapfile.ErrReset) {
		d.damagedLocked(f, err)
		if d.reopenLocked(f) != nil {
			return
		}
		d.countLocked(f)
		err = d.indexLocked(f)
	}
	switch {
	case mmapfile.Exhausted(err):
		d.starved = err
	case err != nil:
		d.damagedLocked(f, err)
	default:
		f.damage = ""
	}
}

func (d *Dir) indexLocked(f *file) error {
	had := f.f.Walked()
	err := f.f.Walk(func(e mmapfile.Entry) error { return d.addLocked(f, e) })
	if d.running && f.f.Walked() > had && !f.growing {
		f.growing = true
		d.growing = append(d.growing, f)
	}
	d.mapLocked(f)
	return err
}

func (d *Dir) addLocked(f *file, e mmapfile.Entry) error {
	dropped, reason, err := f.part.Add(e)
	if dropped {
		d.droppedLocked(f, reason, e.Key)
	}
	return err
}

// grow indexes what files that have lately grown have new. So what a writer adds
// without end is mostly known before a snapshot has to wait for it.
func (d *Dir) grow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	grew := d.growing
	d.growing = nil
	for _, f := range grew {
		f.growing = false
		if d.files[f.base] == f && f.f != nil && f.part != nil && !f.frozen() {
			d.walkLocked(f, false)
		}
	}
}

// mapLocked tells the part where its content is.
func (d *Dir) mapLocked(f *file) {
	if f.f.Mapped() {
		f.part.Map(f.f.Bytes(), f.f.Layout())
	} else {
		f.part.MapBy(f.f.ReadWalked, f.f.Layout())
	}
}

// damages are the kinds of damage that the log tells apart.
var damages = []error{mmapfile.ErrHeader, mmapfile.ErrUsed, mmapfile.ErrEntry, mmapfile.ErrKey, mmapfile.ErrReset, mmapfile.ErrFault,
	mmapfile.ErrNotRegular, mmapfile.ErrSize, fs.ErrPermission}

// errOtherDamage stands for all other kinds.
var errOtherDamage = errors.New("damaged")

// damagedLocked notes that a file can't be read, or not to its end. Of damage
// that goes on, whatever its details, the log tells once.
func (d *Dir) damagedLocked(f *file, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		d.seen.stale = true // it is not damaged but gone, which the next listing tells
		return
	}
	kind := errOtherDamage
	if i := slices.IndexFunc(damages, func(known error) bool { return errors.Is(err, known) }); i >= 0 {
		kind = damages[i]
	}
	if (f.damage == "" || f.logged != kind) && kind != mmapfile.ErrSize {
		d.stats.Damages++
	}
	f.damage = err.Error()
	if f.logged == kind {
		return
	}
	f.logged = kind
	switch {
	case !d.nameLocked(kind.Error()):
	case kind == mmapfile.ErrSize:
		d.log.Warn("value file is larger than the limit; what stands before that is served", "file", f.base, "err", err, "hint", "--limit.file-size sets it")
	default:
		d.log.Warn("value file can't be read, or not to its end; what stands before the damage is served", "file", f.base, "err", err)
	}
}

// faultedLocked takes care of a file that could not be merged to its end.
func (d *Dir) faultedLocked(fault merge.Fault) {
	if mmapfile.Exhausted(fault.Err) {
		d.starved = fault.Err
		return
	}
	if f := d.byPart[fault.Part]; f != nil {
		d.damagedLocked(f, mmapfile.ErrFault)
		d.resizeLocked(f)
	}
}

// resizeLocked maps a file as it is now.
func (d *Dir) resizeLocked(f *file) {
	if err := f.f.Resize(); mmapfile.Exhausted(err) {
		d.starved = err
	} else if err != nil {
		d.damagedLocked(f, err)
	}
	if f.part != nil {
		d.mapLocked(f)
	}
}
