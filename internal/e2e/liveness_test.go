package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// clients are those that a worker may write with.
var clients = map[string]struct {
	needs []*testpeer.Peer
	start func(dir string) *exec.Cmd
	file  string // behind the PID in file names
}{
	"python": {[]*testpeer.Peer{testpeer.Python}, func(dir string) *exec.Cmd { return python(dir, "worker.py") }, ".db"},
	"ruby":   {[]*testpeer.Peer{testpeer.Ruby}, func(dir string) *exec.Cmd { return ruby(dir, "worker.rb") }, "-0.db"},
	"go":     {nil, goWorker, ".db"},
}

// writer is a worker that has counted a value and has it in live gauges.
type writer struct {
	*worker
	value float64
	pid   int
	files []string // paths
}

func startWriter(t *testing.T, client, dir string, value float64) *writer {
	t.Helper()
	c := clients[client]
	testpeer.Require(t, c.needs...)
	w := &writer{worker: startWorker(t, c.start(dir)), value: value}
	w.send(t, op{Op: "inc", Type: "counter", Name: "work_total", Value: value}.String())
	w.send(t, op{Op: "set", Type: "gauge", Name: "busy", Mode: "livesum", Value: value}.String())
	w.send(t, op{Op: "set", Type: "gauge", Name: "level", Mode: "liveall", Value: value}.String())
	w.pid = w.number(t, "sync")
	for _, prefix := range []string{"counter_", "gauge_livesum_", "gauge_liveall_"} {
		w.files = append(w.files, filepath.Join(dir, prefix+strconv.Itoa(w.pid)+c.file))
	}
	return w
}

// number is the answer to an op, a number.
func (w *writer) number(t *testing.T, o string) int {
	t.Helper()
	n, err := strconv.Atoi(w.ask(t, op{Op: o}.String()))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// count has the worker count so much more.
func (w *writer) count(t *testing.T, more float64) {
	t.Helper()
	w.send(t, op{Op: "inc", Type: "counter", Name: "work_total", Value: more}.String())
	w.ask(t, op{Op: "sync"}.String())
}

// exec has the worker become another program.
func (w *writer) exec(t *testing.T) {
	t.Helper()
	w.send(t, op{Op: "exec"}.String())
	testpeer.WaitFor(t, "another program", patience, func() error {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", w.pid))
		if err == nil && string(comm) != "cat\n" {
			err = fmt.Errorf("it is %s still", comm)
		}
		return err
	})
}

// open are those of its files that the worker has descriptors of.
func (w *writer) open(t *testing.T) (open []string) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && slices.Contains(w.files, path) {
			open = append(open, path)
		}
	}
	return open
}

// want is what is to be served: a total of what was ever counted, and the gauges of
// the living.
func want(total float64, living ...*writer) map[string]float64 {
	want := map[string]float64{sampleKey("work_total", nil): total}
	for _, w := range living {
		want[sampleKey("busy", nil)] += w.value
		want[sampleKey("level", map[string]string{"pid": strconv.Itoa(w.pid)})] = w.value
	}
	return want
}

// probed is what the self-metrics say of files: "3 alive by lease, 1 unknown by lease".
func (p *promagg) probed(t *testing.T) string {
	t.Helper()
	var probed []string
	for _, m := range regexp.MustCompile(`(?m)^promagg_probed_files\{probe="(\w+)",state="(\w+)"\} (\d+)$`).FindAllStringSubmatch(p.get(t, "/metrics"), -1) {
		if m[3] != "0" {
			probed = append(probed, m[3]+" "+m[2]+" by "+m[1])
		}
	}
	slices.Sort(probed)
	return strings.Join(probed, ", ")
}

// waitProbed waits until the self-metrics say so.
func (p *promagg) waitProbed(t *testing.T, want string) {
	t.Helper()
	testpeer.WaitFor(t, want, patience, func() error {
		if got := p.probed(t); got != want {
			return fmt.Errorf("the self-metrics say %q", got)
		}
		return nil
	})
}

