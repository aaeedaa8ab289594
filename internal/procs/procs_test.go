package procs_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
	"github.com/promagg/promagg/internal/testpeer"
)

func TestMain(m *testing.M) { testpeer.Main(m) }

const patience = 60 * time.Second

// worker starts a process that uses the Python client, burns some CPU and waits.
func worker(t *testing.T, dir, setup string) *testpeer.Process {
	t.Helper()
	cmd := exec.Command(testpeer.Python.Path(), "-c", `
import signal, time
`+setup+`
from prometheus_client import Counter
Counter("work", "Work.").inc()
while time.process_time() < 0.3: pass
print("ready", flush=True)
while True: signal.pause()
`)
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir)
	p := testpeer.Start(t, cmd)
	testpeer.WaitFor(t, "a worker", patience, func() error {
		if !strings.Contains(p.Log(), "ready") {
			return fmt.Errorf("it says %q", p.Log())
		}
		return nil
	})
	return p
}

// facts are what /proc tells of a process, read as proc(5) has it.
type facts struct {
	ticks, start  uint64
	resident      int64
	threads, open int
}

func factsOf(t *testing.T, pid int) (f facts) {
	t.Helper()
	of := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(of, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	number := func(nth int) uint64 {
		n, err := strconv.ParseUint(fields[nth-3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	f.ticks, f.threads, f.start, f.resident = number(14)+number(15), int(number(20)), number(22), int64(number(24))*int64(os.Getpagesize())
	links, err := os.ReadDir(filepath.Join(of, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	f.open = len(links)
	return f
}

func open(t *testing.T, dir string) *multiproc.Dir {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir})
	t.Cleanup(d.Close)
	d.Sync(true)
	return d
}

// hold makes the test a writer of a file, whatever its name says.
func hold(t *testing.T, dir, name string) {
	t.Helper()
	w, err := mmapfile.Create(filepath.Join(dir, name), mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if _, err := w.Append([]byte(`["c", "c_total", {}, "C."]`)); err != nil {
		t.Fatal(err)
	}
}

// TestWorkers: what is seen of waiting workers is what /proc has. One with an id that
// is no PID is counted as unseen.
func TestWorkers(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	want := make(map[int]facts)
	for range 3 {
		want[worker(t, dir, "").Pid()] = facts{}
	}
	worker(t, dir, "import prometheus_client.values as v; v.ValueClass = v.MultiProcessValue(lambda: 'web-0')\nimport prometheus_client.metrics as m; m.values = v")
	for pid := range want {
		want[pid] = factsOf(t, pid)
	}
	w := procs.New(open(t, dir))
	if w.Last() != nil {
		t.Error("something is known before the first look")
	}
	v := w.Look()
	if w.Last() != v {
		t.Error("the last look is not the one that was made")
	}
	got, sum := make(map[int]facts), uint64(0)
	for _, s := range v.Workers {
		if s.ID != strconv.Itoa(s.PID) || s.State != mmapfile.Alive {
			t.Errorf("worker %q, PID %d, is %v", s.ID, s.PID, s.State)
		}
		if began := time.Unix(0, int64(s.Start*1e9)); time.Since(began) < 0 || time.Since(began) > time.Hour {
			t.Errorf("worker %d was started at %v", s.PID, began)
		}
		ticks := uint64(math.Round(s.CPU * 100))
		got[s.PID] = facts{ticks, want[s.PID].start, s.Resident, s.Threads, s.Descriptors}
		sum += ticks
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if ticks := uint64(math.Round(v.CPU * 100)); ticks != sum || sum < 75 {
		t.Errorf("in all %d ticks, the workers have used %d, want at least 75", ticks, sum)
	}
	if v.Unseen[procs.NoPID] != 1 || v.Unseen[procs.Hidden] != 0 || v.Unseen[procs.Denied] != 0 {
		t.Errorf("unseen are %v, want the one whose id is no PID", v.Unseen)
	}
}

// TestKilled: the sum of CPU time never falls as workers are killed, and has what each
// was last seen to have used.
func TestKilled(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	d := open(t, dir)
	w := procs.New(d)
	var last float64
	look := func(what string, workers int) {
		t.Helper()
		d.Sync(true)
		v := w.Look()
		if v.CPU < last || len(v.Workers) != workers {
			t.Fatalf("%s: %v s of %d workers, want %d, and no less than %v s", what, v.CPU, len(v.Workers), workers, last)
		}
		last = v.CPU
	}
	var living []*testpeer.Process
	for round := range 3 {
		living = append(living, worker(t, dir, ""), worker(t, dir, ""))
		look("two more", len(living))
		if last < 0.25*float64(2*(round+1)) { // each of user and system time is rounded down
			t.Errorf("%v s in all, after %d that used 0.3 s each", last, 2*(round+1))
		}
		before := last
		living[0].Kill(t)
		living = living[1:]
		look("one is killed", len(living))
		look("and gone", len(living))
		if last < before {
			t.Errorf("%v s, %v s before", last, before)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	look("all files are deleted", 0)
	for _, p := range living {
		p.Kill(t)
	}
	look("all are killed", 0)
}

// TestFilesAnew: a process that lost its files and has new ones counts once.
func TestFilesAnew(t *testing.T) {
	dir := t.TempDir()
	self := strconv.Itoa(os.Getpid())
	d := open(t, dir)
	w := procs.New(d)
	used := func() float64 { return float64(factsOf(t, os.Getpid()).ticks) / 100 }
	for range 3 {
		name := "counter_" + self + ".db"
		hold(t, dir, name)
		for range 2 {
			d.Sync(true)
			v := w.Look()
			if len(v.Workers) != 1 || v.CPU > used() {
				t.Errorf("%d workers have used %v s, the only one has %v s", len(v.Workers), v.CPU, used())
			}
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		d.Sync(true)
		if v := w.Look(); len(v.Workers) != 0 || v.CPU > used() {
			t.Errorf("without files %d workers have used %v s, the only one has %v s", len(v.Workers), v.CPU, used())
		}
	}
}

// TestAnother: a process that has the PID and not the files is none of the workers: it
// is of another namespace, or has got the PID since.
func TestAnother(t *testing.T) {
	dir := t.TempDir()
	sleep := testpeer.Start(t, exec.Command("sleep", "1000"))
	hold(t, dir, fmt.Sprintf("counter_%d.db", sleep.Pid()))
	hold(t, dir, fmt.Sprintf("counter_0%d.db", os.Getpid())) // not how a PID is written
	w := procs.New(open(t, dir))
	for range 5 {
		v := w.Look()
		if len(v.Workers) != 0 || v.CPU != 0 || v.Ever || v.Unseen[procs.Hidden] != 1 || v.Unseen[procs.NoPID] != 1 {
			t.Fatalf("seen are %v with %v s, unseen %v; want one hidden, and one whose id is no PID", v.Workers, v.CPU, v.Unseen)
		}
	}
}

// TestNamespace: from another PID namespace nobody is seen, whether /proc is that of the
// workers, as in the first case, or promagg's own.
func TestNamespace(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	if !testpeer.IsAgain() {
		dir := t.TempDir()
		hold(t, dir, fmt.Sprintf("counter_%d.db", os.Getpid()))
		hold(t, dir, "counter_1.db") // a PID that the other namespace has, too
		testpeer.Again(t, dir, testpeer.Unshare.Path(), "--pid", "--fork")
		testpeer.Again(t, dir, testpeer.Unshare.Path(), "--pid", "--fork", "--mount-proc")
		return
	}
	v := procs.New(open(t, ".")).Look()
	if len(v.Workers) != 0 || v.Ever || v.Unseen[procs.Hidden] != 2 {
		t.Errorf("seen are %v, unseen %v, want both hidden", v.Workers, v.Unseen)
	}
}

// TestDenied: processes of another user are counted as such.
func TestDenied(t *testing.T) {
	if !testpeer.IsNobody() {
		testpeer.Require(t, testpeer.Setpriv)
		dir := testpeer.Shm(t)
		hold(t, dir, fmt.Sprintf("counter_%d.db", os.Getpid()))
		testpeer.AsNobody(t, dir)
		return
	}
	v := procs.New(open(t, ".")).Look()
	if len(v.Workers) != 0 || v.Unseen[procs.Denied] != 1 {
		t.Errorf("seen are %v, unseen %v, want one denied", v.Workers, v.Unseen)
	}
}

// TestRun: workers that come and go are seen without anybody asking.
func TestRun(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	d := open(t, dir)
	w := procs.New(d)
	ctx := t.Context()
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { <-done })
	p := worker(t, dir, "")
	seen := func(want ...int) {
		t.Helper()
		testpeer.WaitFor(t, fmt.Sprintf("%v to be seen", want), patience, func() error {
			d.Sync(true)
			v := w.Last()
			if v == nil {
				return errors.New("no look yet")
			}
			var got []int
			for _, s := range v.Workers {
				got = append(got, s.PID)
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("seen are %v", got)
			}
			return nil
		})
	}
	seen(p.Pid())
	p.Kill(t)
	seen()
}
