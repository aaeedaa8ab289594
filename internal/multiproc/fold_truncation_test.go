//go:build !race

// The race detector makes loads of its own, in code that Go can't unwind: a page that
// goes away in that very moment ends the process. "make test" runs this without it.

package multiproc

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestFoldUnderTruncation: files lose and get pages again all the time while they are
// mapped, claimed and read. Nothing dies of that (of SIGBUS, that is), and the sound
// ones' values are what they were.
func TestFoldUnderTruncation(t *testing.T) {
	l := newLitter(t, t.TempDir())
	for round := range 20 {
		for i := range 3 {
			w, _ := write(t, l.dir, fmt.Sprintf("counter_%d.db", 40+i), "victim_total", 1)
			for j := range 300 {
				if _, err := w.Append(fmt.Appendf(nil, `["victim", "victim_total", {"j": "%d"}, ""]`, j)); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
		}
		values(t, l.d)
		stop := make(chan struct{})
		var cutting sync.WaitGroup
		cutting.Go(func() {
			for pages := int64(0); ; pages = (pages + 3) % 5 {
				select {
				case <-stop:
					return
				default:
				}
				files, err := filepath.Glob(filepath.Join(l.dir, "counter_4?*.db"))
				if err != nil {
					t.Error(err)
				}
				for _, path := range files {
					if err := os.Truncate(path, pages*4096); err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				}
			}
		})
		for range 5 {
			if err := l.round(t); err != nil {
				t.Error(err)
			}
			got := values(t, l.d)
			delete(got, "victim_total")
			want(t, fmt.Sprintf("round %d, the sound ones", round), got, "c_total", inAll, "max", 2, "all", 7)
		}
		close(stop)
		cutting.Wait()
		for i := range 3 { // what is left of them
			if err := os.Remove(filepath.Join(l.dir, fmt.Sprintf("counter_%d.db", 40+i))); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
}
