package client

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

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
	log    *logger

	mu sync.Mutex // protects all below; held across the system calls that make and grow files
	// id names this process. It may get a suffix as long as it has no file.
	id    string
	files map[kind]*valueFile
	heap  heap  // without a directory: what would be in the files
	first error // the first failure; later ones are counted only
	badID error // why the process can't go by its id; nothing is placed then
	// unplaced counts the values that should be in a file and are not. It is in
	// the file of counters, so that it is served; nil before that file is there.
	unplaced *mmapfile.Value
	stopped  bool
}

// valueFile is one of the process's files.
type valueFile struct {
	w      *mmapfile.Writer
	known  map[string][]uint32 // where each key's values are
	failed bool                // it can't be had or grown; what is new stays on the heap
}

func newStore(opts Options) *store {
	s := &store{dir: opts.Dir, id: opts.ProcessID, layout: mmapfile.ValueTimestamp, log: newLogger(cmp.Or(opts.Logger, slog.Default())), files: make(map[kind]*valueFile), heap: make(heap)}
	if opts.ValueOnly {
		s.layout = mmapfile.ValueOnly
	}
	from := "Options.ProcessID"
	if s.id == "" {
		s.id, from = os.Getenv("PROMAGG_PROCESS_ID"), "PROMAGG_PROCESS_ID"
	}
	pid := strconv.Itoa(os.Getpid())
	s.id = cmp.Or(s.id, pid)
	if err := checkID(s.id); err != nil && s.dir != "" {
		s.badID = fmt.Errorf("%s: %w", from, err)
		s.unplacedLocked(s.badID)
	} else if err != nil {
		s.id = pid // no file is to have the id
	}
	return s
}

// maxID is the most bytes that an id may have, so that every name with it is one
// that a filesystem takes.
const maxID = 200

// checkID returns why a process can't go by an id.
func checkID(id string) error {
	name := mmapfile.Name{Type: mmapfile.Counter, ID: id}
	switch parsed, ok := mmapfile.ParseName(name.String()); {
	case !ok || parsed != name || !utf8.ValidString(id):
		return fmt.Errorf("want UTF-8 text without slashes and NULs, got %q", id)
	case len(id) > maxID:
		return fmt.Errorf("want at most %d bytes, got %d: %.50q…", maxID, len(id), id)
	case name.Reserved():
		return fmt.Errorf("want a name that is not promagg's own, as \"archived\" and those that end in \"~\" and a number are, got %q", id)
	}
	return nil
}

// maxProcesses bounds how many processes may go by one id.
const maxProcesses = 10000

// spot is where the value of a key lives.
type spot struct {
	value *mmapfile.Value
	stamp *mmapfile.Value // its timestamp, nil in a layout without
	// rest are further values of the same key, which readers add to the first:
	// what contention had spread before, in this process or in a dead one.
	rest []*mmapfile.Value
}

// place returns where the value of a key lives. What is found in the file is
// what a dead process of the same id left, or was deleted before.
func (s *store) place(k kind, key []byte) spot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return spot{value: new(mmapfile.Value)}
	}
	if len(key) > mmapfile.MaxKey {
		s.failLocked(fmt.Errorf("a series is not served: want a name, labels and help of at most %d bytes, got %d: %.100q…", mmapfile.MaxKey, len(key), key))
		if s.unplaced != nil {
			s.unplaced.Add(1)
		}
		return spot{value: new(mmapfile.Value)}
	}
	if s.dir == "" {
		return s.heap.place(k, string(key))
	}
	s.beginLocked()
	at, ok := s.fileLocked(k).offsets(s, key)
	if !ok {
		if s.unplaced != nil {
			s.unplaced.Add(1)
		}
		return spot{value: new(mmapfile.Value)}
	}
	w := s.files[k].w
	found := spot{value: w.Value(at[0])}
	if s.layout == mmapfile.ValueTimestamp {
		found.stamp = w.Value(at[0] + 8)
	}
	for _, off := range at[1:] {
		found.rest = append(found.rest, w.Value(off))
	}
	return found
}

// beginLocked makes the file of counters before all others: its name decides by
// which id the process goes, and it has the count of what finds no place.
func (s *store) beginLocked() {
	if len(s.files) > 0 {
		return
	}
	k := kind{typ: mmapfile.Counter}
	d := NewDesc(unplacedName, "Values of metrics that found no place in a value file and are not served.", nil, nil)
	if at, ok := s.fileLocked(k).offsets(s, d.key(d.family(k), d.name, nil)); ok {
		s.unplaced = s.files[k].w.Value(at[0])
	}
}