// waitServed waits until what is served is as it should be.
func (p *promagg) waitServed(t *testing.T, what string, want map[string]float64) {
	t.Helper()
	testpeer.WaitFor(t, what, patience, func() error {
		if got := p.scrape(t).samples; !maps.Equal(got, want) {
			return fmt.Errorf("want %v, got %v", want, got)
		}
		return nil
	})
}

// checkInspect compares what `promagg inspect` says of some files.
func checkInspect(t *testing.T, under []string, liveness string, files []string, want string) {
	t.Helper()
	argv := append(slices.Clone(under), testpeer.Promagg(t), "inspect", "--json", "--liveness", liveness)
	var found struct {
		Files []struct {
			Path, State string
			By          string `json:"state_by"`
			Proven      bool   `json:"proven_dead"`
			Why         string `json:"state_error"`
		}
	}
	if err := json.Unmarshal([]byte(output(t, command(append(argv, files...)...))), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Files) != len(files) {
		t.Errorf("inspect knows %d files, want %d", len(found.Files), len(files))
	}
	for _, f := range found.Files {
		got := f.State + " by " + f.By
		if f.State == "dead" && !f.Proven {
			got += " without proof"
		}
		if got != want || (f.Why != "") != (f.State == "unknown") {
			t.Errorf("inspect says that %s is %s (%q), want %s", filepath.Base(f.Path), got, f.Why, want)
		}
	}
}

// TestLivenessEnds: whatever client a worker writes with and however it ends, its live
// gauges are gone from the next scrape, all else stays, and how that is known shows.
func TestLivenessEnds(t *testing.T) {
	ends := map[string]func(t *testing.T, w *writer){
		"SIGKILL": func(t *testing.T, w *writer) { w.Kill(t) },
		"exit": func(t *testing.T, w *writer) {
			w.stdin.Close()
			if err := w.Wait(t); err != nil {
				t.Fatal(err)
			}
		},
		"exec": func(t *testing.T, w *writer) {
			w.exec(t)
			// The Ruby client's extension leaves its descriptors to the programs that a
			// worker becomes or starts, which could write then: it lives as long as they do.
			if open := w.open(t); len(open) > 0 {
				if !strings.Contains(w.name, "ruby") {
					t.Errorf("the new program has %v", open)
				}
				checkInspect(t, nil, "auto", open, "alive by lease")
				w.Kill(t)
			}
		},
	}
	for client := range clients {
		for name, end := range ends {
			t.Run(client+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				p := serve(t, dir, "--log.level", "debug").ready(t)
				a, b := startWriter(t, client, dir, 5), startWriter(t, client, dir, 7)
				checkSamples(t, "both alive", p.scrape(t).samples, want(12, a, b))
				p.waitProbed(t, "6 alive by lease")

				end(t, a)
				if name == "exec" { // the kernel lets go of the old program's files a moment later
					p.waitServed(t, "one has ended", want(12, b))
				}
				checkSamples(t, "one has ended", p.scrape(t).samples, want(12, b))
				p.waitProbed(t, "3 alive by lease, 3 dead by lease")
				checkInspect(t, nil, "auto", a.files, "dead by lease")
				checkInspect(t, nil, "auto", b.files, "alive by lease")
				for _, file := range a.files {
					if line := "file=" + filepath.Base(file) + " state=dead by=lease"; strings.Count(p.Log(), line) != 1 {
						t.Errorf("the log does not tell once: %s", line)
					}
				}
				b.count(t, 2)
				checkSamples(t, "the other goes on", p.scrape(t).samples, want(14, b))
			})
		}
	}
}

// TestLivenessStands: a worker that stands still, or has closed its descriptors and
// has its files mapped only, lives.
func TestLivenessStands(t *testing.T) {
	for name, stand := range map[string]func(t *testing.T, w *writer) (goOn func()){
		"SIGSTOP": func(t *testing.T, w *writer) func() {
			testpeer.SignalPid(t, "STOP", w.pid)
			return func() { testpeer.SignalPid(t, "CONT", w.pid) }
		},
		"closed descriptors": func(t *testing.T, w *writer) func() {
			w.send(t, op{Op: "close"}.String())
			w.ask(t, op{Op: "sync"}.String())
			if open := w.open(t); len(open) > 0 {
				t.Fatalf("open still: %v", open)
			}
			return func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dir := range []string{t.TempDir(), testpeer.Shm(t)} {
				p := serve(t, dir).ready(t)
				w := startWriter(t, "python", dir, 5)
				goOn := stand(t, w)
				checkSamples(t, "it stands", p.scrape(t).samples, want(5, w))
				checkInspect(t, nil, "auto", w.files, "alive by lease")
				goOn()
				w.count(t, 3)
				checkSamples(t, "it goes on", p.scrape(t).samples, want(8, w))
				stand(t, w)
				w.Kill(t)
				checkSamples(t, "it is killed", p.scrape(t).samples, want(8))
				checkInspect(t, nil, "auto", w.files, "dead by lease")
			}
		})
	}
}

