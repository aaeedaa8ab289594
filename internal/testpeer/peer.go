// Package testpeer is for tests that run promagg beside other people's
// programs. Its one job is to find such a program (a peer), to run it, and to
// leave nothing of it behind.
//
// A peer that is missing skips the test on a developer's machine and fails it
// where the environment says CI=true: a skip there would be seen by nobody.
//
// The package has no need of syscall: processes get sessions and signals from
// setsid(1) and kill(1), which every Linux system has.
package testpeer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Peer is a program, or an interpreter together with the modules a test needs
// of it.
type Peer struct {
	name       string
	candidates []string // tried in turn; a name without a slash is looked up in PATH
	probe      []string // arguments with which the right one exits 0

	once sync.Once
	path string
	err  error
}

// The system's own interpreters come before PATH, which may well put one first
// that has none of the modules.
var (
	// Python is an interpreter with the prometheus_client module.
	Python = &Peer{
		name:       "python3 with prometheus_client",
		candidates: []string{"/usr/bin/python3", "python3"},
		probe:      []string{"-c", "import prometheus_client.multiprocess"},
	}
	// Gunicorn is a Python interpreter that runs gunicorn (-m gunicorn), with
	// Flask and prometheus_client to serve.
	Gunicorn = &Peer{
		name:       "python3 with gunicorn, flask and prometheus_client",
		candidates: []string{"/usr/bin/python3", "python3"},
		probe:      []string{"-c", "import gunicorn, flask, prometheus_client.multiprocess"},
	}
	// Django, FastAPI and Celery are a Python interpreter with these and what they run
	// under, in the way of Debian's programs: /usr/bin/python3 is theirs.
	Django = &Peer{
		name:       "python3 with gunicorn, django and prometheus_client",
		candidates: []string{"/usr/bin/python3"},
		probe:      []string{"-c", "import gunicorn, django, prometheus_client.multiprocess"},
	}
	FastAPI = &Peer{
		name:       "python3 with gunicorn, uvicorn, fastapi and prometheus_client",
		candidates: []string{"/usr/bin/python3"},
		probe:      []string{"-c", "import gunicorn, uvicorn, fastapi, prometheus_client.multiprocess"},
	}
	Celery = &Peer{
		name:       "celery with prometheus_client",
		candidates: []string{"/usr/bin/python3"},
		probe:      []string{"-c", "import celery, os, prometheus_client.multiprocess; os.stat('/usr/bin/celery')"},
	}
	// UWSGI is the server, with its plugin for Python.
	UWSGI = &Peer{
		name:       "uwsgi with uwsgi-plugin-python3",
		candidates: []string{"/usr/bin/uwsgi"},
		probe:      []string{"--plugin", "python3", "--version"},
	}
	// Ruby is an interpreter with prometheus-client-mmap.
	Ruby = &Peer{
		name:       "ruby with prometheus-client-mmap",
		candidates: []string{"/usr/bin/ruby", "ruby"},
		probe:      []string{"-e", "require 'prometheus/client'; require 'fast_mmaped_file'"},
	}
	// Puma is the Ruby server.
	Puma = &Peer{
		name:       "puma",
		candidates: []string{"/usr/bin/puma", "puma"},
		probe:      []string{"--version"},
	}
	// Unicorn is the other Ruby server.
	Unicorn = &Peer{
		name:       "unicorn",
		candidates: []string{"/usr/bin/unicorn", "unicorn"},
		probe:      []string{"--version"},
	}
	// Prometheus is the server.
	Prometheus = &Peer{
		name:       "prometheus",
		candidates: []string{"prometheus"},
		probe:      []string{"--version"},
	}
	// VictoriaMetrics is the server of that name.
	VictoriaMetrics = &Peer{
		name:       "victoria-metrics",
		candidates: []string{"victoria-metrics"},
		probe:      []string{"-version"},
	}
	// Promtool is the command that comes with the server.
	Promtool = &Peer{
		name:       "promtool",
		candidates: []string{"promtool"},
		probe:      []string{"--version"},
	}
	// Curl is curl(1), which knows unix sockets.
	Curl = &Peer{
		name:       "curl",
		candidates: []string{"curl"},
		probe:      []string{"--version"},
	}
	// SystemdAnalyze is the command that reads unit files.
	SystemdAnalyze = &Peer{
		name:       "systemd-analyze",
		candidates: []string{"systemd-analyze"},
		probe:      []string{"--version"},
	}
	// Dpkg is dpkg, on a system that it rules.
	Dpkg = &Peer{
		name:       "dpkg with a database",
		candidates: []string{"dpkg"},
		probe:      []string{"--status", "dpkg"},
	}
	// Unshare is unshare(1), with the right to make PID namespaces.
	Unshare = &Peer{
		name:       "unshare with the right to make a PID namespace",
		candidates: []string{"unshare"},
		probe:      []string{"--pid", "--fork", "--mount-proc", "true"},
	}
	// Mounts is unshare(1), with the right to mount filesystems, and what makes them.
	Mounts = &Peer{
		name:       "unshare with the right to mount filesystems, and mkfs.ext4",
		candidates: []string{"unshare"},
		probe:      []string{"--mount", "sh", "-c", "mkfs.ext4 -V 2>/dev/null && mount -t tmpfs tmpfs /mnt && test -e /dev/loop-control"},
	}
	// Btrfs is mkfs.btrfs(8), on a kernel that has the filesystem: one with quotas.
	Btrfs = &Peer{
		name:       "btrfs-progs, and a kernel with btrfs",
		candidates: []string{"sh"},
		probe:      []string{"-c", "mkfs.btrfs --version && btrfs --version && { grep -qw btrfs /proc/filesystems || modprobe btrfs; }"},
	}
	// Overlay is unshare(1), with the right to mount overlayfs.
	Overlay = &Peer{
		name:       "unshare with the right to mount overlayfs",
		candidates: []string{"unshare"},
		probe:      []string{"--mount", "sh", "-c", mountOverlay + "true", "/tmp"},
	}
	// Tmux is tmux(1), a terminal without a screen.
	Tmux = &Peer{
		name:       "tmux",
		candidates: []string{"tmux"},
		probe:      []string{"-V"},
	}
	// Setpriv is setpriv(1), which runs a program as another user.
	Setpriv = &Peer{
		name:       "setpriv",
		candidates: []string{"setpriv"},
		probe:      []string{"--version"},
	}
)

