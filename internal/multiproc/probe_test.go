package multiproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// gauge is what a Python process does that has a live gauge.
const gauge = `
from prometheus_client import Gauge
Gauge("g", "G.", multiprocess_mode="livesum").set(5)
`

// TestProbePID: a process of that PID which has the file open or mapped writable is its
// writer, and no other.
func TestProbePID(t *testing.T) {
	dir := t.TempDir()
	pid, end := testpeer.PythonWriter(t, dir, gauge)
	probe := func(what, file string, id any, want mmapfile.State) {
		t.Helper()
		f, err := mmapfile.OpenFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v := probePID(mmapfile.Name{Type: mmapfile.Counter, ID: fmt.Sprint(id)}, f.ID())
		if v.State != want || v.By != mmapfile.ProbePID || v.Proven != (want == mmapfile.Dead) || (v.Err != nil) != (want == mmapfile.Unknown) {
			t.Errorf("%s: %+v, want %v", what, v, want)
		}
	}
	pythons := fmt.Sprintf("gauge_livesum_%d.db", pid)
	probe("alive", pythons, pid, mmapfile.Alive)
	probe("a slot of Ruby's", pythons, fmt.Sprint(pid, "-0"), mmapfile.Alive)
	probe("a process that has got its PID", pythons, os.Getpid(), mmapfile.Dead)
	probe("one of somebody else", pythons, os.Getppid(), mmapfile.Dead)
	probe("nobody's", pythons, 4194305, mmapfile.Dead)
	probe("no PID", pythons, "web-1", mmapfile.Unknown)
	write(t, dir, "counter_1.db", "c_total", 1)
	probe("one that has another file", "counter_1.db", pid, mmapfile.Dead)
	end()
	probe("ended", pythons, pid, mmapfile.Dead)
	f, err := os.OpenFile(filepath.Join(dir, pythons), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	probe("open, and about to be mapped", pythons, os.Getpid(), mmapfile.Alive)
	f.Close()
	probe("closed", pythons, os.Getpid(), mmapfile.Dead)
}

// TestLivenessForeignProc: where /proc shows another PID namespace than the process is
// in, the PIDs there are not looked at. Nobody is dead for that.
func TestLivenessForeignProc(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	if !testpeer.IsAgain() {
		testpeer.Again(t, t.TempDir(), testpeer.Unshare.Path(), "--pid", "--fork")
		return
	}
	v := probePID(mmapfile.Name{Type: mmapfile.Counter, ID: fmt.Sprint(os.Getpid())}, mmapfile.FileID{})
	if v.State != mmapfile.Unknown || v.Err == nil {
		t.Errorf("a process that lives: %+v", v)
	}
}

// TestLivenessPIDOfOthers: with --liveness=pid a writer that the kernel sees is alive,
// even if the process of that PID is another one, or there is none.
func TestLivenessPIDOfOthers(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbePID)
	w, _ := write(t, dir, fmt.Sprintf("gauge_livesum_%d.db", os.Getppid()), "other", 3)
	write(t, dir, "gauge_livesum_4194305.db", "nobody", 7)
	write(t, dir, "gauge_livesum_web-1.db", "named", 6)
	want(t, "alive", values(t, d), "other", 3, "nobody", 7, "named", 6)
	w.Close()
	want(t, "one is closed", values(t, d), "nobody", 7, "named", 6)
}

// TestLivenessUnproven: with --liveness=flock a Python process passes for dead. Only its
// live gauges are left out: its files are not frozen, and what it counts is served.
func TestLivenessUnproven(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeFlock)
	d.freeze(true) // as Run does
	pid, _ := testpeer.PythonWriter(t, dir, gauge+`
import signal
from prometheus_client import Counter
c = Counter("c", "C.")
c.inc(5)
signal.signal(signal.SIGUSR1, lambda *_: c.inc())
`)
	want(t, "at first", values(t, d), "c_total", 5)
	for count := 6.0; count < 10; count++ {
		d.Sync(true)
		if s := d.Stats(); s.Frozen != 0 || s.Probed[Probed{mmapfile.ProbeFlock, mmapfile.Dead}] != 2 || s.Dead != 2 {
			t.Errorf("%d frozen, %d dead, known: %v; want 0, 2 and 2 by flock", s.Frozen, s.Dead, s.Probed)
		}
		testpeer.SignalPid(t, "USR1", pid)
		testpeer.WaitFor(t, "what it counts", 10*time.Second, func() error {
			if got := values(t, d); got["c_total"] != count || len(got) != 1 {
				return fmt.Errorf("want %v, got %v", count, got)
			}
			return nil
		})
	}
}