// TestLivenessFork: a child that inherits its parent's mappings can write its files.
// They live until it has ended too, or goes by its own id.
func TestLivenessFork(t *testing.T) {
	for _, client := range []string{"python", "ruby"} {
		t.Run(client, func(t *testing.T) {
			dir := t.TempDir()
			p := serve(t, dir).ready(t)
			parent := startWriter(t, client, dir, 5)
			child := &writer{pid: parent.number(t, "fork"), value: 5}
			idle := parent.number(t, "fork") // it never writes
			parent.Kill(t)
			checkSamples(t, "the parent is dead, its children have its files", p.scrape(t).samples, want(5, parent))
			checkInspect(t, nil, "auto", parent.files, "alive by lease")

			testpeer.SignalPid(t, "KILL", idle)
			testpeer.Ended(t, idle)
			checkSamples(t, "one child has them", p.scrape(t).samples, want(5, parent))

			testpeer.SignalPid(t, "USR1", child.pid)
			p.waitServed(t, "the child has counted", want(10, child))
			checkInspect(t, nil, "auto", parent.files, "dead by lease")

			testpeer.SignalPid(t, "KILL", child.pid)
			testpeer.Ended(t, child.pid)
			checkSamples(t, "all are dead", p.scrape(t).samples, want(10))
		})
	}
}

// TestLivenessRubyFork: a child gives up the lock that its living parent has, for both
// have it by one descriptor. The lack of a lock is proof of nothing.
func TestLivenessRubyFork(t *testing.T) {
	dir := testpeer.Shm(t)
	auto := serveUnder(t, testpeer.Nobody(t), dir).ready(t)
	locks := serve(t, dir, "--liveness", "flock").ready(t)
	parent := startWriter(t, "ruby", dir, 5)
	child := &writer{pid: parent.number(t, "fork"), value: 5}
	checkInspect(t, nil, "flock", parent.files, "alive by flock")
	testpeer.SignalPid(t, "USR1", child.pid)
	auto.waitServed(t, "the child has counted", want(10, parent, child))
	checkInspect(t, nil, "flock", parent.files, "dead by flock without proof")
	checkInspect(t, testpeer.Nobody(t), "auto", parent.files, "unknown by lease")

	locks.waitProbed(t, "3 alive by flock, 3 dead by flock")
	for total := 11.0; total < 15; total++ {
		parent.count(t, 1)
		checkSamples(t, "the parent counts, by locks", locks.scrape(t).samples, want(total, child))
		checkSamples(t, "the parent counts, unprivileged", auto.scrape(t).samples, want(total, parent, child))
	}
}

