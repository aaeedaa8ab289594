package multiproc_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// rolled is a directory whose writers come and go, and what is to be known of them.
type rolled struct {
	t       *testing.T
	dir     string
	d       *multiproc.Dir
	clock   time.Time
	writers map[string][]*mmapfile.Writer
}

func newRolled(t *testing.T) *rolled {
	r := &rolled{t: t, dir: t.TempDir(), clock: time.Now(), writers: make(map[string][]*mmapfile.Writer)}
	r.d = multiproc.Open(multiproc.Options{Path: r.dir, Now: func() time.Time { return r.clock },
		Fold: multiproc.Folding{Retention: multiproc.Forever}})
	t.Cleanup(func() {
		r.d.Close()
		for id := range r.writers {
			r.end(id)
		}
	})
	return r
}

// start makes a writer that has files of two types.
func (r *rolled) start(id string) {
	r.t.Helper()
	for _, prefix := range []string{"counter_", "gauge_livesum_"} {
		w, err := mmapfile.Create(filepath.Join(r.dir, prefix+id+".db"), mmapfile.ValueTimestamp, 0)
		if err == nil {
			_, err = w.Append([]byte(`["n", "n_total", {}, "N."]`))
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.writers[id] = append(r.writers[id], w)
	}
}

func (r *rolled) end(id string) {
	r.t.Helper()
	for _, w := range r.writers[id] {
		if err := w.Close(); err != nil {
			r.t.Error(err)
		}
	}
	delete(r.writers, id)
}

// want looks, and wants these numbers.
func (r *rolled) want(what string, alive, dead int, started, ended uint64) {
	r.t.Helper()
	r.d.Sync(true)
	r.is(what, alive, dead, started, ended)
}

func (r *rolled) is(what string, alive, dead int, started, ended uint64) {
	r.t.Helper()
	s := r.d.Stats()
	want := [mmapfile.Dead + 1]int{mmapfile.Alive: alive, mmapfile.Dead: dead}
	if s.Writers != want || s.Started != started || s.Ended != ended {
		r.t.Errorf("%s: writers %v, %d started, %d ended, want %v, %d, %d", what, s.Writers, s.Started, s.Ended, want, started, ended)
	}
	states := make(map[mmapfile.State]int)
	for _, w := range r.d.Writers() {
		states[w.State]++
		if files := len(r.d.FilesOf(w.ID)); (files > 0) != (w.State != mmapfile.Dead) {
			r.t.Errorf("%s: writer %s is %v and has %d files", what, w.ID, w.State, files)
		}
	}
	if states[mmapfile.Alive] != alive || states[mmapfile.Dead] != dead {
		r.t.Errorf("%s: the roll has %v", what, states)
	}
}

// TestRoll: writers count once for all their files, when they come and when they go,
// whatever becomes of the files.
func TestRoll(t *testing.T) {
	r := newRolled(t)
	r.start("1")
	r.start("2")
	r.end("2")
	r.want("there from the start", 1, 1, 0, 0)
	r.start("3")
	r.start("worker-0") // as its application has it, and no slot of the Ruby client's
	r.want("two more", 3, 1, 2, 0)
	r.want("the same", 3, 1, 2, 0)
	r.end("1")
	r.want("one ends", 2, 2, 2, 1)
	r.start("1")
	r.want("and comes back", 3, 1, 3, 1)
	r.start("4")
	r.end("4")
	r.want("one has come and gone", 3, 2, 4, 2)
	for range 2 { // the first look at them makes them candidates, a second has passed at the next
		r.clock = r.clock.Add(time.Minute)
		if _, err := r.d.FoldOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want("folded", 3, 0, 4, 2)
	}
	r.start("2")
	r.want("a folded one's id again", 4, 0, 5, 2)
	for _, path := range r.glob("*_2.db") {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	r.want("its files are deleted", 3, 0, 5, 3)

	moved := r.dir + ".old"
	if err := os.Rename(r.dir, moved); err != nil {
		t.Fatal(err)
	}
	r.want("the directory is gone", 0, 0, 5, 6)
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.start("3")
	r.want("a new one has a writer", 1, 0, 6, 6)
}

func (r *rolled) glob(pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(r.dir, pattern))
	if err != nil || len(paths) == 0 {
		r.t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	return paths
}

// TestRollArriving: a file that its writer is about to open is no dead writer's, unless
// it stays as it is.
func TestRollArriving(t *testing.T) {
	r := newRolled(t)
	r.want("nobody", 0, 0, 0, 0)
	path := filepath.Join(r.dir, "counter_1.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.d.Sync(true)
	if s := r.d.Stats(); s.Writers[mmapfile.Unknown] != 1 || s.Started != 1 || s.Ended != 0 {
		t.Errorf("an empty file: writers %v, %d started, %d ended", s.Writers, s.Started, s.Ended)
	}
	r.start("1")
	r.want("it has a writer", 1, 0, 1, 0)
	if err := os.WriteFile(filepath.Join(r.dir, "counter_2.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.d.Sync(true)
	r.clock = r.clock.Add(2 * time.Second)
	r.want("one that never has", 1, 1, 2, 1)
}

// TestRollUnlisted: nobody has gone because the directory can't be listed for a while.
func TestRollUnlisted(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := testpeer.Shm(t)
		testpeer.Disown(t, dir)
		testpeer.AsNobody(t, dir)
		return
	}
	r := newRolled(t)
	r.want("nobody", 0, 0, 0, 0)
	r.start("1")
	r.want("one", 1, 0, 1, 0)
	above := filepath.Dir(r.dir)
	if err := os.Chmod(above, 0); err != nil {
		t.Fatal(err)
	}
	r.d.Sync(true)
	r.d.Sync(true)
	if err := os.Chmod(above, 0o755); err != nil {
		t.Fatal(err)
	}
	r.want("one again", 1, 0, 1, 0)
}

// TestRollClients: the writers of files that other clients have written, one for each id
// as they mean it, and the sizes of their files by type.
func TestRollClients(t *testing.T) {
	for _, name := range fixture.Names() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fixture.Unpack(t, name, dir)
			d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeOff})
			defer d.Close()
			d.Sync(true)
			want, bytes := make(map[string]bool), make(map[string]multiproc.Amount)
			list, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				file, ok := mmapfile.ParseName(e.Name())
				if !ok {
					continue
				}
				r, err := multiproc.Inspect(filepath.Join(dir, e.Name()), mmapfile.ProbeOff, false)
				if err != nil {
					t.Fatal(err)
				}
				want[r.Writer] = true
				of := bytes[file.Type.String()]
				bytes[file.Type.String()] = multiproc.Amount{Files: of.Files + 1, Bytes: of.Bytes + r.Size}
			}
			got, amounts := make(map[string]bool), make(map[string]multiproc.Amount)
			for _, w := range d.Writers() {
				got[w.ID] = true
			}
			if !maps.Equal(got, want) {
				t.Errorf("writers %v, want %v", got, want)
			}
			for i, of := range d.Stats().ByType {
				if of.Alive != (multiproc.Amount{}) {
					amounts[mmapfile.Type(i).String()] = of.Alive
				}
			}
			if fmt.Sprint(amounts) != fmt.Sprint(bytes) {
				t.Errorf("files and bytes by type %v, want %v", amounts, bytes)
			}
		})
	}
}

// TestRollRules: rules that change have all files read anew, and nobody has come or
// gone for that.
func TestRollRules(t *testing.T) {
	r := newRolled(t)
	r.want("none", 0, 0, 0, 0)
	r.start("1")
	r.start("2")
	r.want("two", 2, 0, 2, 0)
	r.end("2")
	r.want("one of two", 1, 1, 2, 1)
	r.d.Rule(merge.Rules{Labels: []merge.Label{{Name: "app", Value: "web"}}})
	r.is("with other rules", 1, 1, 2, 1)
	r.want("and looked at", 1, 1, 2, 1)
	r.end("1")
	r.want("both dead", 0, 2, 2, 2)
	r.d.Rule(merge.Rules{})
	r.want("both dead, with other rules", 0, 2, 2, 2)

	// One that has died before it has written anything is not about to arrive again.
	if err := os.WriteFile(filepath.Join(r.dir, "counter_3.db"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	r.d.Sync(true)
	r.clock = r.clock.Add(2 * time.Second)
	r.want("and is dead", 0, 3, 3, 3)
	r.d.Rule(merge.Rules{Labels: []merge.Label{{Name: "app", Value: "web"}}})
	r.is("with rules", 0, 3, 3, 3)
}
