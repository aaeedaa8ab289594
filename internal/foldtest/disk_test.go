package foldtest

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/fold"
)

// A disk is what POSIX promises of one. What was done to a directory lasts once
// it has been synced. Until then a machine that stops may leave any part of it
// undone, whatever the order, but that an entry that was changed twice can't have
// the second change without the first. A rename is done as a whole or not. What was
// written to a file and not synced may be there, or be missing, or be zeros, or be
// there up to any byte, whether or not the file has a name.

// op is one thing that was done to a directory.
type op struct {
	what     string // begin, leave, create, write, sync, rename, unlink, syncdir
	from, to string
	data     []byte // of a file that was left or written
	writer   int    // who has left the file, by number
	draft    int    // which file was created, written or synced, by number
	// purpose tells syncs apart.
	purpose string
}

// The purposes of syncs.
const (
	draftSync  = "of the draft, before it is committed"
	claimSync  = "of the directory, before the draft is written"
	commitSync = "of the directory, before files are deleted"
	lingerSync = "of the directory, before files are deleted that linger"
)

// changes returns the directory entries that the op changes.
func (o *op) changes() []string {
	switch o.what {
	case "leave", "create", "unlink":
		return []string{o.from}
	case "rename":
		return []string{o.from, o.to}
	}
	return nil
}

// recorder notes what is done to a directory.
type recorder struct {
	t    testing.TB
	dir  string
	base map[string][]byte // what there was before
	ops  []op
	last fold.Step // announced, and not known to be done yet
	// steps counts those that were announced, drafts those that were created.
	steps, drafts int
}

func record(t testing.TB, dir string) *recorder {
	return &recorder{t: t, dir: dir, base: files(t, dir)}
}

// files returns the content of a directory.
func files(t testing.TB, dir string) map[string][]byte {
	all := make(map[string][]byte)
	for _, base := range list(t, dir) {
		content, err := os.ReadFile(filepath.Join(dir, base))
		if err != nil {
			t.Fatal(err)
		}
		all[base] = content
	}
	return all
}

// leave has a writer leave its file.
func (r *recorder) leave(w *writer, number int) {
	w.leave(r.t, r.dir)
	r.ops = append(r.ops, op{what: "leave", from: w.name.String(), data: w.content(), writer: number})
}

// hook is a fold's.
func (r *recorder) hook(s fold.Step) error {
	r.done()
	r.last = s
	r.steps++
	return nil
}

// done notes the step that was announced last, if it was made.
func (r *recorder) done() {
	s := r.last
	r.last = fold.Step{}
	there := func(base string) bool {
		_, err := os.Lstat(filepath.Join(r.dir, base))
		return err == nil
	}
	o := op{from: s.From, to: s.To}
	switch s.Op {
	case "":
		return
	case "claim", "return", "commit":
		if o.what = "rename"; there(s.From) {
			return
		}
	case "delete", "discard":
		if o.what = "unlink"; there(s.From) {
			return
		}
	case "create":
		r.drafts++
		o.what, o.draft = s.Op, r.drafts
	case "syncdir":
		o.what = s.Op
	case "sync":
		o.what, o.draft = s.Op, r.drafts
	case "write":
		o.what, o.draft = s.Op, r.drafts
		var err error
		if o.data, err = os.ReadFile(filepath.Join(r.dir, s.From)); err != nil {
			r.t.Error(err)
		}
	default:
		r.t.Errorf("a step of an unknown kind: %+v", s)
	}
	r.ops = append(r.ops, o)
}

// classify gives syncs their purposes, by what they come before.
func classify(ops []op) {
	for i := range ops {
		switch ops[i].what {
		case "sync":
			ops[i].purpose = draftSync
		case "syncdir":
			begun := i
			for begun > 0 && ops[begun].what != "begin" {
				begun--
			}
			before := func(o op) bool { return o.what == "rename" && strings.HasSuffix(o.from, ".tmp") }
			switch {
			case i+1 < len(ops) && ops[i+1].what == "create":
				ops[i].purpose = claimSync
			case slices.ContainsFunc(ops[begun:i], before):
				ops[i].purpose = commitSync
			default:
				ops[i].purpose = lingerSync
			}
		}
	}
}

// without returns the ops as they would be without the syncs of one purpose.
func without(ops []op, purpose string) []op {
	return slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return o.purpose == purpose })
}

// state is what a disk may hold after a crash.
type state struct {
	files map[string]content
	lost  map[int]bool // writers whose file never came to the disk, by number
	// unsaid is set where a file is lost that was there before the crash.
	unsaid bool
}

func newState() state { return state{files: make(map[string]content), lost: make(map[int]bool)} }

// content is that of one file.
type content struct {
	data     []byte
	unsynced bool
}

