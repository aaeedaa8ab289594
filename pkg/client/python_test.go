package client

import (
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestPythonReads: the Python client's own collector reads our files and agrees.
// Debian's version knows the value-only layout.
func TestPythonReads(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	for i, id := range []string{"1", "2"} {
		opts := Options{Dir: dir, ProcessID: id, ValueOnly: true}
		r := NewRegistry(opts)
		defer r.Close()
		c := NewCounterVec(CounterOpts{Name: "requests_total", Help: "Requests \"quoted\"\nand more."}, []string{"path", "code"})
		h := NewHistogramVec(HistogramOpts{Name: "took_seconds", Help: "Time.", Buckets: []float64{0.1, 1, 1e6}}, []string{"l"})
		s := NewSummary(SummaryOpts{Name: "size_bytes", Help: "Sizes."})
		r.MustRegister(c, h, s)
		for m := ModeAll; m <= ModeLiveSum; m++ {
			g := NewGauge(GaugeOpts{Name: "g_" + m.String(), Help: "G.", Mode: m})
			r.MustRegister(g)
			g.Set(float64(i + 3))
		}
		c.WithLabelValues("/a\\b\"c\n日本🚀", "200").Add(float64(i + 1))
		h.WithLabelValues("x").Observe(0.5)
		h.WithLabelValues("x").Observe(2e6)
		s.Observe(0.25)
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
	}
	const script = `
import sys
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
sys.stdout.buffer.write(generate_latest(registry))
`
	cmd := exec.Command(testpeer.Python.Path(), "-c", script)
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	python, _ := fixture.Parse(t, out)
	delete(python, unplacedName)
	if len(python) < 18 {
		t.Fatalf("Python reads %d samples:\n%s", len(python), out)
	}
	if diff := cmp.Diff(python, merged(t, dir, mmapfile.ProbeOff), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Errorf("-Python +promagg:\n%s", diff)
	}
}
