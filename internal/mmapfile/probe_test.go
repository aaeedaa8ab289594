package mmapfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

func TestProbeLease(t *testing.T) {
	for _, dir := range []string{t.TempDir(), testpeer.Shm(t)} {
		path := filepath.Join(dir, "counter_1.db")
		probe := func(what string, want State) {
			t.Helper()
			f, err := OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, p := range []Probe{ProbeAuto, ProbeLease, ProbePID} {
				if v := f.Probe(p); v.State != want || v.By != ProbeLease || v.Proven != (want == Dead) || v.Err != nil {
					t.Errorf("%s: %v by %v says %+v, want %v", path, what, p, v, want)
				}
			}
			if v := f.Probe(ProbeFlock); v.State != Dead || v.Proven {
				t.Errorf("%s: %v and not locked, probe flock says %+v", path, what, v)
			}
			if v := f.Probe(ProbeOff); v.State != Alive || v.By != ProbeOff {
				t.Errorf("%s: probe off says %v", what, v.State)
			}
		}
		w, err := Create(path, ValueOnly, 0)
		if err != nil {
			t.Fatal(err)
		}
		probe("open and mapped", Alive)
		// What counts is whether anyone can write: the mapping alone will do.
		if err := w.f.Close(); err != nil {
			t.Fatal(err)
		}
		probe("mapped, descriptor closed", Alive)
		w.Close()
		probe("closed", Dead)
		reader, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		probe("open for reading", Dead)
		reader.Close()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		probe("open for writing", Alive)
		f.Close()
		probe("closed again", Dead)
	}
}

// TestProbeRefused: where the kernel has no leases the answer is unknown, never
// dead. A device stands for a filesystem without them.
func TestProbeRefused(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	f := &File{path: os.DevNull, f: null}
	defer null.Close()
	if v := f.Probe(ProbeAuto); v.State != Unknown || v.Err == nil {
		t.Errorf("a file without leases is %v, %v", v.State, v.Err)
	}
}

// TestProbeUnprivileged looks as nobody at a file that somebody else owns.
func TestProbeUnprivileged(t *testing.T) {
	if testpeer.IsNobody() {
		f, err := OpenFile("counter_1.db")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if v := f.Probe(ProbeAuto); v.State != Unknown || v.Err == nil {
			t.Errorf("another user's file is %v, %v", v.State, v.Err)
		}
		return
	}
	dir := testpeer.Shm(t)
	image := NewImage(ValueOnly)
	image.Append([]byte(`["c", "c_total", {}, ""]`), 1, 0)
	if err := os.WriteFile(filepath.Join(dir, "counter_1.db"), image.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	testpeer.AsNobody(t, dir)
}

func TestParseProbe(t *testing.T) {
	for _, p := range []Probe{ProbeAuto, ProbeLease, ProbeFlock, ProbePID, ProbeOff} {
		if got, err := ParseProbe(p.String()); err != nil || got != p {
			t.Errorf("ParseProbe(%q) = %v, %v", p, got, err)
		}
	}
	if _, err := ParseProbe("pidfile"); err == nil {
		t.Error(`ParseProbe("pidfile") gives no error`)
	}
}
