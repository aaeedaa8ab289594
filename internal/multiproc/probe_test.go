package multiproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// gauge is what a Python process does that has a live gauge.
const gauge = `
from prometheus_client import Gauge
Gauge("g", "G.", multiprocess_mode="livesum").set(5)
`

// TestProbePID: a process of that PID which has the file mapped is its writer, and
// no other.
func TestProbePID(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbePID)
	pid, end := testpeer.PythonWriter(t, dir, gauge)
	// A process that has got a dead one's PID: this one.
	write(t, dir, fmt.Sprintf("gauge_livesum_%d.db", os.Getppid()), "other", 3)
	mine, _ := write(t, dir, fmt.Sprintf("gauge_livesum_%d.db", os.Getpid()), "mine", 4)
	// Ids that are no PIDs, and one that nobody has.
	write(t, dir, "gauge_livesum_web-1.db", "unknown", 6)
	write(t, dir, "gauge_livesum_4194305.db", "nobody", 7)
	want(t, "alive", values(t, d), "g", 5, "mine", 4, "unknown", 6)
	if v := probePID(mmapfile.Name{Type: mmapfile.Counter, ID: fmt.Sprint(pid)}, mmapfile.FileID{}); v.State != mmapfile.Dead {
		t.Errorf("a process that lives and has another file mapped: %v, %v", v.State, v.Err)
	}
	mine.Close()
	want(t, "one has unmapped its file", values(t, d), "g", 5, "unknown", 6)
	end()
	want(t, "Python has ended", values(t, d), "unknown", 6)
}

// TestProbeFlock: whoever locks the file is its writer, which Python does not do.
func TestProbeFlock(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeFlock)
	testpeer.PythonWriter(t, dir, gauge)
	claimed, err := mmapfile.Claim(filepath.Join(dir, "gauge_livesum_1.db"), mmapfile.ValueTimestamp, 0, func([]byte, uint32) {})
	if err != nil {
		t.Fatal(err)
	}
	defer claimed.Close()
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
}

// TestProbeAutoUnprivileged: without the right to leases, locks tell what they can,
// the rest is unknown and counts as alive.
func TestProbeAutoUnprivileged(t *testing.T) {
	if testpeer.IsNobody() {
		d, log := open(t, ".", mmapfile.ProbeAuto)
		got := values(t, d)
		want(t, "as nobody", got, "locked", 1, "python", 3)
		if log.count("can't tell whether writers are alive") != 1 {
			t.Errorf("logged:\n%s", log)
		}
		states := make(map[string]string)
		for base, f := range d.files {
			states[strings.TrimSuffix(base, ".db")] = f.verdict.State.String() + " by " + f.verdict.By.String()
		}
		for base, state := range map[string]string{
			"gauge_livesum_1": "alive by flock", "gauge_livesum_2-0": "dead by flock", "gauge_livesum_3": "unknown by lease",
		} {
			if states[base] != state {
				t.Errorf("%s: %s, want %s", base, states[base], state)
			}
		}
		return
	}
	dir, err := os.MkdirTemp("/dev/shm", "promagg-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
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
