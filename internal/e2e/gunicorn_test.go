package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// gunicorn is app.py under gunicorn with some workers and options, all of it
// unmodified.
type gunicorn struct {
	*testpeer.Process
	url    string
	client *http.Client
}

func startGunicorn(t *testing.T, dir string, workers int, options ...string) *gunicorn {
	t.Helper()
	argv := append([]string{testpeer.Gunicorn.Path(), "-m", "gunicorn",
		"--workers", strconv.Itoa(workers), "--bind", "127.0.0.1:0", "--chdir", testdata(".")}, options...)
	cmd := command(append(argv, "app:app")...)
	cmd.Env = append(cmd.Env, "PROMETHEUS_MULTIPROC_DIR="+dir)
	g := &gunicorn{Process: testpeer.Start(t, cmd), client: client}
	listening := regexp.MustCompile(`Listening at: (http://127\.0\.0\.1:[0-9]+)`)
	testpeer.WaitFor(t, "gunicorn to listen", patience, func() error {
		m := listening.FindStringSubmatch(g.Log())
		if m == nil {
			return errors.New("no line with its address yet")
		}
		g.url = m[1]
		return nil
	})
	testpeer.WaitFor(t, "gunicorn's workers", patience, func() error {
		if n := len(g.workers(t)); n != workers {
			return fmt.Errorf("%d workers", n)
		}
		return nil
	})
	return g
}

// workers are the PIDs of the worker processes.
func (g *gunicorn) workers(t *testing.T) map[string]bool {
	t.Helper()
	pids := map[string]bool{}
	for _, pid := range testpeer.Children(t, g.Pid()) {
		pids[strconv.Itoa(pid)] = true
	}
	return pids
}

// request sends at least n requests, and more until each worker has served one.
// It returns the number of requests sent; all of them are answered by then.
func (g *gunicorn) request(t *testing.T, n int) int {
	t.Helper()
	const batch, most = 50, 10000
	sent, served := 0, map[string]bool{}
	for {
		pids := make([]string, batch)
		errs := make([]error, batch)
		var wg sync.WaitGroup
		slots := make(chan struct{}, 8) // more than there are workers
		for i := range batch {
			wg.Go(func() {
				slots <- struct{}{}
				pids[i], errs[i] = g.page([]string{"a", "b", "missing"}[i%3])
				<-slots
			})
		}
		wg.Wait()
		sent += batch
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			served[pid] = true
		}
		missing := 0
		for pid := range g.workers(t) {
			if !served[pid] {
				missing++
			}
		}
		if sent >= n && missing == 0 {
			return sent
		}
		if sent >= most {
			t.Fatalf("after %d requests %d of the workers have served none", sent, missing)
		}
	}
}

// page is one request; it returns the PID of the worker that served it.
func (g *gunicorn) page(name string) (string, error) {
	resp, err := g.client.Get(g.url + "/" + name)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	want := http.StatusOK
	if name == "missing" {
		want = http.StatusNotFound
	}
	if resp.StatusCode != want {
		return "", fmt.Errorf("GET /%s: %s", name, resp.Status)
	}
	return string(body), nil
}

// TestPromtoolCheckMetrics: what an application served by the book exposes is
// lawful still when promagg has merged it, promagg's own metrics beside it.
func TestPromtoolCheckMetrics(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Promtool)
	dir := t.TempDir()
	p := serve(t, dir).ready(t)
	g := startGunicorn(t, dir, 2)
	sent := g.request(t, 60)

	text := p.get(t, "/metrics")
	e, err := parseExposition(text)
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for key, v := range e.samples {
		if strings.HasPrefix(key, "requests_total{") {
			total += v
		}
	}
	if total != float64(sent) {
		t.Errorf("requests_total is %v over all, want %d", total, sent)
	}
	for what, text := range map[string]string{
		"serve": text,
		"merge": output(t, command(testpeer.Promagg(t), "merge", "--dir", dir)),
	} {
		check := command(testpeer.Promtool.Path(), "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: promtool check metrics: %v\n%s", what, err, out)
		}
	}
}

// TestLivenessPreload: with preload_app the parent has files of its own, which its
// workers inherit. Whoever is killed, nothing is lost or counted twice, and live gauges
// are those of the living.
func TestLivenessPreload(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	const workers = 3
	dir := t.TempDir()
	p := serve(t, dir).ready(t)
	g := startGunicorn(t, dir, workers, "--preload")
	parent := strconv.Itoa(g.Pid())
	// check sums up what all workers have counted, and wants gauges of these processes.
	check := func(what string, sent int, living map[string]bool) {
		t.Helper()
		got := p.scrape(t).samples
		requests, served := 0.0, 0.0
		for key, v := range got {
			name, labels, _ := strings.Cut(key, "{")
			switch name {
			case "requests_total":
				requests += v
			case "worker_requests", "app_loaded":
				if pid := regexp.MustCompile(`pid="(\d+)"`).FindStringSubmatch(labels); pid == nil || !living[pid[1]] {
					t.Errorf("%s: of a process that is dead: %s %v", what, key, v)
				}
			}
			if name == "worker_requests" {
				served += v
			}
		}
		if requests != float64(sent) || served > requests {
			t.Errorf("%s: %v requests counted, want %d; the living have served %v of them", what, requests, sent, served)
		}
		if v := got[sampleKey("app_loads_total", nil)]; v != 1 {
			t.Errorf("%s: loaded %v times, want once", what, v)
		}
		if v, ok := got[sampleKey("app_loaded", map[string]string{"pid": parent})]; ok != living[parent] || ok && v != 1 {
			t.Errorf("%s: the parent's own gauge is %v, %v", what, v, ok)
		}
		if v, ok := got[sampleKey("requests_in_progress", nil)]; ok != (len(living) > 0) || v != 0 {
			t.Errorf("%s: in progress are %v, %v", what, v, ok)
		}
	}
	living := func() map[string]bool {
		pids := g.workers(t)
		pids[parent] = true
		return pids
	}
	kill := func(pid string) {
		t.Helper()
		victim, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		testpeer.SignalPid(t, "KILL", victim)
		testpeer.Ended(t, victim)
	}
	check("before the first request", 0, living())
	sent := g.request(t, 60)
	check("with requests", sent, living())

	for range 3 {
		for pid := range g.workers(t) {
			kill(pid)
			now := living() // one that comes in its place has nothing yet
			delete(now, pid)
			check("a worker is killed", sent, now)
			break
		}
		testpeer.WaitFor(t, "a worker in its place", patience, func() error {
			if n := len(g.workers(t)); n != workers {
				return fmt.Errorf("%d workers", n)
			}
			return nil
		})
		sent += g.request(t, 60)
		check("with another worker", sent, living())
	}

	left := g.workers(t) // none of which has the parent's files any more
	testpeer.SignalPid(t, "KILL", g.Pid())
	testpeer.Ended(t, g.Pid())
	check("the parent is killed", sent, left)
	for pid := range left {
		kill(pid)
	}
	check("all are killed", sent, nil)
}
