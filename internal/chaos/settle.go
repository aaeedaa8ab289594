package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// left are the files of a worker that is about to end, opened while it lives: whatever
// is done with their names, what it has written can be read when it is gone.
type left map[kind]*os.File

// open opens the files of a worker, through the descriptors that it has: they may have
// other names by now. One that is not ready has made no update.
func (f *fleet) open(w *worker) (left, error) {
	l := make(left)
	if w.slot.progress.ready.Load() == 0 {
		return l, nil
	}
	fds := fmt.Sprintf("/proc/%d/fd", w.cmd.Process.Pid)
	names, err := os.ReadDir(fds)
	if err != nil {
		return nil, fmt.Errorf("worker %d (id %s) has gone by itself: %w", w.serial, w.id, err)
	}
	for _, name := range names {
		path := filepath.Join(fds, name.Name())
		target, err := os.Readlink(path)
		if err != nil || filepath.Dir(target) != f.dir {
			continue // not one of its files, or closed since
		}
		n, ok := mmapfile.ParseName(strings.TrimSuffix(filepath.Base(target), " (deleted)"))
		if !ok {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			l.close()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		l[kind{n.Type, n.Mode}] = file
	}
	return l, nil
}

func (l left) close() {
	for _, f := range l {
		f.Close()
	}
}

// sum is what a worker has done in its life.
type sum struct {
	done, begun totals // equal where it is known
	ready       bool
	doubtful    bool
}

// settle finds out what a worker that is gone has done.
func (l left) settle(w *worker) (s sum, err error) {
	p := w.slot.progress
	s.ready = p.ready.Load() != 0
	s.done, s.begun = p.bounds()
	if s.done == s.begun {
		return s, nil
	}
	exact, ok, err := l.read(p)
	if err != nil {
		return s, fmt.Errorf("worker %d (id %s): %w", w.serial, w.id, err)
	}
	if !ok {
		s.doubtful = true // it got ready while it was killed
		return s, nil
	}
	for i := range exact {
		if exact[i] < s.done[i] || exact[i] > s.begun[i] {
			return s, fmt.Errorf("worker %d (id %s): %s in its own file grew by %v, want %v to %v", w.serial, w.id, entries[i].key, exact[i], s.done[i], s.begun[i])
		}
	}
	s.done, s.begun = exact, exact
	return s, nil
}

// read returns how much the entries of a worker have grown.
func (l left) read(p *progress) (grown totals, ok bool, err error) {
	values := make(map[string]float64)
	for _, f := range l {
		content, err := io.ReadAll(f)
		if err != nil {
			return grown, false, err
		}
		err = new(mmapfile.Walker).Walk(content, func(e mmapfile.Entry) error {
			values[string(e.Key)] = math.Float64frombits(binary.LittleEndian.Uint64(content[e.Value:]))
			return nil
		})
		if err != nil {
			return grown, false, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	for i, e := range entries {
		v, there := values[e.key]
		if !there {
			return grown, false, nil
		}
		grown[i] = v - p.base[i].Load()
	}
	return grown, true, nil
}