// TestLivenessUnwritten: a file that nobody has written anything to is not frozen. It is
// there before its writer has it open: what that writes is in the next snapshot.
func TestLivenessUnwritten(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	for _, base := range []string{"counter_1.db", "gauge_max_1.db"} {
		if err := os.WriteFile(filepath.Join(dir, base), make([]byte, 4096), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "nothing yet", values(t, d))
	d.Sync(true)
	if s := d.Stats(); s.Dead != 2 || s.Frozen != 0 {
		t.Errorf("%d dead, %d frozen, want 2 and 0", s.Dead, s.Frozen)
	}
	write(t, dir, "counter_1.db", "c_total", 5)
	want(t, "written", values(t, d), "c_total", 5)
}

// TestUnprobed: what can't be known is said once for each thing that there is to do.
func TestUnprobed(t *testing.T) {
	d, log := open(t, t.TempDir(), mmapfile.ProbeAuto)
	lines := 0
	for _, tc := range []struct {
		by   mmapfile.Probe
		err  error
		hint string // none if nothing is to be said
	}{
		{mmapfile.ProbeLease, syscall.EACCES, "CAP_LEASE"},
		{mmapfile.ProbeLease, syscall.EPERM, "CAP_LEASE"},
		{mmapfile.ProbeLease, syscall.EINVAL, "has leases"},
		{mmapfile.ProbeLease, errors.ErrUnsupported, "has leases"},
		{mmapfile.ProbeLease, syscall.ENOENT, ""},
		{mmapfile.ProbeLease, syscall.EMFILE, ""},
		{mmapfile.ProbeFlock, syscall.ENOLCK, "has locks"},
		{mmapfile.ProbeFlock, syscall.ENOENT, ""},
		{mmapfile.ProbePID, errNoPID, "ids are their PIDs"},
		{mmapfile.ProbePID, syscall.EACCES, "namespace"},
		{mmapfile.ProbePID, syscall.ENOENT, "namespace"},
		{mmapfile.ProbePID, syscall.EMFILE, ""},
	} {
		fresh := tc.hint != "" && log.count("hint", tc.hint) == 0
		for range 2 {
			d.unprobedLocked(&file{base: "counter_1.db", verdict: mmapfile.Verdict{By: tc.by, Err: fmt.Errorf("probe: %w", tc.err)}})
		}
		if fresh {
			lines++
		}
		if n := log.count("can't tell whether writers are alive"); n != lines || tc.hint != "" && log.count("hint", tc.hint) != 1 {
			t.Errorf("%v, %v: %d lines, want %d, one with %q:\n%s", tc.by, tc.err, n, lines, tc.hint, log)
		}
	}
}

// TestLivenessOverlay: overlayfs gives a lease as soon as a writer has closed its
// descriptors, although it has its files mapped still. The process is looked at then.
func TestLivenessOverlay(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	if !testpeer.IsAgain() {
		dir := t.TempDir()
		testpeer.Again(t, dir, testpeer.OnOverlay(t, dir)...)
		return
	}
	d, _ := open(t, ".", mmapfile.ProbeAuto)
	d.freeze(true)
	pid, end := testpeer.PythonWriter(t, ".", gauge+`
import os
from prometheus_client import Counter
c = Counter("c", "C.")
c.inc(5)
for fd in range(3, 1000):
    try:
        os.close(fd)
    except OSError:
        pass
c.inc(5)
`)
	files := func(state mmapfile.State, by mmapfile.Probe, frozen int) {
		t.Helper()
		d.Sync(true)
		if s := d.Stats(); s.Probed[Probed{by, state}] != 2 || s.Frozen != frozen {
			t.Errorf("known: %v, %d frozen; want 2 %v by %v, %d frozen", s.Probed, s.Frozen, state, by, frozen)
		}
	}
	want(t, "alive", values(t, d), "g", 5, "c_total", 10)
	files(mmapfile.Alive, mmapfile.ProbePID, 0)
	if _, err := MarkDead(".", []string{fmt.Sprint(pid)}, false, false); !errors.Is(err, ErrWriters) {
		t.Errorf("MarkDead of a process that lives: %v", err)
	}
	end()
	want(t, "ended", values(t, d), "c_total", 10)
	files(mmapfile.Dead, mmapfile.ProbeLease, 1)
}

// TestCleanDenied: to stop the application does not help who may not ask whether it has
// stopped.
func TestCleanDenied(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		openToAll(t, dir)
		w, _ := write(t, dir, "counter_1.db", "c_total", 1)
		if err := errors.Join(w.Close(), os.Chmod(filepath.Join(dir, "counter_1.db"), 0o644)); err != nil {
			t.Fatal(err)
		}
		testpeer.AsNobody(t, dir)
		return
	}
	_, err := Clean(".", true, false)
	if !errors.Is(err, ErrWriters) || !strings.HasSuffix(err.Error(), "run promagg as their owner, or as root") {
		t.Error(err)
	}
}

