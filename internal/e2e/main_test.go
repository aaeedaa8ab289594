package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// patience bounds each wait for something that is normally there at once.
const patience = 30 * time.Second

// TestMain makes the test binary the worker that writes with promagg's own client.
func TestMain(m *testing.M) {
	if os.Getenv(goWorkerEnv) == "" {
		testpeer.Main(m)
	} else if err := playGoWorker(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// client does not go through a proxy that the environment may name, and keeps
// enough idle connections for the tests that scrape from several goroutines.
var client = &http.Client{
	Timeout:   patience,
	Transport: &http.Transport{MaxIdleConnsPerHost: 16},
}

// promagg is a running `promagg serve`.
type promagg struct {
	*testpeer.Process
	address string
}

// serve runs promagg over dir until the test ends, and checks then that it ends
// well when it is asked to.
func serve(t *testing.T, dir string, args ...string) *promagg {
	t.Helper()
	return serveUnder(t, nil, dir, args...)
}

// serveUnder runs `prefix... promagg serve`.
func serveUnder(t *testing.T, prefix []string, dir string, args ...string) *promagg {
	t.Helper()
	argv := append([]string{}, prefix...)
	argv = append(argv, testpeer.Promagg(t), "serve", "--dir", dir, "--web.listen-address", "127.0.0.1:0")
	argv = append(argv, args...)
	p := &promagg{Process: testpeer.Start(t, command(argv...))}
	t.Cleanup(func() {
		ended, err := p.Exited()
		if !ended {
			err = p.Stop()
		}
		if err != nil {
			t.Errorf("promagg did not end with exit code 0 on SIGTERM: %v", err)
		}
	})
	bound := regexp.MustCompile(`msg="?listening"? .*address="?([0-9.:]+)`)
	testpeer.WaitFor(t, "promagg to listen", patience, func() error {
		if ended, err := p.Exited(); ended {
			t.Fatalf("promagg has ended: %v", err)
		}
		m := bound.FindStringSubmatch(p.Log())
		if m == nil {
			return errors.New("no line with the bound address yet")
		}
		p.address = m[1]
		return nil
	})
	p.get(t, "/-/healthy")
	return p
}

// ready waits until promagg has read the directory for the first time.
func (p *promagg) ready(t *testing.T) *promagg {
	t.Helper()
	testpeer.WaitFor(t, "/-/ready", patience, func() error {
		_, err := fetch("http://" + p.address + "/-/ready")
		return err
	})
	return p
}

// get is the body of a page that must be there.
func (p *promagg) get(t testing.TB, path string) string {
	t.Helper()
	body, err := fetch("http://" + p.address + path)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// scrape is one scrape, parsed.
func (p *promagg) scrape(t testing.TB) exposition {
	t.Helper()
	e, err := parseExposition(p.get(t, "/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func fetch(url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return string(body), nil
}

// merge is the output of `promagg merge`, parsed.
func merge(t *testing.T, dir string, args ...string) exposition {
	t.Helper()
	cmd := command(append([]string{testpeer.Promagg(t), "merge", "--dir", dir}, args...)...)
	e, err := parseExposition(output(t, cmd))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// output runs cmd to its end and returns its stdout.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return string(out)
}

// command is a command with an environment that says nothing of a multiprocess
// directory, and in which Python leaves no __pycache__ in the tree.
func command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !strings.EqualFold(name, "PROMETHEUS_MULTIPROC_DIR") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// python is the unmodified Python client running a script of testdata, its
// multiprocess directory set to dir.
func python(dir, script string, args ...string) *exec.Cmd {
	cmd := command(append([]string{testpeer.Python.Path(), testdata(script)}, args...)...)
	cmd.Env = append(cmd.Env, "PROMETHEUS_MULTIPROC_DIR="+dir)
	return cmd
}

// ruby is the same for the Ruby mmap client.
func ruby(dir, script string, args ...string) *exec.Cmd {
	cmd := command(append([]string{testpeer.Ruby.Path(), testdata(script)}, args...)...)
	// Its sources are UTF-8 whatever the machine's locale says, and so is what it prints.
	cmd.Env = append(cmd.Env, "prometheus_multiproc_dir="+dir, "RUBYOPT=-Eutf-8")
	return cmd
}

func testdata(name string) string {
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		panic(err)
	}
	return path
}
