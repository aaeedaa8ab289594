package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestLivenessNamespaces: whatever kills a worker, its live gauges are gone from the
// very next scrape and all else it has written is not. No PID is comparable
// between the two sides where a PID namespace stands between them.
func TestLivenessNamespaces(t *testing.T) {
	namespace := []string{"--pid", "--fork", "--mount-proc"}
	for _, tc := range []struct {
		name             string
		workers, promagg bool // in a PID namespace of its own
	}{
		{name: "same namespace"},
		{name: "workers in a namespace", workers: true},
		{name: "promagg in a namespace", promagg: true},
		{name: "each in a namespace", workers: true, promagg: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testpeer.Require(t, testpeer.Python)
			var aroundWorkers, aroundPromagg []string
			if tc.workers || tc.promagg {
				testpeer.Require(t, testpeer.Unshare)
				unshare := append([]string{testpeer.Unshare.Path()}, namespace...)
				if tc.workers {
					aroundWorkers = unshare
				}
				if tc.promagg {
					aroundPromagg = unshare
				}
			}
			dir := t.TempDir()
			p := startPool(t, aroundWorkers, dir, 3)
			served := serveUnder(t, aroundPromagg, dir).ready(t)

			check := func(what string, living ...bool) {
				t.Helper()
				got := served.scrape(t)
				checkSamples(t, what, got.samples, p.want(living))
			}
			check("all alive", true, true, true)

			p.pool.ask(t, "kill 0")
			check("worker 0 killed", false, true, true)

			// Standing still is not death: the values can still change.
			p.pool.ask(t, "stop 1")
			check("worker 1 stopped", false, true, true)
			p.pool.ask(t, "cont 1")
			check("worker 1 continued", false, true, true)
			p.pool.ask(t, "stop 1")
			p.pool.ask(t, "kill 1")
			check("worker 1 killed as it stood", false, false, true)

			p.pool.ask(t, "kill 2")
			check("all killed", false, false, false)
			checkSamples(t, "merge, all killed", merge(t, dir).samples, p.want([]bool{false, false, false}))
			checkSamples(t, "merge with liveness off", merge(t, dir, "--liveness", "off").samples,
				p.want([]bool{true, true, true}))
		})
	}
}

// livePool is a pool.py whose workers have each set a gauge of every mode and a counter.
type livePool struct {
	pool  *worker
	modes []string
	pids  []string // as the workers themselves know them
}

func startPool(t *testing.T, prefix []string, dir string, n int) *livePool {
	t.Helper()
	cmd := python(dir, "pool.py", strconv.Itoa(n))
	around := command(append(slices.Clone(prefix), cmd.Args...)...)
	around.Env = cmd.Env
	p := &livePool{pool: startWorker(t, around)}
	if err := json.Unmarshal([]byte(p.pool.ask(t, `0 {"op": "modes"}`)), &p.modes); err != nil {
		t.Fatal(err)
	}
	if len(p.modes) < 8 {
		t.Fatalf("the client has the gauge modes %v, want at least the 8 of version 0.16", p.modes)
	}
	for i := range n {
		tell := func(o op) { p.pool.send(t, fmt.Sprintf("%d %s", i, o)) }
		for _, mode := range p.modes {
			labels := map[string]string{"where": "here"}
			tell(op{Op: "set", Type: "gauge", Name: "level_" + mode, Mode: mode, Labels: labels, Value: level(i)})
			tell(op{Op: "set", Type: "gauge", Name: "plain_" + mode, Mode: mode, Value: level(i)})
		}
		tell(op{Op: "inc", Type: "counter", Name: "work", Value: level(i)})
		tell(op{Op: "observe", Type: "summary", Name: "took", Value: level(i)})
		// Answers once the worker has done all that: the workers set their gauges one after the other.
		p.pids = append(p.pids, p.pool.ask(t, fmt.Sprintf("%d %s", i, op{Op: "sync"})))
	}
	return p
}

// level is what worker i writes everywhere.
func level(i int) float64 { return float64(10 * (i + 1)) }

// want is what promagg must serve, worker by worker.
func (p *livePool) want(living []bool) map[string]float64 {
	want := map[string]float64{}
	for i := range p.pids {
		want[sampleKey("work_total", nil)] += level(i)
		want[sampleKey("took_count", nil)]++
		want[sampleKey("took_sum", nil)] += level(i)
	}
	for _, mode := range p.modes {
		values := map[string][]float64{} // by pid label, in the order of writing
		for i, pid := range p.pids {
			if strings.HasPrefix(mode, "live") && !living[i] {
				continue
			}
			if !strings.HasSuffix(mode, "all") {
				pid = ""
			}
			values[pid] = append(values[pid], level(i))
		}
		for pid, vs := range values {
			for name, labels := range map[string]map[string]string{
				"level_" + mode: {"where": "here"},
				"plain_" + mode: {},
			} {
				if pid != "" {
					labels["pid"] = pid
				}
				want[sampleKey(name, labels)] = mergedGauge(strings.TrimPrefix(mode, "live"), vs)
			}
		}
	}
	return want
}

// mergedGauge merges the values of one series, given in the order of writing.
func mergedGauge(mode string, values []float64) float64 {
	switch mode {
	case "min", "max":
		// Compared in such a way that a NaN never wins.
		best := math.NaN()
		for _, v := range values {
			if math.IsNaN(best) || mode == "min" && v < best || mode == "max" && v > best {
				best = v
			}
		}
		return best
	case "sum":
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return sum
	default: // all, mostrecent
		return values[len(values)-1]
	}
}