// TestProbeFlock: whoever locks the file is its writer, which Python does not do.
func TestProbeFlock(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeFlock)
	d.run(true) // which leaves to Run what is proven dead
	testpeer.PythonWriter(t, dir, gauge)
	claim := func() *mmapfile.Writer {
		t.Helper()
		w, err := mmapfile.Claim(filepath.Join(dir, "gauge_livesum_1.db"), mmapfile.ValueTimestamp, 0, func([]byte, uint32) {})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	claimed := claim()
	off, err := claimed.Append([]byte(`["mine", "mine", {}, ""]`))
	if err != nil {
		t.Fatal(err)
	}
	claimed.Set(off, 3)
	want(t, "locked", values(t, d), "mine", 3)
	if err := claimed.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, "given up", values(t, d))
	claimed = claim()
	defer claimed.Close()
	want(t, "locked again", values(t, d), "mine", 3)
}

// TestProbeAutoUnprivileged: without the right to leases, a lock tells of a writer. The
// lack of one tells nothing, whatever client wrote the file: the rest is unknown and
// counts as alive.
func TestProbeAutoUnprivileged(t *testing.T) {
	if testpeer.IsNobody() {
		d, log := open(t, ".", mmapfile.ProbeAuto)
		want(t, "as nobody", values(t, d), "locked", 1, "ruby", 2, "python", 3)
		if log.count("can't tell whether writers are alive") != 1 {
			t.Errorf("logged:\n%s", log)
		}
		states := make(map[string]string)
		for base, f := range d.files {
			states[strings.TrimSuffix(base, ".db")] = f.verdict.State.String() + " by " + f.verdict.By.String()
		}
		for base, state := range map[string]string{
			"gauge_livesum_1": "alive by flock", "gauge_livesum_2-0": "unknown by lease", "gauge_livesum_3": "unknown by lease",
		} {
			if states[base] != state {
				t.Errorf("%s: %s, want %s", base, states[base], state)
			}
		}
		return
	}
	dir := testpeer.Shm(t)
	put := func(base, key string, v float64, make func(path string) (*mmapfile.Writer, error)) {
		w, err := make(filepath.Join(dir, base))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		off, err := w.Append([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		w.Set(off, v)
	}
	unlocked := func(path string) (*mmapfile.Writer, error) { return mmapfile.Create(path, mmapfile.ValueOnly, 0) }
	locked := func(path string) (*mmapfile.Writer, error) {
		return mmapfile.Claim(path, mmapfile.ValueOnly, 0, func([]byte, uint32) {})
	}
	put("gauge_livesum_1.db", `["locked", "locked", {}, ""]`, 1, locked)
	put("gauge_livesum_2-0.db", `["ruby","ruby",[],[]]`, 2, unlocked)
	put("gauge_livesum_3.db", `["python", "python", {}, ""]`, 3, unlocked)
	testpeer.AsNobody(t, dir)
}
