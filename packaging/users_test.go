package packaging

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// The users of TestTwoUsers; nobody has these numbers.
const (
	daemonID = "64801" // promagg, user and group
	workerID = "64802" // the application
)

// TestTwoUsers: in a directory as the units make it, workers of one user are served and
// folded by a promagg of another, which has CAP_LEASE and no other capability. Without
// that it serves, and folds nothing.
func TestTwoUsers(t *testing.T) {
	testpeer.Require(t, testpeer.Python, testpeer.Setpriv)
	testpeer.Nobody(t) // skips where users can't be changed
	for _, tc := range []struct {
		name, caps, knows string
		folds             bool
	}{
		{"CAP_LEASE", "-all,+lease", "alive", true},
		{"no capability", "-all", "unknown", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(testpeer.Shm(t), "metrics")
			// chown first: it takes the setgid bit away.
			for _, make := range [][]string{{"mkdir", dir}, {"chown", daemonID + ":" + daemonID, dir}, {"chmod", "2770", dir}} {
				run(t, make[0], make[1:]...)
			}
			pa := testpeer.Start(t, exec.Command(testpeer.Setpriv.Path(), "--reuid="+daemonID, "--regid="+daemonID, "--clear-groups",
				"--bounding-set="+tc.caps, "--inh-caps="+tc.caps, "--ambient-caps="+tc.caps, "--no-new-privs", "--",
				"sh", "-c", `umask 0077 && exec "$@"`, "sh",
				testpeer.Promagg(t), "serve", "--dir", dir, "--web.listen-address=127.0.0.1:0", "--fold.interval=50ms"))
			metrics := address(t, pa)

			// The worker, with promagg's group as a further one.
			worker := testpeer.Start(t, workerCommand(dir))
			awaitMetric(t, metrics, `^orders_total 3$`)
			awaitMetric(t, metrics, `^promagg_probed_files\{probe="lease",state="`+tc.knows+`"\} 2$`)
			awaitMetric(t, metrics, `^busy 1$`)
			worker.Kill(t)
			if !tc.folds {
				// Its last word is what any later would be: nothing of the dead is known.
				awaitMetric(t, metrics, `^promagg_files\{state="alive",type="counter"\} 1$`)
				awaitMetric(t, metrics, `^promagg_files\{state="alive",type="gauge"\} 1$`)
				awaitMetric(t, metrics, `^busy 1$`)
				return
			}
			testpeer.WaitFor(t, "the files to be folded", patience, func() error {
				names := strings.Fields(run(t, "ls", dir))
				if strings.Join(names, " ") != "counter_archived.db" {
					return fmt.Errorf("the directory has %v", names)
				}
				return nil
			})
			awaitMetric(t, metrics, `^orders_total 3$`)
			if body, err := fetch(metrics); err != nil || regexp.MustCompile(`(?m)^busy `).MatchString(body) {
				t.Errorf("the live gauge of a dead worker is served (%v):\n%s", err, body)
			}
			// Workers may go on reading the archive, and others may not.
			if got, want := strings.TrimSpace(run(t, "stat", "--format=%u:%g %a", filepath.Join(dir, "counter_archived.db"))), daemonID+":"+daemonID+" 640"; got != want {
				t.Errorf("the archive is of %s, want %s", got, want)
			}

			// A new worker with the old one's files gone counts on, and clean, as
			// ExecStartPre runs it, removes nothing while it lives.
			testpeer.Start(t, workerCommand(dir))
			awaitMetric(t, metrics, `^orders_total 6$`)
			clean := exec.Command(testpeer.Setpriv.Path(), "--reuid="+daemonID, "--regid="+daemonID, "--clear-groups",
				"--bounding-set="+tc.caps, "--inh-caps="+tc.caps, "--ambient-caps="+tc.caps, "--", testpeer.Promagg(t), "clean", "--dir", dir)
			out, err := clean.CombinedOutput()
			if !errors.As(err, new(*exec.ExitError)) || !strings.Contains(string(out), "stop the application first") {
				t.Errorf("clean with a living worker: %v\n%s", err, out)
			}
			awaitMetric(t, metrics, `^orders_total 6$`)
		})
	}
}

// workerCommand runs a Python worker that has counted to 3.
func workerCommand(dir string) *exec.Cmd {
	cmd := exec.Command(testpeer.Setpriv.Path(), "--reuid="+workerID, "--regid="+workerID, "--groups="+daemonID, "--bounding-set=-all", "--inh-caps=-all", "--",
		"sh", "-c", `umask 0027 && exec "$@"`, "sh", testpeer.Python.Path(), "-c", `
import time
from prometheus_client import Counter, Gauge
Counter("orders", "Orders.").inc(3)
Gauge("busy", "Busy workers.", multiprocess_mode="livesum").set(1)
time.sleep(3600)`)
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir)
	return cmd
}

// address returns where a promagg serves metrics.
func address(t *testing.T, p *testpeer.Process) (url string) {
	t.Helper()
	bound := regexp.MustCompile(`msg="?listening"? .*address="?([0-9.:]+)`)
	testpeer.WaitFor(t, "promagg to listen", patience, func() error {
		m := bound.FindStringSubmatch(p.Log())
		if m == nil {
			return fmt.Errorf("no line with the address: %s", p.Log())
		}
		url = "http://" + m[1] + "/metrics"
		return nil
	})
	return url
}

// awaitMetric waits until the metrics have a line that matches.
func awaitMetric(t *testing.T, url, pattern string) {
	t.Helper()
	want := regexp.MustCompile("(?m)" + pattern)
	testpeer.WaitFor(t, pattern, patience, func() error {
		body, err := fetch(url)
		if err == nil && !want.MatchString(body) {
			err = fmt.Errorf("not in:\n%s", body)
		}
		return err
	})
}
