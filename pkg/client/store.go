package client

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/promagg/promagg/internal/mmapfile"
)

// kind is what decides which file a value belongs to.
type kind struct {
	typ  mmapfile.Type
	mode mmapfile.Mode
}

// store gives values their place: in this process's value files in a directory,
// or on the heap where there is none or it can't take them. It is safe for
// concurrent use.
type store struct {
	dir    string // empty: everything lives on the heap
	layout mmapfile.Layout
	log    *slog.Logger

	mu sync.Mutex // protects all below; held across the system calls that make and grow files
	// id names this process. It may get a suffix as long as it has no file.
	id    string
	files map[kind]*valueFile
	heap  map[kind]map[string]heapValue // without a directory: what would be in the files, by key
	first error                         // the first failure; later ones are counted only
	// unplaced counts the values that should be in a file and are not. It is in
	// the file of counters, so that it is served; nil before that file is there.
	unplaced *mmapfile.Value
	stopped  bool
}

// valueFile is one of the process's files.
type valueFile struct {
	path   string
	w      *mmapfile.Writer
	known  map[string]uint32 // where each key's value is
	failed bool              // it can't be had or grown; what is new stays on the heap
}

// maxProcesses bounds how many processes may go by one id.
const maxProcesses = 10000

// place returns where the value of a key lives, and its timestamp's place in a
// layout that has one. A value found in the file is one that a dead process of
// the same id left, or that was deleted before.
func (s *store) place(k kind, key []byte) (value, stamp *mmapfile.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return new(mmapfile.Value), nil
	}
	if s.dir == "" {
		return s.heapLocked(k, string(key))
	}
	s.beginLocked()
	off, ok := s.fileLocked(k).offset(s, key)
	if !ok {
		if s.unplaced != nil {
			s.unplaced.Add(1)
		}
		return new(mmapfile.Value), nil
	}
	value = s.files[k].w.Value(off)
	if s.layout == mmapfile.ValueTimestamp {
		stamp = s.files[k].w.Value(off + 8)
	}
	return value, stamp
}

// beginLocked makes the file of counters before all others: its name decides by
// which id the process goes, and it has the count of what finds no place.
func (s *store) beginLocked() {
	if len(s.files) > 0 {
		return
	}
	k := kind{typ: mmapfile.Counter}
	d := NewDesc(unplacedName, "Values of metrics that found no place in a value file and are not served.", nil, nil)
	if off, ok := s.fileLocked(k).offset(s, d.key(d.family(k), d.name, nil)); ok {
		s.unplaced = s.files[k].w.Value(off)
	}
}

// unplacedName is the counter of values without a place. It is above 0 where
// [Err] returns an error.
const unplacedName = "promagg_client_unplaced_values_total"

// offset returns where the value of a key is, appended if it is new.
func (f *valueFile) offset(s *store, key []byte) (off uint32, ok bool) {
	if f.failed {
		return 0, false
	}
	if off, ok = f.known[string(key)]; ok {
		return off, true
	}
	off, err := f.w.Append(key)
	if err != nil {
		f.failed = true
		s.unplacedLocked(err)
		return 0, false
	}
	f.known[string(key)] = off
	return off, true
}

// more returns further entries of one key, unless there can be none.
func (s *store) more(k kind, key []byte) (values [stripes - 1]*mmapfile.Value, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[k]
	if s.stopped || f == nil || f.failed {
		return values, false
	}
	for i := range values {
		off, err := f.w.Append(key)
		if err != nil {
			return values, false // the one entry there is will do
		}
		values[i] = f.w.Value(off)
	}
	return values, true
}

// heapValue is an entry of a file that is not there.
type heapValue struct{ value, stamp *mmapfile.Value }

func (s *store) heapLocked(k kind, key string) (value, stamp *mmapfile.Value) {
	h, ok := s.heap[k][key]
	if !ok {
		h = heapValue{new(mmapfile.Value), new(mmapfile.Value)}
		if s.heap[k] == nil {
			s.heap[k] = make(map[string]heapValue)
		}
		s.heap[k][key] = h
	}
	return h.value, h.stamp
}

// images returns the value files that the process would have in a directory, by
// name.
func (s *store) images() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	images := make(map[string][]byte)
	for k, values := range s.heap {
		image := mmapfile.NewImage(mmapfile.ValueTimestamp)
		for key, h := range values {
			image.Append([]byte(key), h.value.Load(), h.stamp.Load())
		}
		images[mmapfile.Name{Type: k.typ, Mode: k.mode, ID: s.id}.String()] = image.Bytes()
	}
	return images
}

// fileLocked returns the file of a kind, made if it is not there yet.
func (s *store) fileLocked(k kind) *valueFile {
	f := s.files[k]
	if f == nil {
		f = &valueFile{known: make(map[string]uint32)}
		s.files[k] = f
		if err := s.claimLocked(k, f); err != nil {
			f.failed = true
			s.unplacedLocked(err)
		}
	}
	return f
}

// claimLocked makes the file, or takes up the one that a dead process left. If a
// live process has it, this one takes the next id that is free.
func (s *store) claimLocked(k kind, f *valueFile) error {
	id := s.id
	for n := 1; n < maxProcesses; n++ {
		name := mmapfile.Name{Type: k.typ, Mode: k.mode, ID: id}
		f.path = filepath.Join(s.dir, name.String())
		var err error
		if k.typ == mmapfile.Gauge {
			// What a gauge was in another process says nothing about this one.
			f.w, err = mmapfile.ClaimAnew(f.path, s.layout, initialSize)
		} else {
			f.w, err = mmapfile.Claim(f.path, s.layout, initialSize, func(key []byte, value uint32) { f.known[string(key)] = value })
		}
		switch corrupt := new(mmapfile.CorruptError); {
		case err == nil:
			if len(s.files) == 1 {
				s.id = id // the first file decides for all
			}
			return nil
		case errors.Is(err, mmapfile.ErrTaken), errors.Is(err, mmapfile.ErrLayout), errors.As(err, &corrupt):
			clear(f.known)
			id = fmt.Sprintf("%s.%d", s.id, n)
		default:
			return err
		}
	}
	return fmt.Errorf("%s: %d processes go by the id %s: give each its own with PROMAGG_PROCESS_ID", s.dir, maxProcesses, s.id)
}

// initialSize is the size of a new file, as the Python client has it.
const initialSize = 64 << 10

// failLocked notes a failure. The application goes on; the first one is logged.
func (s *store) failLocked(err error) {
	if s.first == nil {
		s.first = err
		s.log.Error("promagg client", "err", err)
	}
}

// unplacedLocked notes that values stay in this process.
func (s *store) unplacedLocked(err error) {
	s.failLocked(fmt.Errorf("metrics stay in this process and are not served: %w", err))
}

// fail notes a failure.
func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

// err returns the first failure.
func (s *store) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// stop deletes the files of live gauges and unlocks the others. Mappings stay
// for as long as the process lives, since a goroutine may be about to store
// through one.
func (s *store) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	var errs []error
	for k, f := range s.files {
		if f.w == nil {
			continue
		}
		if k.mode.Live() {
			if err := os.Remove(f.path); !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		errs = append(errs, f.w.Release())
	}
	return errors.Join(errs...)
}

func (s *store) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}