// TestLivenessPIDReuse: a new worker that gets a dead one's PID takes up its files,
// which live again with all that is in them.
func TestLivenessPIDReuse(t *testing.T) {
	testpeer.Require(t, testpeer.Python, testpeer.Unshare)
	dir := t.TempDir()
	pool := startWorker(t, func() *exec.Cmd {
		cmd := python(dir, "pool.py", "1")
		around := command(append([]string{testpeer.Unshare.Path(), "--pid", "--fork", "--mount-proc"}, cmd.Args...)...)
		around.Env = cmd.Env
		return around
	}())
	work := func(what string, value float64) (pid string) {
		t.Helper()
		pool.send(t, "0 "+op{Op: "inc", Type: "counter", Name: "work_total", Value: value}.String())
		pool.send(t, "0 "+op{Op: "set", Type: "gauge", Name: "busy", Mode: "livesum", Value: value}.String())
		return pool.ask(t, "0 "+op{Op: "sync"}.String())
	}
	total, busy := sampleKey("work_total", nil), sampleKey("busy", nil)
	p := serve(t, dir).ready(t)
	pid := work("first", 5)
	p.waitServed(t, "the first worker", map[string]float64{total: 5, busy: 5})
	for i := range 5 {
		pool.ask(t, "kill 0")
		count := float64(5 + i)
		checkSamples(t, "killed", p.scrape(t).samples, map[string]float64{total: count})
		// What is frozen must come to life again.
		testpeer.WaitFor(t, "the dead one's counters to be frozen", patience, func() error {
			if !strings.Contains(p.get(t, "/metrics"), "\npromagg_frozen_files 1\n") {
				return errors.New("they are not")
			}
			return nil
		})
		pool.ask(t, "again 0")
		if again := work("another", 1); again != pid {
			t.Fatalf("the new worker has PID %s, want %s", again, pid)
		}
		p.waitServed(t, "the new worker", map[string]float64{total: count + 1, busy: 1})
		p.waitProbed(t, "2 alive by lease")
	}
}

// TestLivenessUnprivileged: promagg of a user without rights falls back for what others
// own, says so, and takes nobody for dead who may be alive. Of its own files it knows.
func TestLivenessUnprivileged(t *testing.T) {
	nobody := testpeer.Nobody(t)
	dir := testpeer.Shm(t)
	own := startWriter(t, "python", dir, 1)
	testpeer.Disown(t, own.files...)
	p := serveUnder(t, nobody, dir).ready(t)
	checkSamples(t, "its own", p.scrape(t).samples, want(1, own))
	p.waitProbed(t, "3 alive by lease")
	said := func(want int) {
		t.Helper()
		if n := strings.Count(p.Log(), "can't tell whether writers are alive"); n != want {
			t.Errorf("that some can't be probed is said %d times, want %d", n, want)
		}
	}
	said(0)

	py, rb, gw := startWriter(t, "python", dir, 10), startWriter(t, "ruby", dir, 100), startWriter(t, "go", dir, 1000)
	checkSamples(t, "all alive", p.scrape(t).samples, want(1111, own, py, rb, gw))
	p.waitProbed(t, "3 alive by lease, 3 unknown by lease, 6 alive by flock")
	checkInspect(t, nobody, "auto", own.files, "alive by lease")
	checkInspect(t, nobody, "auto", py.files, "unknown by lease")
	checkInspect(t, nobody, "auto", slices.Concat(rb.files, gw.files), "alive by flock")
	said(1)
	if !regexp.MustCompile(`can't tell .* file=\w+_\S+\.db .*hint="run promagg as the owner of the files or with CAP_LEASE`).MatchString(p.Log()) {
		t.Error("the file or the hint is missing")
	}

	for _, w := range []*writer{own, py, rb, gw} {
		w.Kill(t)
	}
	checkSamples(t, "all killed", p.scrape(t).samples, want(1111, py, rb, gw))
	p.waitProbed(t, "3 dead by lease, 9 unknown by lease")
	checkSamples(t, "all killed, and looked at", p.scrape(t).samples, want(1111, py, rb, gw))
	checkInspect(t, nobody, "auto", own.files, "dead by lease")
	checkInspect(t, nobody, "auto", slices.Concat(py.files, rb.files, gw.files), "unknown by lease")
	said(1)
}

