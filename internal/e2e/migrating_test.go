package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// ownMetrics is testdata/app.py with the /metrics that people have before they have promagg.
const ownMetrics = `
from app import app
from flask import Response
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

@app.route("/metrics")
def metrics():
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return Response(generate_latest(registry), mimetype="text/plain")
`

// TestMigrating does what docs/migrating.md says, with its commands and its configuration,
// to an application whose own /metrics Prometheus scrapes, and of which a worker dies: both
// serve the same, and in Prometheus every counter goes on.
func TestMigrating(t *testing.T) {
	t.Parallel() // most of it is waiting
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Prometheus, testpeer.Curl)
	var page section
	for _, s := range sections(t, filepath.Join(docs, "migrating.md")) {
		if s.title == "Step by step" {
			page = s
		}
	}
	if len(page.of("sh")) != 2 || len(page.of("yaml")) != 1 {
		t.Fatalf("docs/migrating.md has %d blocks of shell and %d of configuration, want 2 and 1", len(page.of("sh")), len(page.of("yaml")))
	}
	start, compare, scrapes := page.of("sh")[0], page.of("sh")[1], page.of("yaml")[0]

	dir, code := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(code, "own.py"), []byte(ownMetrics), 0o644); err != nil {
		t.Fatal(err)
	}
	app, metrics := freeAddress(t), freeAddress(t)
	gunicorn := command(testpeer.Gunicorn.Path(), "-m", "gunicorn", "--workers", "3", "--bind", app,
		"--pythonpath", testdata("."), "--chdir", code, "own:app")
	gunicorn.Env = append(gunicorn.Env, "PROMETHEUS_MULTIPROC_DIR="+dir)
	server := testpeer.Start(t, gunicorn)
	testpeer.WaitFor(t, "the application", patience, func() error {
		_, err := fetch("http://" + app + "/metrics")
		return err
	})
	began, sent := time.Now(), 0
	request := func(n int) {
		t.Helper()
		for range n {
			if _, err := fetch("http://" + app + "/a"); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	prom := startPrometheusWith(t, fmt.Sprintf("\n- job_name: shop\n  static_configs: [{targets: ['%s']}]\n", app))
	sees := func(from string) {
		t.Helper()
		testpeer.WaitFor(t, "every request in Prometheus, from "+from, patience, func() error {
			got := prom.query(t, `requests_total{path="/a"}`)
			if len(got) != 1 || got[0].Value.value != float64(sent) || got[0].Metric["instance"] != app {
				return fmt.Errorf("requests_total is %v, want %d for instance %s", got, sent, app)
			}
			return nil
		})
	}
	request(50)
	sees("the application")

	// 1. Beside it.
	here := strings.NewReplacer("127.0.0.1:8000", app, "127.0.0.1:9917", metrics, "/run/shop/metrics", dir,
		"promagg serve", testpeer.Promagg(t)+" serve --fold.interval 1s")
	shell := func(script string) *exec.Cmd { return command("bash", "-u", "-c", here.Replace(script)) }
	testpeer.Start(t, shell("exec "+start))
	testpeer.WaitFor(t, "promagg", patience, func() error {
		_, err := fetch("http://" + metrics + "/-/ready")
		return err
	})
	// 2. The same, also when dead workers' files are folded.
	same := func() error {
		out, err := shell(compare).CombinedOutput()
		if err != nil || string(out) != "the same\n" {
			return fmt.Errorf("%v:\n%s", err, out)
		}
		return nil
	}
	testpeer.WaitFor(t, "the same from both", patience, same)
	testpeer.SignalPid(t, "KILL", testpeer.Children(t, server.Pid())[0])
	testpeer.WaitFor(t, "the dead worker's files to be folded", patience, func() error {
		archives, err := filepath.Glob(filepath.Join(dir, "counter_archived.db"))
		if err != nil || len(archives) == 0 {
			return errors.Join(errors.New("there is no archive"), err)
		}
		return nil
	})
	testpeer.WaitFor(t, "the same from both with an archive", patience, same)

	// 3. Prometheus changes over.
	_, was, _ := net.SplitHostPort(app)
	_, now, _ := net.SplitHostPort(metrics)
	scrapes = strings.NewReplacer("['shop-1.example.net:9917', 'shop-2.example.net:9917']", "['"+metrics+"']", ":9917", ":"+now, ":8000", ":"+was).Replace(scrapes)
	prom.reconfigure(t, scrapes)
	testpeer.WaitFor(t, "Prometheus to scrape promagg", patience, func() error {
		if got := prom.query(t, "promagg_build_info"); len(got) != 1 {
			return fmt.Errorf("promagg_build_info is %v", got)
		}
		return nil
	})
	request(50)
	sees("promagg")
	for query, want := range map[string]float64{
		"sum(resets(requests_total[10m]))":            0,
		"sum(resets(response_bytes_bucket[10m]))":     0,
		"count(count_over_time(requests_total[10m]))": 1, // the same series before and after
		"count(count_over_time(up[10m]))":             1,
	} {
		if got := prom.query(t, query); len(got) != 1 || got[0].Value.value != want {
			t.Errorf("%s is %v, want %v", query, got, want)
		}
	}
	prom.neverFell(t, "sum(requests_total)", began, float64(sent))
}
