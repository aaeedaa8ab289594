package main

import (
	"fmt"
	"time"
)

// A worker that takes up a dead one's file need not be seen at once: docs/merging.md
// promises 5 s, and that what it has done is there when promagg has read that it let
// go of the file. That is what these allow, with room for a machine that is busy. All
// that others do is to be seen at once.
const (
	noticedIn = 10 * time.Second
	readIn    = 3 * time.Second
)

// lately is what a worker had done that has gone.
type lately struct {
	done   totals
	newest float64
	gone   time.Time // zero if it did not share its id
}

// promotedLocked takes in what is to be seen by now of workers that have gone.
func (f *fleet) promotedLocked() {
	kept := f.late[:0]
	for _, l := range f.late {
		if time.Since(l.gone) < readIn {
			kept = append(kept, l)
			continue
		}
		f.done.add(&l.done)
		f.newest = max(f.newest, l.newest)
	}
	f.late = kept
}

// view is what is known of the workers while a scrape is made.
type view struct {
	done  totals // when it began
	begun totals // when it ended
	// newest is the greatest time that a gauge had been set to when it began.
	newest float64
	// must are the ids of those that are seen to live all the while, with their numbers; may are
	// the ids of those that live at some time of it, most in number.
	must map[string]int
	may  map[string]bool
	most int
}

// begin notes what there is before a scrape.
func (f *fleet) begin() *view {
	v := &view{must: make(map[string]int), may: make(map[string]bool)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.promotedLocked()
	v.done, v.newest = f.done, f.newest
	for w := range f.running {
		v.may[w.id] = true
		v.most++
		if w.again && time.Since(w.born) < noticedIn {
			continue
		}
		p := w.slot.progress
		done, _ := p.bounds()
		v.done.add(&done)
		v.newest = max(v.newest, p.newest.Load())
		if p.ready.Load() != 0 && !w.dying {
			v.must[w.id] = w.serial
		}
	}
	f.views[v] = true
	return v
}

// endView notes what there is behind it.
func (f *fleet) endView(v *view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.views, v)
	v.begun = f.begun
	for w := range f.running {
		_, begun := w.slot.progress.bounds()
		v.begun.add(&begun)
	}
}

// inexact returns which totals are not what all workers have done, when nobody makes
// updates.
func (f *fleet) inexact(got map[string]float64) (wrong []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done, begun := f.done, f.begun
	for _, l := range f.late {
		done.add(&l.done)
	}
	for w := range f.running {
		d, b := w.slot.progress.bounds()
		done.add(&d)
		begun.add(&b)
	}
	for _, s := range samples {
		if x, low, high := got[s.line], s.value(&done), s.value(&begun); !(x >= low && x <= high) {
			wrong = append(wrong, fmt.Sprintf("%s is %v, want exactly %v (or to %v)", s.line, x, low, high))
		}
	}
	return wrong
}
