package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// booted counts the workers that gunicorn has started.
func (g *gunicorn) booted() float64 {
	return float64(len(regexp.MustCompile(`Booting worker with pid: \d+`).FindAllString(g.Log(), -1)))
}

// own are promagg's own metrics, as own_*, which others don't want among the samples.
func (p *promagg) own(t testing.TB) map[string]float64 {
	t.Helper()
	e, err := parseExposition(strings.NewReplacer("\npromagg_", "\nown_", " promagg_", " own_").Replace(p.get(t, "/metrics")))
	if err != nil {
		t.Fatal(err)
	}
	return e.samples
}

// resident is what /proc/PID/stat has, in bytes; it is what process_resident_memory_bytes
// is in all clients. The kernel counts more exactly for others, such as statm.
func resident(pid string) float64 {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third on
	pages, err := strconv.Atoi(fields[24-3])
	if err != nil {
		return 0
	}
	return float64(pages * os.Getpagesize())
}

// TestWorkerMetrics: gunicorn's workers end after some requests, and are killed. Each
// start and each death counts once, CPU time never falls, and what the living have is
// what /proc has.
func TestWorkerMetrics(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	const workers = 3
	dir := t.TempDir()
	p := serve(t, dir, "--fold.interval", "1s").ready(t)
	each := serve(t, dir, "--worker-metrics", "per-process", "--fold=false").ready(t)
	g := startGunicorn(t, dir, workers, "--max-requests", "40")

	// CPU time is looked at all the time.
	stop := make(chan struct{})
	var scraping sync.WaitGroup
	var fell error
	scraping.Go(func() {
		for last := 0.0; ; {
			select {
			case <-stop:
				return
			default:
			}
			body, err := fetch("http://" + p.address + "/metrics?name[]=promagg_worker_cpu_seconds_total")
			if err != nil {
				fell = err
				return
			}
			m := regexp.MustCompile(`(?m)^promagg_worker_cpu_seconds_total (\S+)$`).FindStringSubmatch(body)
			if m == nil {
				if last > 0 {
					fell = fmt.Errorf("no CPU time after %v s", last)
					return
				}
				continue
			}
			v, err := strconv.ParseFloat(m[1], 64)
			if err != nil || v < last {
				fell = fmt.Errorf("CPU time is %v s after %v s (%v)", v, last, err)
				return
			}
			last = v
		}
	})
	stopScraping := sync.OnceFunc(func() { close(stop); scraping.Wait() })
	t.Cleanup(stopScraping)

	settled := func(what string) {
		t.Helper()
		testpeer.WaitFor(t, what+": what /proc has", patience, func() error {
			living := g.workers(t)
			if len(living) != workers {
				return fmt.Errorf("%d workers", len(living))
			}
			e, one := p.own(t), each.own(t)
			sum := 0.0
			for pid := range living {
				sum += resident(pid)
				for _, name := range []string{"cpu_seconds_total", "open_fds", "start_time_seconds", "threads"} {
					if one[sampleKey("own_worker_"+name, map[string]string{"pid": pid})] <= 0 {
						return fmt.Errorf("%s has no %s", pid, name)
					}
				}
				if got := one[sampleKey("own_worker_resident_memory_bytes", map[string]string{"pid": pid})]; got != resident(pid) {
					return fmt.Errorf("%s has %v bytes, %v are served", pid, resident(pid), got)
				}
			}
			for key := range one {
				if strings.HasPrefix(key, "own_worker_threads{") {
					if m := regexp.MustCompile(`pid="(\d+)"`).FindStringSubmatch(key); m == nil || !living[m[1]] {
						return fmt.Errorf("there is %s", key)
					}
				}
			}
			starts, deaths, alive := e[sampleKey("own_worker_starts_total", nil)], e[sampleKey("own_worker_deaths_total", nil)],
				e[sampleKey("own_workers", map[string]string{"state": "alive"})]
			if booted := g.booted(); starts != booted || deaths != booted-workers || alive != workers {
				return fmt.Errorf("%v started, %v ended, %v alive, of %v that were booted", starts, deaths, alive, booted)
			}
			if got := e[sampleKey("own_worker_resident_memory_bytes", nil)]; got != sum {
				return fmt.Errorf("%v bytes in all, %v are served", sum, got)
			}
			return nil
		})
	}
	settled("at the start")
	for range 3 {
		g.request(t, 150)
		for pid := range g.workers(t) {
			victim, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			testpeer.SignalPid(t, "KILL", victim)
			testpeer.Ended(t, victim)
			break
		}
		settled("one is killed")
	}
	if stopScraping(); fell != nil {
		t.Error(fell)
	}
	if n := g.booted(); n < 6 {
		t.Errorf("only %v workers were started", n)
	}
}

// TestWorkerMetricsElsewhere: workers of another PID namespace are alive and not seen,
// and nothing is said of what they cost.
func TestWorkerMetricsElsewhere(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	dir := t.TempDir()
	for i, client := range []string{"python", "ruby", "go"} {
		startWriter(t, client, dir, float64(i+1))
	}
	here := serve(t, dir, "--fold=false").ready(t)
	there := serveUnder(t, []string{testpeer.Unshare.Path(), "--pid", "--fork", "--mount-proc"}, dir, "--fold=false").ready(t)
	none := serve(t, dir, "--fold=false", "--worker-metrics=off").ready(t)
	for _, c := range []struct {
		*promagg
		hidden, start float64
	}{{here, 0, 2}, {there, 3, 0}} {
		testpeer.WaitFor(t, "a look at the workers", patience, func() error {
			e := c.own(t)
			hidden, ok := e[sampleKey("own_workers_unseen", map[string]string{"reason": "hidden"})]
			if !ok {
				return errors.New("none yet")
			}
			start := 0.0
			for key := range e {
				if strings.HasPrefix(key, "own_worker_start_time_seconds") {
					start++
				}
			}
			_, threads := e[sampleKey("own_worker_threads", nil)]
			alive := e[sampleKey("own_workers", map[string]string{"state": "alive"})]
			if hidden != c.hidden || start != c.start || threads != (c.start > 0) || alive != 3 {
				return fmt.Errorf("%v are alive and %v hidden, with %v start times; want 3, %v and %v", alive, hidden, start, c.hidden, c.start)
			}
			return nil
		})
	}
	text := none.get(t, "/metrics")
	if strings.Contains(text, "promagg_worker_threads") || strings.Contains(text, "promagg_workers_unseen") {
		t.Error("with --worker-metrics=off there are metrics of workers' processes")
	}
	if !strings.Contains(text, "\npromagg_workers{state=\"alive\"} 3\n") {
		t.Error("with --worker-metrics=off the workers are not counted")
	}
}
