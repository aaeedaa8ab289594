package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestPrefork: the example's workers are replaced, gracefully or not, and the
// metrics are those of all that ever were; in the end nothing is left.
func TestPrefork(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "prefork")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/promagg/promagg/examples/prefork").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir := t.TempDir()
	cmd := command(bin, "-listen", "127.0.0.1:0", "-workers", "3")
	cmd.Env = append(cmd.Env, "PROMETHEUS_MULTIPROC_DIR="+dir)
	parent := testpeer.Start(t, cmd)
	promagg := serve(t, dir)

	started := regexp.MustCompile(`worker started worker=(\d+)`)
	// workers waits until n workers have been started in all, and returns them.
	workers := func(n int) (pids []string) {
		t.Helper()
		testpeer.WaitFor(t, fmt.Sprintf("%d started workers", n), patience, func() error {
			if ended, err := parent.Exited(); ended {
				t.Fatalf("the parent has ended: %v", err)
			}
			pids = nil
			for _, m := range started.FindAllStringSubmatch(parent.Log(), -1) {
				pids = append(pids, m[1])
			}
			if len(pids) != n {
				return fmt.Errorf("there were %d", len(pids))
			}
			return nil
		})
		return pids
	}
	workers(3)
	url := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(parent.Log())[1]
	visits := 0.0
	visit := func() {
		t.Helper()
		if _, err := fetch(url + "/"); err != nil {
			t.Fatal(err)
		}
		visits++
	}
	// served checks that the visits and the living workers are served.
	served := func(alive []string) {
		t.Helper()
		testpeer.WaitFor(t, "the metrics", patience, func() error {
			e := promagg.scrape(t)
			if got := e.samples[sampleKey("prefork_visits_total", map[string]string{"name": "home"})]; got != visits {
				return fmt.Errorf("%v visits, %v counted", visits, got)
			}
			served := 0
			for _, pid := range alive {
				if _, ok := e.samples[sampleKey("prefork_worker_start_time_seconds", map[string]string{"pid": pid})]; !ok {
					return fmt.Errorf("worker %s is not served", pid)
				}
			}
			for key := range e.samples {
				if strings.HasPrefix(key, "prefork_worker_start_time_seconds") {
					served++
				}
			}
			if served != len(alive) {
				return fmt.Errorf("%d workers are served, %d are alive", served, len(alive))
			}
			return nil
		})
	}
	for range 20 {
		visit()
	}
	served(workers(3))

	// A graceful restart of all: no request fails while it goes on.
	testpeer.SignalPid(t, "HUP", parent.Pid())
	for deadline := time.Now().Add(patience); len(started.FindAllString(parent.Log(), -1)) < 6; visit() {
		if time.Now().After(deadline) {
			t.Fatal("no new workers")
		}
	}
	served(workers(6)[3:])

	// One that crashes is replaced.
	pids := workers(6)[3:]
	var victim int
	if _, err := fmt.Sscan(pids[0], &victim); err != nil {
		t.Fatal(err)
	}
	testpeer.SignalPid(t, "KILL", victim)
	served(workers(7)[4:])
	visit()
	served(workers(7)[4:]) // the visits that the killed one counted among them

	if err := parent.Stop(); err != nil {
		t.Errorf("on SIGTERM: %v", err)
	}
	testpeer.WaitFor(t, "nobody to listen", patience, func() error {
		if _, err := fetch(url); err == nil {
			return errors.New("somebody does")
		}
		return nil
	})
	served(nil)
}
