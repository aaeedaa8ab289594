package multiproc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// reusers are the clients of which a new process goes on in the files of a dead one
// that had the same id. Each runs a process that has that id and counts so much.
var reusers = map[string]func(t *testing.T, dir string, n int) (end func()){
	"python": func(t *testing.T, dir string, n int) func() {
		_, end := testpeer.PythonWriter(t, dir, fmt.Sprintf(`
from prometheus_client import Counter, values
values.ValueClass = values.MultiProcessValue(lambda: "7")
Counter("c", "C.").inc(%d)
`, n))
		return end
	},
	"ruby": func(t *testing.T, dir string, n int) func() {
		_, end := testpeer.RubyWriter(t, dir, fmt.Sprintf(`
Prometheus::Client.configuration.pid_provider = -> { '7' }
Prometheus::Client.registry.counter(:c_total, 'C.').increment({}, %d)
`, n))
		return end
	},
}

// TestFoldReuse: before any step of a fold a new process opens the files of the dead
// one that had its id. If that is before the claim, the file is given back to it; if it
// is after, the process has made itself a new one. Nothing is lost, nothing counted
// twice, and when it has ended, too, its file is folded as the other was.
func TestFoldReuse(t *testing.T) {
	for client, start := range reusers {
		var all []string // the steps of such a fold
		testReuse(t, start, func(s fold.Step) bool {
			all = append(all, s.Op)
			return false
		})
		if len(all) < 8 || all[0] != "claim" {
			t.Fatalf("the fold makes the steps %q", all)
		}
		var after []int
		for i := range all[1:] {
			after = append(after, i+1)
		}
		for _, at := range append([]int{0}, some(t, 3, after)...) {
			t.Run(fmt.Sprintf("%s %d %s", client, at, all[at]), func(t *testing.T) {
				n := 0
				testReuse(t, start, func(fold.Step) bool {
					n++
					return n == at+1
				})
				if n <= at {
					t.Error("the fold did not come to the step")
				}
			})
		}
	}
}

// testReuse starts the new process before the step for which now reports true.
func testReuse(t *testing.T, start func(*testing.T, string, int) func(), now func(fold.Step) bool) {
	dir := t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	d.opts.Fold.Retention = Forever
	start(t, dir, 1)()
	var before string // which step
	var end func()
	d.opts.Fold.Hook = func(s fold.Step) error {
		if now(s) {
			before, end = s.Op, start(t, dir, 4)
		}
		return nil
	}
	want(t, "the first has ended", values(t, d), "c_total", 1)
	foldOnce(t, d)
	if end == nil {
		return
	}
	other, _ := open(t, dir, mmapfile.ProbeAuto)
	for who, d := range map[string]*Dir{"who folds": d, "who comes": other} {
		d.Sync(true)
		want(t, who, values(t, d), "c_total", 5)
	}
	alive := "counter_7.db"
	if _, err := os.Stat(filepath.Join(dir, alive)); err != nil {
		alive = "counter_7-0.db" // Ruby's
	}
	if before == "claim" {
		wantNames(t, dir, alive) // given back
	} else {
		wantNames(t, dir, alive, "counter_archived.db")
	}
	if s := d.Stats(); s.Alive != 1 || s.Dead != 0 {
		t.Errorf("%d have a writer, %d have none", s.Alive, s.Dead)
	}

	end()
	foldOnce(t, d)
	want(t, "both folded", values(t, d), "c_total", 5)
	want(t, "both folded, who comes", values(t, other), "c_total", 5)
	wantNames(t, dir, "counter_archived.db")
	if n := log.count("level=WARN") + log.count("level=ERROR"); n > 0 {
		t.Errorf("logged:\n%s", log)
	}
}

// TestFoldReuseThrice: the file that was given back too late, for a third process of
// the same id has made itself a new one, counts under the name that it was claimed by,
// and is folded when its process has ended.
func TestFoldReuseThrice(t *testing.T) {
	start := reusers["python"]
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.opts.Fold.Retention = Forever
	start(t, dir, 1)()
	var second, third func()
	d.opts.Fold.Hook = func(s fold.Step) error {
		switch {
		case s.Op == "claim" && second == nil:
			second = start(t, dir, 4)
		case s.Op == "return" && third == nil:
			third = start(t, dir, 16)
		}
		return nil
	}
	want(t, "the first has ended", values(t, d), "c_total", 1)
	foldOnce(t, d)
	if third == nil {
		t.Fatal("the file was not given back")
	}
	want(t, "three processes", values(t, d), "c_total", 21)
	wantNames(t, dir, "counter_7.db", "counter_7~1.db")
	foldOnce(t, d)
	wantNames(t, dir, "counter_7.db", "counter_7~1.db")
	second()
	foldOnce(t, d)
	want(t, "two have ended", values(t, d), "c_total", 21)
	wantNames(t, dir, "counter_7.db", "counter_archived.db")
	third()
	foldOnce(t, d)
	want(t, "all have ended", values(t, d), "c_total", 21)
	wantNames(t, dir, "counter_archived.db")
}