// TestLivenessPID: where there are no leases to be had, --liveness=pid goes by the
// processes of those ids. Where there are, it can't take the living for dead.
func TestLivenessPID(t *testing.T) {
	leaseless := testpeer.Leaseless(t)
	dir := testpeer.Shm(t)
	py, other, rb := startWriter(t, "python", dir, 10), startWriter(t, "python", dir, 100), startWriter(t, "ruby", dir, 1000)
	for _, w := range []*writer{py, other, rb} {
		testpeer.Disown(t, w.files...)
	}
	p := serveUnder(t, leaseless, dir, "--liveness", "pid").ready(t)
	checkSamples(t, "all alive", p.scrape(t).samples, want(1110, py, other, rb))
	p.waitProbed(t, "3 alive by flock, 6 alive by pid")

	other.exec(t) // its PID lives on
	p.waitServed(t, "one is another program", want(1110, py, rb))
	checkInspect(t, leaseless, "pid", other.files, "dead by pid")
	checkInspect(t, leaseless, "auto", other.files, "unknown by lease")
	py.Kill(t)
	checkSamples(t, "one is killed", p.scrape(t).samples, want(1110, rb))
	rb.Kill(t)
	checkSamples(t, "all have ended", p.scrape(t).samples, want(1110))
	p.waitProbed(t, "9 dead by pid")
	if strings.Contains(p.Log(), "level=WARN") {
		t.Error("it warns without a reason")
	}

	// An id that is no PID tells nothing.
	named := startWorker(t, python(dir, "worker.py"))
	named.send(t, op{Op: "id", ID: "web-1"}.String())
	named.send(t, op{Op: "set", Type: "gauge", Name: "busy", Mode: "livesum", Value: 3}.String())
	named.ask(t, op{Op: "sync"}.String())
	testpeer.Disown(t, filepath.Join(dir, "gauge_livesum_web-1.db"))
	named.Kill(t)
	withNamed := want(1110)
	withNamed[sampleKey("busy", nil)] = 3
	p.waitServed(t, "one by a name", withNamed)
	p.waitProbed(t, "1 unknown by pid, 9 dead by pid")
	if n := strings.Count(p.Log(), "hint=\"--liveness=pid needs writers whose ids are their PIDs"); n != 1 {
		t.Errorf("that ids have to be PIDs is said %d times", n)
	}
}

// TestLivenessPIDNamespace: from another PID namespace, where the workers' PIDs are
// nobody's, --liveness=pid takes none of the living for dead if the kernel can tell.
func TestLivenessPIDNamespace(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	dir := t.TempDir()
	py, rb, gw := startWriter(t, "python", dir, 10), startWriter(t, "ruby", dir, 100), startWriter(t, "go", dir, 1000)
	p := serveUnder(t, []string{testpeer.Unshare.Path(), "--pid", "--fork", "--mount-proc"}, dir, "--liveness", "pid").ready(t)
	checkSamples(t, "all alive", p.scrape(t).samples, want(1110, py, rb, gw))
	p.waitProbed(t, "9 alive by lease")
	py.Kill(t)
	checkSamples(t, "one is killed", p.scrape(t).samples, want(1110, rb, gw))
	p.waitProbed(t, "3 dead by lease, 6 alive by lease")
}

// TestMarkDeadAsPython: mark-dead leaves of a dead worker what the Python client's hook
// leaves, byte for byte.
func TestMarkDeadAsPython(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	ours, theirs := t.TempDir(), t.TempDir()
	p := startPool(t, nil, ours, 3)
	for i := range p.pids {
		p.pool.ask(t, fmt.Sprintf("kill %d", i))
	}
	// Ids that begin or end as another one does.
	for _, mode := range append(slices.Clone(p.modes), "sum") {
		for _, id := range []string{"worker_1", "1", "1-0", "1" + p.pids[0], p.pids[0] + "1", p.pids[0] + "-0"} {
			if err := os.WriteFile(filepath.Join(ours, "gauge_"+mode+"_"+id+".db"), valueFile("made", id, 1, false), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.CopyFS(theirs, os.DirFS(ours)); err != nil {
		t.Fatal(err)
	}
	for _, ids := range [][]string{{p.pids[0]}, {"worker_1"}, {"1"}, {"nobody"}, {p.pids[1], p.pids[2]}} {
		removed := output(t, command(append([]string{testpeer.Promagg(t), "mark-dead", "--dir", ours}, ids...)...))
		for _, id := range ids {
			output(t, command(testpeer.Python.Path(), "-c",
				"import sys; from prometheus_client.multiprocess import mark_process_dead; mark_process_dead(*sys.argv[1:])", id, theirs))
		}
		got, want := files(t, ours), files(t, theirs)
		if !maps.Equal(got, want) {
			t.Errorf("%v: left are %v, want %v", ids, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		if ids[0] != "nobody" && removed == "" {
			t.Errorf("%v: nothing was removed", ids)
		}
	}
}

// files are the files of a directory with what they hold.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}
