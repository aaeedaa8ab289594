package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// runUnder runs an application by promagg run, its directory in a place of its own, which
// it returns, until the test ends. listening finds the application's address in the log.
func runUnder(t *testing.T, listening string, argv ...string) (p *promagg, url, place string) {
	t.Helper()
	place = t.TempDir()
	cmd := command(append([]string{testpeer.Promagg(t), "run", "--web.listen-address", "127.0.0.1:0", "--"}, argv...)...)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+place, "RUBYOPT=-Eutf-8")
	p = &promagg{Process: testpeer.Start(t, cmd)}
	find := func(pattern string) (found string) {
		t.Helper()
		testpeer.WaitFor(t, "a line like "+pattern, patience, func() error {
			if ended, err := p.Exited(); ended {
				t.Fatalf("promagg has ended: %v", err)
			}
			m := regexp.MustCompile(pattern).FindStringSubmatch(p.Log())
			if m == nil {
				return errors.New("not there yet")
			}
			found = m[1]
			return nil
		})
		return found
	}
	p.address = find(`msg=listening address=(\S+)`)
	return p, find(listening), place
}

// counted waits until a family's samples add up to want.
func (p *promagg) counted(t *testing.T, family string, want float64) {
	t.Helper()
	testpeer.WaitFor(t, family, patience, func() error {
		got := 0.0
		for key, v := range p.scrape(t).samples {
			if name, _, _ := strings.Cut(key, "{"); name == family {
				got += v
			}
		}
		if got != want {
			return fmt.Errorf("it is %v, want %v", got, want)
		}
		return nil
	})
}

// leavesNothing stops a promagg run, whose application ends with that status then.
func (p *promagg) leavesNothing(t *testing.T, place string, status int) {
	t.Helper()
	err := p.Stop()
	if e := new(exec.ExitError); errors.As(err, &e) && e.ExitCode() == status {
		err = nil
	}
	if err != nil {
		t.Errorf("on SIGTERM: %v, want status %d", err, status)
	}
	if left, err := filepath.Glob(filepath.Join(place, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestRunGunicorn: one command serves an application and its metrics, and goes on while
// gunicorn replaces itself (SIGUSR2).
func TestRunGunicorn(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	// What /usr/bin/gunicorn is. Started by -m it does not find itself again.
	script := filepath.Join(t.TempDir(), "gunicorn")
	if err := os.WriteFile(script, []byte("from gunicorn.app.wsgiapp import run\nrun()\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, url, place := runUnder(t, `Listening at: (http://127\.0\.0\.1:[0-9]+)`, testpeer.Gunicorn.Path(), script,
		"--workers", "3", "--bind", "127.0.0.1:0", "--chdir", testdata("."), "app:app")
	g := &gunicorn{url: url, client: client}
	sent := 0
	visit := func() {
		t.Helper()
		for range 30 {
			if _, err := g.page("a"); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		p.counted(t, "requests_total", float64(sent))
	}
	visit()

	first, err := strconv.Atoi(regexp.MustCompile(`msg="application started" pid=(\d+)`).FindStringSubmatch(p.Log())[1])
	if err != nil {
		t.Fatal(err)
	}
	testpeer.SignalPid(t, "USR2", p.Pid())
	testpeer.WaitFor(t, "another gunicorn", patience, func() error {
		if n := len(regexp.MustCompile(`Booting worker`).FindAllString(p.Log(), -1)); n < 6 {
			return fmt.Errorf("%d workers so far", n)
		}
		return nil
	})
	testpeer.SignalPid(t, "QUIT", first)
	testpeer.WaitFor(t, "it to take over", patience, func() error {
		if !strings.Contains(p.Log(), "handed over to another process") {
			return errors.New("nothing in the log")
		}
		return nil
	})
	client.CloseIdleConnections()
	visit()
	p.leavesNothing(t, place, 0)
}

// TestRunPuma: the same for Ruby, with Puma in its cluster mode.
func TestRunPuma(t *testing.T) {
	testpeer.Require(t, testpeer.Ruby, testpeer.Puma)
	p, url, place := runUnder(t, `Listening on (http://127\.0\.0\.1:[0-9]+)`, testpeer.Puma.Path(), "--workers", "2", "--threads", "1:1",
		"--bind", "tcp://127.0.0.1:0", testdata("config.ru"))
	served := map[string]bool{}
	sent := 0
	for ; sent < 40 || len(served) < 2 && sent < 4000; sent++ {
		client.CloseIdleConnections() // a connection is one worker's
		body, err := fetch(url + "/")
		if err != nil {
			t.Fatal(err)
		}
		served[body] = true
	}
	if len(served) < 2 {
		t.Errorf("after %d requests one worker has served all", sent)
	}
	p.counted(t, "visits_total", float64(sent))
	p.leavesNothing(t, place, 143) // Puma ends by the signal itself
}

// TestRunPrefork: the same for the example in Go.
func TestRunPrefork(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "prefork")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/promagg/promagg/examples/prefork").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	p, address, place := runUnder(t, `INFO listening address=(\S+)`, bin, "-listen", "127.0.0.1:0", "-workers", "3")
	url := "http://" + address
	const visits = 25
	for range visits {
		if _, err := fetch(url + "/"); err != nil {
			t.Fatal(err)
		}
	}
	p.counted(t, "prefork_visits_total", visits)
	p.leavesNothing(t, place, 0)
}
