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

// gunicorn is app.py under gunicorn with some workers, all of it unmodified.
type gunicorn struct {
	*testpeer.Process
	url string
}

func startGunicorn(t *testing.T, dir string, workers int) *gunicorn {
	t.Helper()
	cmd := command(testpeer.Gunicorn.Path(), "-m", "gunicorn",
		"--workers", strconv.Itoa(workers), "--bind", "127.0.0.1:0", "--chdir", testdata("."), "app:app")
	cmd.Env = append(cmd.Env, "PROMETHEUS_MULTIPROC_DIR="+dir)
	g := &gunicorn{Process: testpeer.Start(t, cmd)}
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
	resp, err := client.Get(g.url + "/" + name)
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