// mountOverlay is a shell's line that mounts overlayfs over the directory $0, on tmpfs
// and empty.
const mountOverlay = `mount -t tmpfs tmpfs "$0" && mkdir "$0/lower" "$0/upper" "$0/work" && ` +
	`mount -t overlay overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" "$0" && `

// Require skips the test if one of the peers is missing; with CI=true in the
// environment it fails the test instead.
func Require(t testing.TB, peers ...*Peer) {
	t.Helper()
	for _, p := range peers {
		p.once.Do(p.find)
		if p.err != nil {
			missing(t, fmt.Sprintf("missing %v: run scripts/setup.sh test", p.err))
		}
	}
}

// missing skips the test, or fails it with CI=true.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s", why)
	}
	t.Skipf("%s", why)
}

// Path is where the peer was found. The test must have required it.
func (p *Peer) Path() string {
	if p.path == "" {
		panic("testpeer: " + p.name + " is used without Require")
	}
	return p.path
}

func (p *Peer) find() {
	var tried []string
	for _, c := range p.candidates {
		path, err := exec.LookPath(c)
		if err != nil {
			tried = append(tried, err.Error())
			continue
		}
		// A probe that hangs is a broken installation, not a reason to wait for ever.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		out, err := exec.CommandContext(ctx, path, p.probe...).CombinedOutput()
		cancel()
		if err == nil {
			p.path = path
			return
		}
		tried = append(tried, fmt.Sprintf("%s: %v: %s", path, err, lastLine(out)))
	}
	p.err = fmt.Errorf("%s (%s)", p.name, strings.Join(tried, "; "))
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
