package client

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// childEnv makes the test binary a process of TestKill: directory, directory of
// the progress file, increments.
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
// from several goroutines, each of which notes every increment that has returned
// in memory that outlives the process. It tells when it starts and when it is
// through, and then waits to be killed.
func killChild(args []string) error {
	increments, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	r := NewRegistry(Options{Dir: args[0]})
	shared := NewCounter(CounterOpts{Name: "shared_total", Help: "All processes."})
	own := NewCounterVec(CounterOpts{Name: "own_total", Help: "One goroutine."}, []string{"who"})
	seen := NewHistogram(HistogramOpts{Name: "seen", Help: "Observed.", Buckets: []float64{1, 2}})
	r.MustRegister(shared, own, seen)
	if err := r.Err(); err != nil {
		return err
	}
	progress, err := mmapfile.Create(filepath.Join(args[1], fmt.Sprintf("counter_%d.db", os.Getpid())), mmapfile.ValueTimestamp, 0)
	if err != nil {
		return err
	}
	fmt.Println("started")
	var working sync.WaitGroup
	for g := range killGoroutines {
		who := fmt.Sprintf("%d-%d", os.Getpid(), g)
		off, err := progress.Append(fmt.Appendf(nil, `["done", "done_total", {"who": "%s"}, ""]`, who))
		if err != nil {
			return err
		}
		done := progress.Value(off)
		working.Go(func() {
			for i := range increments / killGoroutines {
				shared.Inc()
				own.WithLabelValues(who).Inc()
				seen.Observe(float64(i % 3))
				done.Add(1)
			}
		})
	}
	working.Wait()
	fmt.Println("through")
	select {}
}

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
}

func killRound(t *testing.T, rnd *rand.Rand, increments int) {
	dir, progress := t.TempDir(), t.TempDir()
	var processes sync.WaitGroup
	var mu sync.Mutex // protects killed
	killed := 0
	for range 8 {
		// Two are killed at any time, the third once it is through.
		delays := [2]time.Duration{time.Duration(rnd.Int64N(int64(200 * time.Millisecond))), time.Duration(rnd.Int64N(int64(200 * time.Millisecond)))}
		processes.Go(func() {
			for _, delay := range delays {
				runChild(t, dir, progress, increments, delay)
				mu.Lock()
				killed++
				mu.Unlock()
			}
			runChild(t, dir, progress, increments, -1)
		})
	}
	processes.Wait()
	got, done := merged(t, dir, mmapfile.ProbeAuto), merged(t, progress, mmapfile.ProbeAuto)
	total := 0.0
	for key, n := range done {
		total += n
		own := got[strings.Replace(key, "done_total", "own_total", 1)]
		if own < n || own > n+1 {
			t.Errorf("%s: %v increments had returned, %v are there", key, n, own)
		}
	}
	if total < float64(8*(increments-killGoroutines)) {
		t.Errorf("only %v increments in all", total)
	}
	inFlight := float64(killed * killGoroutines)
	for _, key := range []string{"shared_total", "seen_count"} {
		if got[key] < total || got[key] > total+inFlight {
			t.Errorf("%s: %v increments had returned, at most %v were under way, %v are there", key, total, inFlight, got[key])
		}
	}
}

// runChild runs a process and kills it after delay, or once it is through if
// delay is negative.
func runChild(t *testing.T, dir, progress string, increments int, delay time.Duration) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", childEnv, dir, progress, increments))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "started" {
		t.Errorf("the process said %q", lines.Text())
	}
	if delay >= 0 {
		time.Sleep(delay) // the moment of the kill is what is random here
	} else if !lines.Scan() || lines.Text() != "through" {
		t.Errorf("the process said %q", lines.Text())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // says that it was killed
}