// unplacedName is the counter of values without a place. It is above 0 where
// [Err] returns an error.
const unplacedName = "promagg_client_unplaced_values_total"

// offsets returns where the values of a key are, at least one, appended if the
// key is new.
func (f *valueFile) offsets(s *store, key []byte) (at []uint32, ok bool) {
	if at = f.known[string(key)]; len(at) > 0 {
		return at, true
	}
	if f.verify(s); f.failed {
		return nil, false
	}
	if err := f.append(key); err != nil {
		f.failed = true
		s.unplacedLocked(err)
		return nil, false
	}
	return f.known[string(key)], true
}

// append adds one entry of a key to the file.
func (f *valueFile) append(key []byte) error {
	off, err := f.w.Append(key)
	if err == nil {
		f.known[string(key)] = append(f.known[string(key)], off)
	}
	return err
}

// verify notes it if the file has been deleted or replaced under the process.
func (f *valueFile) verify(s *store) {
	if f.failed || f.w.Named() {
		return
	}
	f.failed = true
	if s.unplaced != nil {
		s.unplaced.Add(float64(len(f.known)))
	}
	s.unplacedLocked(fmt.Errorf("%s was deleted or replaced while the process lived", f.w.Path()))
}

// verify looks whether the files are still where others find them.
func (s *store) verify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	for _, f := range s.files {
		f.verify(s)
	}
}

// more returns all values of a key, those first, at least n, that share no cache
// line with another of them; unless there can't be so many.
func (s *store) more(k kind, key []byte, n int) (values []*mmapfile.Value, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, false
	}
	if s.dir == "" {
		return s.heap.more(k, string(key), n)
	}
	f := s.files[k]
	if f == nil || f.failed {
		return nil, false
	}
	apart, close := spaced(f.known[string(key)])
	for len(apart) < n {
		if f.append(key) != nil {
			return nil, false // the one entry there is will do
		}
		apart, close = spaced(f.known[string(key)])
	}
	for _, off := range slices.Concat(apart, close) {
		values = append(values, f.w.Value(off))
	}
	return values, true
}

// cacheLine is the size in bytes of what cores pass to each other, at most, on
// what we run on.
const cacheLine = 64

// spaced splits offsets into those that share no cache line with one before, and
// the rest.
func spaced(offsets []uint32) (apart, close []uint32) {
	for _, off := range offsets {
		if n := len(apart); n == 0 || off/cacheLine != apart[n-1]/cacheLine {
			apart = append(apart, off)
		} else {
			close = append(close, off)
		}
	}
	return apart, close
}

// drop forgets a series that was deleted, where there is no file that it would
// leave its place in.
func (s *store) drop(k kind, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		delete(s.heap[k], string(key))
	}
}

// images returns the value files that the process would have in a directory, by
// name.
func (s *store) images() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heap.images(s.id)
}

// fileLocked returns the file of a kind, made if it is not there yet.
func (s *store) fileLocked(k kind) *valueFile {
	f := s.files[k]
	if f == nil {
		f = &valueFile{known: make(map[string][]uint32)}
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
	if s.badID != nil {
		return s.badID
	}
	id := s.id
	for n := 1; n < maxProcesses; n++ {
		name := mmapfile.Name{Type: k.typ, Mode: k.mode, ID: id}
		path := filepath.Join(s.dir, name.String())
		var err error
		if k.typ == mmapfile.Gauge {
			// What a gauge was in another process says nothing about this one.
			f.w, err = mmapfile.ClaimAnew(path, s.layout, initialSize)
		} else {
			f.w, err = mmapfile.Claim(path, s.layout, initialSize, func(key []byte, value uint32) { f.known[string(key)] = append(f.known[string(key)], value) })
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
		s.log.tell("promagg client", "err", err)
	}
}

// unplacedLocked notes that values stay in this process.
func (s *store) unplacedLocked(err error) {
	s.failLocked(fmt.Errorf("metrics stay in this process and are not served: %w", err))
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
			errs = append(errs, f.w.Remove())
		}
		errs = append(errs, f.w.Release())
	}
	return errors.Join(errs...)
}
