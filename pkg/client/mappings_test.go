//go:build !race

// The race detector needs mappings of its own at any moment, and ends the process where it
// gets none. "make test" runs this without it.

package client

import (
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// TestFewMappings: a process that may map no more keeps its values on the heap, and goes
// on.
func TestFewMappings(t *testing.T) {
	rerun(t, "true", func(dir string) {
		// The Go runtime needs mappings of its own where the heap grows.
		debug.SetGCPercent(-1)
		ballast := make([][]byte, 0, 64)
		for range cap(ballast) {
			ballast = append(ballast, make([]byte, 1<<20))
		}
		var log strings.Builder
		r := NewRegistry(Options{Dir: dir, ProcessID: "1", Logger: textLogger(&log)})
		c := NewCounterVec(CounterOpts{Name: "c_total", Help: "C."}, []string{"l"})
		r.MustRegister(c)
		c.WithLabelValues("placed").Inc()
		var room []*mmapfile.Writer
		for {
			w, err := mmapfile.Create(dir+"/filler", mmapfile.ValueTimestamp, 0)
			if err != nil {
				if !mmapfile.Exhausted(err) {
					t.Fatal(err)
				}
				break
			}
			if len(room) < 50 {
				room = append(room, w)
			} else if err := w.Release(); err != nil { // leaves its mapping
				t.Fatal(err)
			}
		}
		g := NewGauge(GaugeOpts{Name: "g", Help: "G."})
		r.MustRegister(g)
		g.Set(1)
		for _, w := range room {
			w.Close()
		}
		clear(ballast)
		wantUnplaced(t, r, syscall.ENOMEM, &log)
		if err := os.Remove(dir + "/filler"); err != nil {
			t.Error(err)
		}
		if got := merged(t, dir, mmapfile.ProbeAuto); got[`c_total l="placed"`] != 1 {
			t.Errorf("got %v", got)
		}
	})
}
