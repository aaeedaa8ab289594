package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	metrics "github.com/promagg/promagg/pkg/client"
)

// goWorkerEnv makes the test binary a worker.
const goWorkerEnv = "PROMAGG_TEST_GO_WORKER"

// goWorker is promagg's own client doing what it is told: of what worker.py does,
// counters without labels, gauges, "sync" and "exec".
func goWorker(dir string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := command(self)
	// The race detector lets each process sleep for a second at its end.
	cmd.Env = append(cmd.Env, goWorkerEnv+"=1", "PROMETHEUS_MULTIPROC_DIR="+dir, "GORACE=atexit_sleep_ms=0")
	return cmd
}

var goModes = map[string]metrics.Mode{"livesum": metrics.ModeLiveSum, "liveall": metrics.ModeLiveAll}

func playGoWorker(in io.Reader, out io.Writer) error {
	counters, gauges := map[string]metrics.Counter{}, map[string]metrics.Gauge{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o op
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		switch o.Op {
		case "sync":
			fmt.Fprintln(out, os.Getpid())
		case "exec":
			return syscall.Exec("/bin/cat", []string{"cat"}, os.Environ())
		case "inc":
			if counters[o.Name] == nil {
				counters[o.Name] = metrics.NewCounter(metrics.CounterOpts{Name: o.Name, Help: "Written by a test."})
				metrics.MustRegister(counters[o.Name])
			}
			counters[o.Name].Add(o.Value)
		case "set":
			if gauges[o.Name] == nil {
				gauges[o.Name] = metrics.NewGauge(metrics.GaugeOpts{Name: o.Name, Help: "Written by a test.", Mode: goModes[o.Mode]})
				metrics.MustRegister(gauges[o.Name])
			}
			gauges[o.Name].Set(o.Value)
		default:
			return fmt.Errorf("no such op: %s", o.Op)
		}
	}
	return nil
}
