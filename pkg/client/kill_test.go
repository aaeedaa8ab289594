package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// childEnv makes the test binary a process of TestKill: its directory, its name,
// how many increments it is to make.
const childEnv = "PROMAGG_TEST_KILL_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := killChild(strings.Split(args, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const killGoroutines = 3

// killChild increments a counter that all processes share and one of its own
// from several goroutines. Each tells its own pipe, by a byte, of every increment
// that has returned: what is in a pipe outlives the process. Then it waits to be
// killed.
func killChild(args []string) error {
	dir, name := args[0], args[1]
	increments, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	r := NewRegistry(Options{Dir: dir})
	shared := NewCounter(CounterOpts{Name: "shared_total", Help: "All processes."})
	own := NewCounterVec(CounterOpts{Name: "own_total", Help: "One goroutine."}, []string{"who"})
	seen := NewHistogram(HistogramOpts{Name: "seen", Help: "Observed.", Buckets: []float64{1, 2}})
	r.MustRegister(shared, own, seen)
	if err := r.Err(); err != nil {
		return err
	}
	var failed atomic.Bool
	var working sync.WaitGroup
	for g := range killGoroutines {
		who, done := killWho(name, g), os.NewFile(uintptr(3+g), "done")
		working.Go(func() {
			for i := range increments {
				shared.Inc()
				own.WithLabelValues(who).Inc()
				seen.Observe(float64(i % 3))
				if _, err := done.Write([]byte{0}); err != nil {
					failed.Store(true)
					return
				}
			}
		})
	}
	working.Wait()
	if failed.Load() {
		return errors.New("can't tell what has been done")
	}
	select {}
}

// killWho names a goroutine of a process.
func killWho(name string, goroutine int) string { return fmt.Sprintf("%s-%d", name, goroutine) }

// TestKill: what an update has returned from, no SIGKILL undoes, and of the
// update that it hits at most that one counts.
func TestKill(t *testing.T) {
	rnd := testpeer.Rand(t)
	rounds, increments := 3, 100_000
	if n, err := strconv.Atoi(os.Getenv("PROMAGG_TEST_KILL_ROUNDS")); err == nil {
		rounds, increments = n, 1_000_000
	}
	for round := range rounds {
		killRound(t, rnd, increments)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("%d rounds of 8 processes with %d increments each, and 16 that were killed before", rounds, increments)
}

// killIDs are the ids of the 8 processes and those that they replace: the PID, so
// that each has files of its own; one that its predecessor had, so that it goes
// on with the values of a process that was killed; one that two have at once.
var killIDs = [8]string{"", "", "", "", "a", "b", "web", "web"}

// killRound runs 8 processes, each in the place of two that were killed before
// they were through.
func killRound(t *testing.T, rnd *rand.Rand, increments int) {
	dir := t.TempDir()
	each := increments / killGoroutines
	var processes sync.WaitGroup
	var mu sync.Mutex // protects done
	done := make(map[string]float64)
	for slot, id := range killIDs {
		whole := each * killGoroutines
		killAt := []int{rnd.IntN(whole), rnd.IntN(whole), whole}
		processes.Go(func() {
			for i, n := range killAt {
				name := fmt.Sprintf("%d.%d", slot, i)
				told := runChild(t, dir, id, name, each, n)
				mu.Lock()
				for g := range told {
					done[killWho(name, g)] = float64(told[g])
				}
				mu.Unlock()
			}
		})
	}
	processes.Wait()
	got := merged(t, dir, mmapfile.ProbeAuto)
	total := 0.0
	for who, n := range done {
		total += n
		if own := got[fmt.Sprintf("own_total who=%q", who)]; own < n || own > n+1 {
			t.Errorf("%s: %v increments had returned, %v are there", who, n, own)
		}
	}
	if total < float64(8*each*killGoroutines) {
		t.Errorf("only %v increments in all", total)
	}
	files, err := filepath.Glob(filepath.Join(dir, "counter_[a-z]*.db"))
	if err != nil || len(files) == 0 || len(files) >= 4*3 {
		t.Errorf("12 processes with ids of their own left %q, %v; want fewer files, as some go on where others were killed", files, err)
	}
	inFlight := float64(len(done))
	for _, key := range []string{"shared_total", "seen_count"} {
		if got[key] < total || got[key] > total+inFlight {
			t.Errorf("%s: %v increments had returned, at most %v were under way, %v are there", key, total, inFlight, got[key])
		}
	}
}

// runChild runs a process, kills it when it has told of killAt increments, and
// returns how many each of its goroutines has told of in the end.
func runChild(t *testing.T, dir, id, name string, each, killAt int) (told [killGoroutines]int) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", childEnv, dir, name, each), "PROMAGG_PROCESS_ID="+id)
	cmd.Stderr = os.Stderr
	var ends []*os.File
	for range killGoroutines {
		r, w, err := os.Pipe()
		if err != nil {
			t.Error(err)
			return told
		}
		defer r.Close()
		ends = append(ends, r)
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
	}
	err := cmd.Start()
	for _, w := range cmd.ExtraFiles {
		w.Close() // so that reading ends with the process
	}
	if err != nil {
		t.Error(err)
		return told
	}
	var all atomic.Int64
	var reading sync.WaitGroup
	for g, r := range ends {
		reading.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := r.Read(buf)
				told[g] += n
				if before := all.Add(int64(n)) - int64(n); before <= int64(killAt) && before+int64(n) >= int64(killAt) {
					_ = cmd.Process.Kill() // an error: it has ended
				}
				if err != nil {
					return
				}
			}
		})
	}
	reading.Wait()
	_ = cmd.Wait() // says that it was killed
	if n := int(all.Load()); n < killAt {
		t.Errorf("process %s ended after %d of %d increments: %v", name, n, killAt, cmd.ProcessState)
	}
	return told
}