// apply does an op. synced has the drafts whose content lasts.
func (s *state) apply(o *op, synced map[int]bool) {
	switch o.what {
	case "leave":
		s.files[o.from] = content{data: o.data}
	case "create":
		s.files[o.from] = content{}
	case "write":
		if _, there := s.files[o.from]; there {
			s.files[o.from] = content{o.data, !synced[o.draft]}
		}
	case "rename":
		if c, there := s.files[o.from]; there {
			delete(s.files, o.from)
			s.files[o.to] = c
		}
	case "unlink":
		delete(s.files, o.from)
	}
}

// after yields the states in which a crash may leave a disk when the first of ops have
// been done. At most about most of them are chosen at random, of what changes a few
// entries only all.
func after(base map[string][]byte, ops []op, done int, rnd *rand.Rand, most int, yield func(state) bool) {
	later := ops[done:]
	ops = ops[:done]
	var pending []int // ops on entries that no sync came after
	synced := make(map[int]bool)
	for i := range ops {
		switch o := &ops[i]; {
		case o.what == "syncdir":
			pending = pending[:0]
		case o.what == "sync":
			synced[o.draft] = true
		case o.changes() != nil:
			pending = append(pending, i)
		}
	}
	for _, chosen := range subsets(ops, pending, rnd, most) {
		s := newState()
		for name, data := range base {
			s.files[name] = content{data: data}
		}
		skip := make(map[int]bool)
		for j, i := range pending {
			skip[i] = !chosen[j]
		}
		for i := range ops {
			if !skip[i] {
				s.apply(&ops[i], synced)
			} else if ops[i].what == "leave" {
				s.lost[ops[i].writer] = true
				s.unsaid = true
			}
		}
		for _, o := range later {
			if o.what == "leave" {
				s.lost[o.writer] = true
			}
		}
		if !s.torn(rnd, yield) {
			return
		}
	}
}

// torn yields the states that a state stands for whose files are in part unsynced. Of
// a file that no reader looks at one is as good as the other.
func (s state) torn(rnd *rand.Rand, yield func(state) bool) bool {
	for name, c := range s.files {
		if !c.unsynced {
			continue
		}
		n := len(c.data)
		variants := [][]byte{nil, make([]byte, n), c.data}
		for _, end := range []int{4, 8, 8 + rnd.IntN(max(1, n-8)), n - 5, n - 1} {
			variants = append(variants, c.data[:end], append(bytes.Clone(c.data[:end]), make([]byte, n-end)...))
		}
		if strings.HasPrefix(name, ".") {
			variants = variants[rnd.IntN(len(variants)):][:1]
		}
		for _, data := range variants {
			one := s
			one.files = maps.Clone(s.files)
			one.files[name] = content{data: data}
			if !one.torn(rnd, yield) {
				return false
			}
		}
		return true
	}
	return yield(s)
}

// subsets returns which of the pending ops may have been done: all closed subsets, or, of many,
// those with few ops and those that lack few, and others at random.
func subsets(ops []op, pending []int, rnd *rand.Rand, most int) (all [][]bool) {
	n := len(pending)
	closed := func(want func(j int) bool) []bool {
		chosen := make([]bool, n)
		blocked := make(map[string]bool)
		for j, i := range pending {
			changes := ops[i].changes()
			chosen[j] = want(j) && !slices.ContainsFunc(changes, func(name string) bool { return blocked[name] })
			if !chosen[j] {
				for _, name := range changes {
					blocked[name] = true
				}
			}
		}
		return chosen
	}
	seen := make(map[string]bool)
	add := func(chosen []bool) {
		if key := fmt.Sprint(chosen); !seen[key] {
			seen[key] = true
			all = append(all, chosen)
		}
	}
	if n < 31 && 1<<n <= most {
		for bits := range 1 << n {
			add(closed(func(j int) bool { return bits>>j&1 != 0 }))
		}
		return all
	}
	for a := range n {
		from := a // two at a time only where those are not too many
		if n*n <= most {
			from = 0
		}
		for b := from; b <= a; b++ {
			add(closed(func(j int) bool { return j != a && j != b }))
			add(closed(func(j int) bool { return j == a || j == b }))
		}
	}
	add(closed(func(int) bool { return false }))
	for tries := 0; len(all) < most && tries < 2*most; tries++ {
		part := rnd.Float64()
		add(closed(func(int) bool { return rnd.Float64() < part }))
	}
	return all
}

var keySeed = maphash.MakeSeed()

// key is the same for equal states.
func (s state) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		fmt.Fprintf(&b, "%s=%x ", name, maphash.Bytes(keySeed, s.files[name].data))
	}
	fmt.Fprint(&b, slices.Sorted(maps.Keys(s.lost)))
	return b.String()
}

// write makes a directory of a state.
func (s state) write(t testing.TB) string {
	dir := place(t)
	for name, c := range s.files {
		if err := os.WriteFile(filepath.Join(dir, name), c.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (s state) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		fmt.Fprintf(&b, "%s (%d bytes) ", name, len(s.files[name].data))
	}
	return b.String()
}
