package main

import (
	"fmt"
	"path/filepath"

	"github.com/promagg/promagg/internal/mmapfile"
)

// progress is the memory in which a worker notes what it does, and in which it is
// told what to do. It is in a file outside the directory, and so outlives the worker.
// Each value has one process that stores it, as noted.
type progress struct {
	// ready is set by the worker once it has noted the bases and set its live gauges,
	// before its first update.
	ready *mmapfile.Value
	// pause is set by the parent; idle is set by each goroutine that heeds it.
	pause *mmapfile.Value
	idle  [goroutines]*mmapfile.Value
	// turns goes up by one when a goroutine begins an update and by one when it is done.
	turns [goroutines]*mmapfile.Value
	// newest is the greatest time that the worker has set its gauges to.
	newest *mmapfile.Value
	// base is what an entry was when the worker took up the file.
	base [len(entries)]*mmapfile.Value
}

// openProgress opens the memory of a slot, in which workers follow each other.
func openProgress(dir string, slot int) (*progress, error) {
	path := filepath.Join(dir, fmt.Sprintf("counter_%d.db", slot))
	// The parent appends the entries, the worker finds them.
	at := make(map[string]uint32)
	w, err := mmapfile.Continue(path, mmapfile.ValueOnly, 0, func(key []byte, value uint32) { at[string(key)] = value })
	if err != nil {
		return nil, err
	}
	p := new(progress)
	values := []**mmapfile.Value{&p.ready, &p.pause, &p.newest}
	for g := range goroutines {
		values = append(values, &p.idle[g], &p.turns[g])
	}
	for i := range p.base {
		values = append(values, &p.base[i])
	}
	for i, v := range values {
		key := fmt.Sprintf("[%d]", i)
		off, there := at[key]
		if !there {
			if off, err = w.Append([]byte(key)); err != nil {
				return nil, err
			}
		}
		*v = w.Value(off)
	}
	return p, nil
}

// reset makes it ready for the next worker.
func (p *progress) reset() {
	p.ready.Set(0)
	p.pause.Set(0)
	p.newest.Set(0)
	for g := range goroutines {
		p.idle[g].Set(0)
		p.turns[g].Set(0)
	}
	for _, b := range p.base {
		b.Set(0)
	}
}

// bounds returns what the updates add up to that are done, and those that have begun.
func (p *progress) bounds() (done, begun totals) {
	for g := range goroutines {
		turns := int(p.turns[g].Load())
		for i, e := range entries {
			done[i] += e.after(g, turns/2)
			begun[i] += e.after(g, (turns+1)/2)
		}
	}
	return done, begun
}

// paused reports whether all goroutines heed the pause.
func (p *progress) paused() bool {
	for _, idle := range p.idle {
		if idle.Load() == 0 {
			return false
		}
	}
	return p.ready.Load() != 0
}
