package multiproc

import (
	"fmt"
	"sync/atomic"
	"time"
)

// pulse tells how far the work on a directory has come, to whoever must not wait for
// it.
type pulse struct {
	opened time.Time // constant

	merging  instant // since when a merge has been going on
	watching instant // when Run was last seen to go on
}

// instant is a time that is read and set without a lock and without an allocation: what
// has gone by since the directory was opened, which no setting of the clock changes.
// 0 is none.
type instant struct{ ns atomic.Int64 }

func (i *instant) set(p *pulse, now time.Time) { i.ns.Store(max(1, int64(now.Sub(p.opened)))) }
func (i *instant) clear()                      { i.ns.Store(0) }

// since returns how long ago it was, 0 if there is none.
func (i *instant) since(p *pulse, now time.Time) time.Duration {
	ns := i.ns.Load()
	if ns == 0 {
		return 0
	}
	return now.Sub(p.opened) - time.Duration(ns)
}

// Stuck returns an error if something takes longer than limit that should not: the
// look at the directory, a merge, or a turn of [Dir.Run]. It does not wait for any of
// them.
func (d *Dir) Stuck(limit time.Duration) error {
	now := d.opts.Now()
	look, what := d.Behind(), "the directory was last looked at %s ago"
	if !d.Ready() {
		look, what = now.Sub(d.pulse.opened), "the first look at the directory has taken %s so far"
	}
	for _, p := range []struct {
		took time.Duration
		what string
	}{
		{d.pulse.merging.since(&d.pulse, now), "a merge has taken %s so far"},
		{look, what},
		{d.pulse.watching.since(&d.pulse, now), "the watch on the directory has stood still for %s"},
	} {
		if p.took > limit {
			return fmt.Errorf(p.what+": see whether the filesystem of %s hangs", p.took.Round(time.Second), d.opts.Path)
		}
	}
	return nil
}
