package multiproc

import (
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// Limits bound what a directory can cost, whatever somebody writes into it. 0 is no
// limit. What is past one is left out, counted, and named in the log; what was there
// before is served on.
type Limits struct {
	// Files is how many value files are opened. Archives always are. One that is left
	// out is taken in as soon as another one goes.
	Files int64
	// FileSize is how many bytes of a file are looked at, but for archives'.
	FileSize int64
	merge.Limits
}

// DefaultLimits returns limits that are far from what fleets of twenty thousand
// workers need, and as far from what a machine that runs one lacks.
func DefaultLimits() Limits {
	return Limits{
		Files:    250_000,
		FileSize: 512 << 20,
		Limits: merge.Limits{
			KeyLength:   mmapfile.MaxKey,
			Labels:      128,
			Buckets:     1000,
			Entries:     50_000_000,
			Series:      2_000_000,
			SeriesBytes: 512 << 20,
		},
	}
}

// openUpTo opens a file as far as it may be looked at.
func (d *Dir) openUpTo(f *file) (*mmapfile.File, error) {
	path := d.pathOf(f.base)
	if most := d.opts.Limits.FileSize; most > 0 && !f.name.IsArchive() {
		return d.opts.Budget.OpenUpTo(path, most)
	}
	return d.opts.Budget.Open(path)
}

// full reports whether there is no room for one more file.
func (d *Dir) full() bool {
	limit, n := d.opts.Limits.Files, int64(len(d.files))
	if limit == 0 || n < limit {
		return false
	}
	for _, archive := range fold.Archives() {
		if d.files[archive.String()] != nil {
			n--
		}
	}
	return n >= limit
}

// leaveOutLocked reports whether a file that is new is to be left out, and notes it.
func (d *Dir) leaveOutLocked(name mmapfile.Name, ino uint64) bool {
	full := d.full()
	if name.IsArchive() || !full && (!d.returning || d.vanished[ino]) {
		return false
	}
	d.leftOut++
	base := name.String()
	if !full || d.outs[base] || !d.nameLocked("files") {
		return true
	}
	if d.outs == nil {
		d.outs = make(map[string]bool)
	}
	if len(d.outs) < maxNamed { // of more it is not known whether they were named
		d.outs[base] = true
	}
	d.log.Warn("value file is left out: there are too many", "file", base, "limit", d.opts.Limits.Files,
		"hint", "find out who makes them, or raise --limit.files")
	return true
}

// scanAllLocked is scanLocked, and again where files were left out although there is
// room: that of others which have gone. Those that have only another name now, as when
// another process folds the directory, come first, for their values are served already.
func (d *Dir) scanAllLocked() bool {
	d.leftOut, d.vanished = 0, nil
	ok := d.scanLocked()
	if ok && d.leftOut > 0 && !d.full() {
		d.leftOut, d.returning = 0, true
		ok = d.scanLocked()
		if d.returning = false; ok && !d.full() {
			d.leftOut = 0
			ok = d.scanLocked()
		}
	}
	if d.vanished = nil; ok && d.leftOut == 0 {
		clear(d.outs)
	}
	return ok
}

// vanishedLocked notes that a file is no longer there under its name.
func (d *Dir) vanishedLocked(f *file) {
	if d.leftOut == 0 || d.returning {
		return
	}
	if d.vanished == nil {
		d.vanished = make(map[uint64]bool)
	}
	d.vanished[f.id.Inode()] = true
}

// reasons is a set of reasons for which entries were dropped.
type reasons uint16

// droppedLocked names the first entry of a file that is left out for a reason.
func (d *Dir) droppedLocked(f *file, r merge.Reason, key []byte) {
	if f.dropped&(1<<r) != 0 {
		return
	}
	f.dropped |= 1 << r
	if !d.nameLocked(r.String()) {
		return
	}
	text := string(key[:min(len(key), 500)])
	if r.Limit() {
		d.log.Warn("entries past a limit are left out", "file", f.base, "reason", r.String(), "key", text, "hint", "--"+r.String()+" sets it")
		return
	}
	d.log.Warn("entries that no exposition can hold are left out", "file", f.base, "reason", r.String(), "key", text)
}

// nameLocked reports whether one more file may be named in the log for what is of
// that kind, so that nobody can fill a disk with it: so many are in an hour.
func (d *Dir) nameLocked(kind string) bool {
	if now := d.opts.Now(); d.naming == nil || now.Sub(d.namingSince) >= time.Hour || now.Before(d.namingSince) {
		d.naming, d.namingSince = make(map[string]int), now
	}
	d.naming[kind]++
	if d.naming[kind] == maxNamed+1 {
		d.log.Warn("more files of the same kind are counted, but not named for an hour", "kind", kind)
	}
	return d.naming[kind] <= maxNamed
}

// readmitLocked takes a file in anew of which entries were left out for want of room,
// once there is room for all of it. What it has is not given up before that, so no
// value of it is missing in between.
func (d *Dir) readmitLocked(f *file) {
	now := d.opts.Now()
	if f.part == nil || !f.part.Refused() || !f.part.Roomy() || now.Before(f.readmit) {
		return
	}
	// A file that is too large for all the room there is costs a walk in vain.
	f.patience = min(max(time.Minute, 2*f.patience), time.Hour)
	f.readmit = now.Add(f.patience)
	opened, err := d.openUpTo(f)
	if err != nil {
		return // a file that is gone is the listing's matter
	}
	part := d.index.AddHeir(f.part)
	part.Ended(f.verdict.State == mmapfile.Dead)
	err = opened.Walk(func(e mmapfile.Entry) error {
		_, _, err := part.Add(e)
		return err
	})
	if err != nil || part.Refused() || opened.ID() != f.f.ID() {
		d.index.Remove(part)
		_ = opened.Close() // it was only read
		return
	}
	d.closeLocked(f)
	f.f, f.part, f.patience = opened, part, 0
	d.byPart[part] = f
	d.mapLocked(f)
	d.placeLocked(f)
	if f.verdict.State == mmapfile.Dead {
		d.freezeLocked(f)
	}
	d.log.Info("there is room by now for all of a file", "file", f.base, "entries", part.Entries())
}
