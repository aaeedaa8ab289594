package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/promagg/promagg/internal/testpeer"
)

// application tells on stdout of each signal that it gets. It ends on SIGTERM and
// SIGINT with status 7, unless it is called stubborn, and on SIGQUIT with 0. On SIGUSR2
// it starts itself anew.
func application() {
	c := make(chan os.Signal, 128)
	for s := syscall.Signal(1); s <= 64; s++ {
		if s != unix.SIGCHLD && s != unix.SIGURG && s != unix.SIGPIPE {
			signal.Notify(c, s)
		}
	}
	fmt.Printf("application %d of %d\n", os.Getpid(), os.Getppid())
	for s := range c {
		fmt.Printf("%d got %d\n", os.Getpid(), s)
		switch {
		case s == unix.SIGUSR2:
			next := exec.Command(os.Args[0], os.Args[1:]...)
			next.Stdout, next.Stderr = os.Stdout, os.Stderr
			if err := next.Start(); err != nil {
				panic(err)
			}
		case s == unix.SIGQUIT:
			os.Exit(0)
		case (s == unix.SIGTERM || s == unix.SIGINT) && len(os.Args) == 1:
			os.Exit(7)
		}
	}
}

// running is a promagg run under test.
type running struct {
	*testpeer.Process
	t   *testing.T
	dir string // where the directory of the run is
	pid int    // of promagg itself
}

// heedHangup gives processes that are started SIGHUP's own effect, also where the tests
// run with the signal ignored (nohup), which they would take over.
var heedHangup = sync.OnceFunc(func() {
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
})

// startRun runs `prefix... promagg run -- argv...`. A prefix has to have promagg as its
// only child.
func startRun(t *testing.T, prefix []string, argv ...string) *running {
	heedHangup()
	t.Helper()
	r := &running{t: t, dir: t.TempDir()}
	argv = append(append(prefix, "promagg", "run", "--web.listen-address", "127.0.0.1:0", "--"), argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0", "PROMETHEUS_MULTIPROC_DIR=", "prometheus_multiproc_dir=", "XDG_RUNTIME_DIR="+r.dir)
	r.Process = testpeer.Start(t, cmd)
	r.pid = r.Pid()
	r.said(`msg="application started"`)
	if len(prefix) > 0 {
		r.pid = testpeer.Children(t, r.pid)[0]
	}
	// Whatever comes of the test, nothing of it stays.
	t.Cleanup(func() {
		if ended, _ := r.Exited(); !ended {
			_ = unix.Kill(r.pid, unix.SIGTERM)
			_ = unix.Kill(r.pid, unix.SIGINT)
			r.Wait(t)
		}
	})
	return r
}

// said waits for a line of the log, and returns what is in its groups.
func (r *running) said(pattern string) []string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	var m []string
	testpeer.WaitFor(r.t, "a line like "+pattern, patience, func() error {
		if m = re.FindStringSubmatch(r.Log()); m == nil {
			return fmt.Errorf("the log is:\n%s", r.Log())
		}
		return nil
	})
	return m[1:]
}

// ready waits for the application and returns its PID, as it sees it.
func (r *running) ready() int { r.t.Helper(); return atoi(r.t, r.said(`application (\d+) of`)[0]) }

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := unix.Kill(r.pid, s); err != nil {
		r.t.Fatal(err)
	}
}

// ends waits for the end, which has to be with that status, and leave nothing.
func (r *running) ends(status int) {
	r.t.Helper()
	got := 0
	if err := r.Wait(r.t); err != nil {
		var e *exec.ExitError
		if !errors.As(err, &e) {
			r.t.Fatal(err)
		}
		got = e.ExitCode()
	}
	if got != status {
		r.t.Errorf("exit status %d, want %d", got, status)
	}
	if left, err := filepath.Glob(filepath.Join(r.dir, "*")); err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %q, %v", left, err)
	}
	if log := r.Log(); strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
		r.t.Error("the log has more than it should")
	}
}

// onlyChild waits until promagg has no child but that one, zombies included.
func (r *running) onlyChild(pid int) {
	r.t.Helper()
	testpeer.WaitFor(r.t, "promagg to have one child", patience, func() error {
		all, err := childrenOf(r.pid)
		if err == nil && (len(all) != 1 || all[0] != pid) {
			err = fmt.Errorf("they are %v, want %d", all, pid)
		}
		return err
	})
}

// childrenOf lists the children that any thread of a process has.
func childrenOf(pid int) (all []int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range lists {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			all = append(all, child)
		}
	}
	return all, err
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newGate makes a FIFO, whose readers wait for a line.
func newGate(t *testing.T) string {
	t.Helper()
	gate := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	return gate
}

// TestRunSignals: each signal that is passed on comes to the application, once.
func TestRunSignals(t *testing.T) {
	r := startRun(t, nil, "application")
	pid := r.ready()
	signals := []syscall.Signal{
		unix.SIGHUP, unix.SIGUSR1, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU, unix.SIGALRM, unix.SIGCONT, 35, 50, 64,
	}
	for _, s := range signals {
		r.signal(s)
		r.said(fmt.Sprintf(`(?m)^%d got %d$`, pid, s))
	}
	r.signal(unix.SIGTERM)
	r.ends(7)
	for _, s := range append(signals, unix.SIGTERM) {
		if n := strings.Count(r.Log(), fmt.Sprintf("\n%d got %d\n", pid, s)); n != 1 {
			t.Errorf("signal %d came %d times", s, n)
		}
	}
}

// TestRunStops: how the signals that end things end them.
func TestRunStops(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		status int
	}{{unix.SIGINT, 7}, {unix.SIGTERM, 7}, {unix.SIGQUIT, 0}} {
		t.Run(c.signal.String(), func(t *testing.T) {
			r := startRun(t, nil, "application")
			r.ready()
			r.signal(c.signal)
			r.ends(c.status)
		})
	}
	// An application that does not catch them.
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, 40} {
		t.Run("default "+s.String(), func(t *testing.T) {
			r := startRun(t, nil, "sh", "-c", "ulimit -c 0; exec sleep 1000")
			// The child of a fork catches nothing yet, and has to be the program.
			testpeer.WaitFor(t, "the application", patience, func() error {
				comm, err := os.ReadFile("/proc/" + r.said(`msg="application started" pid=(\d+)`)[0] + "/comm")
				if err == nil && string(comm) != "sleep\n" {
					err = fmt.Errorf("it is %s", comm)
				}
				return err
			})
			r.signal(s)
			r.ends(128 + int(s))
		})
	}
}

// TestRunSecondStop: whoever asks twice is not refused, by the application's children
// neither.
func TestRunSecondStop(t *testing.T) {
	for _, c := range [][2]syscall.Signal{{unix.SIGTERM, unix.SIGTERM}, {unix.SIGINT, unix.SIGINT}, {unix.SIGTERM, unix.SIGINT}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			r := startRun(t, nil, "application", "stubborn")
			pid := r.ready()
			r.signal(unix.SIGUSR2) // it has a child, which is as stubborn
			r.said(fmt.Sprintf(`application (\d+) of %d`, pid))
			child := atoi(t, r.said(fmt.Sprintf(`application (\d+) of %d`, pid))[0])
			r.signal(c[0])
			r.said(fmt.Sprintf(`(?m)^%d got %d$`, pid, c[0]))
			for _, pid := range []int{pid, child} {
				if err := unix.Kill(pid, 0); err != nil {
					t.Errorf("process %d after the first signal: %v", pid, err)
				}
			}
			testpeer.WaitFor(t, "a second signal to be one", patience, func() error {
				_ = unix.Kill(r.pid, c[1]) // it may have ended
				if !strings.Contains(r.Log(), "asked to stop again") {
					return errors.New("it is taken for the first one")
				}
				return nil
			})
			r.ends(137)
			for _, pid := range []int{pid, child} {
				if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
					t.Errorf("process %d after the second: %v", pid, err)
				}
			}
		})
	}
}

// TestRunKilled: the application does not outlive promagg.
func TestRunKilled(t *testing.T) {
	r := startRun(t, nil, "application", "stubborn")
	pid := r.ready()
	r.Kill(t)
	testpeer.Ended(t, pid)
}

// TestRunLogReaderGone: who reads the log may go before the application ends. That
// changes neither its end nor what is cleaned.
func TestRunLogReaderGone(t *testing.T) {
	dir, gate := t.TempDir(), newGate(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("promagg", "run", "--web.listen-address", "127.0.0.1:0", "--", "sh", "-c", "read x <$0; exit 5", gate)
	cmd.Env = append(cmd.Environ(), "PROMETHEUS_MULTIPROC_DIR=", "prometheus_multiproc_dir=", "XDG_RUNTIME_DIR="+dir)
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	write.Close()
	if _, err := read.Read(make([]byte, 1)); err != nil { // it logs
		t.Fatal(err)
	}
	read.Close()
	open, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := open.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 5 {
		t.Errorf("ended with %v, want status 5", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestRunReaps: processes that have lost their parent become promagg's children, and
// none stays a zombie.
func TestRunReaps(t *testing.T) {
	for _, c := range []struct {
		name   string
		prefix []string
	}{{"subreaper", nil}, {"PID 1", []string{"unshare", "--pid", "--fork", "--mount-proc"}}} {
		t.Run(c.name, func(t *testing.T) {
			if c.prefix != nil {
				testpeer.Require(t, testpeer.Unshare)
			}
			gate := newGate(t)
			const orphans = 5
			// Each of them is a child of a shell that is gone.
			script := `for i in 1 2 3 4 5; do sh -c 'sh -c "read x <$0; exit 3" "$0" & echo orphan' "$0"; done; exec application`
			r := startRun(t, c.prefix, "sh", "-c", script, gate)
			said := r.ready()
			if first := r.said(`application \d+ of (\d+)`)[0]; c.prefix != nil && first != "1" {
				t.Fatalf("the application's parent is process %s", first)
			}
			var app int
			testpeer.WaitFor(t, "the orphans to be promagg's", patience, func() error {
				all, err := childrenOf(r.pid)
				if err == nil && len(all) != orphans+1 {
					err = fmt.Errorf("its children are %v", all)
				}
				for _, pid := range all {
					if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "application\n" {
						app = pid
					}
				}
				return err
			})
			if app == 0 || c.prefix == nil && app != said {
				t.Fatalf("the application is %d, and says %d", app, said)
			}
			open, err := os.OpenFile(gate, os.O_RDWR, 0) // all of them read an end now
			if err == nil {
				_, err = open.WriteString(strings.Repeat("\n", orphans))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			r.onlyChild(app)
			r.signal(unix.SIGTERM)
			r.ends(7)
		})
	}
}

// TestRunLeftovers: what the application leaves behind ends, too, and what that leaves
// behind; the status is the application's.
func TestRunLeftovers(t *testing.T) {
	gate := newGate(t)
	r := startRun(t, nil, "sh", "-c", `sh -c 'application & wait' & read x <$0; exit 5`, gate)
	pid := r.ready()
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	r.ends(5)
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
	r.said(`left a process behind`)
}

// TestRunStubbornLeftovers: those that do not end are killed, after a while, or at once
// if somebody is in a hurry.
func TestRunStubbornLeftovers(t *testing.T) {
	script := `application stubborn & read x <$0; exit 0`
	for _, hurry := range []bool{false, true} {
		t.Run(fmt.Sprintf("hurry %t", hurry), func(t *testing.T) {
			gate := newGate(t)
			r := startRun(t, nil, "sh", "-c", script, gate)
			pid := r.ready()
			if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
				t.Fatal(err)
			}
			r.said(fmt.Sprintf(`(?m)^%d got %d$`, pid, unix.SIGTERM))
			if hurry {
				r.signal(unix.SIGTERM)
				r.signal(unix.SIGINT)
			}
			r.ends(0)
			if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("process %d: %v", pid, err)
			}
			if waited := strings.Contains(r.Log(), "are killed"); waited == hurry {
				t.Errorf("killed because the time was up: %t", waited)
			}
		})
	}
}

// TestRunUpgrade: an application that starts itself anew on SIGUSR2 and then ends has
// not ended.
func TestRunUpgrade(t *testing.T) {
	r := startRun(t, nil, "application")
	first := r.ready()
	r.signal(unix.SIGUSR2)
	second := atoi(t, r.said(fmt.Sprintf(`application (\d+) of %d`, first))[0])
	if err := unix.Kill(first, unix.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	r.said(fmt.Sprintf(`handed over to another process" pid=%d`, second))
	r.onlyChild(second)
	r.signal(unix.SIGHUP)
	r.said(fmt.Sprintf(`(?m)^%d got %d$`, second, unix.SIGHUP))
	r.signal(unix.SIGTERM)
	r.ends(7)
}

// TestRunUpgradeStopped: an application that is told to stop while it is two takes both
// along.
func TestRunUpgradeStopped(t *testing.T) {
	r := startRun(t, nil, "application")
	first := r.ready()
	r.signal(unix.SIGUSR2)
	second := atoi(t, r.said(fmt.Sprintf(`application (\d+) of %d`, first))[0])
	r.signal(unix.SIGQUIT)
	r.ends(0)
	if err := unix.Kill(second, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d: %v", second, err)
	}
}

// TestRunTerminal: Ctrl-C in a terminal comes to the application, and once; Ctrl-Z
// stops it with promagg, and fg continues both.
func TestRunTerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatalf("it is part of every Debian: %v", err)
	}
	cmd := exec.Command(script, "-qefc", `bash --norc -ic 'promagg run --web.listen-address 127.0.0.1:0 -- application stubborn; echo; echo stopped; read; fg; echo status $?'`, "/dev/null")
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0", "XDG_RUNTIME_DIR="+t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Process: testpeer.Start(t, cmd), t: t}
	pid := r.ready()
	promagg := atoi(t, r.said(`application \d+ of (\d+)`)[0])
	t.Cleanup(func() {
		if t.Failed() { // it outlives the shell
			_ = unix.Kill(promagg, unix.SIGKILL)
		}
	})
	keys := func(s string) {
		t.Helper()
		if _, err := in.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err.Error()
		}
		return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
	}
	keys("\x1a")
	r.said(`(?m)^stopped\r$`)
	testpeer.WaitFor(t, "the application to be stopped", patience, func() error {
		if s := state(); s != "T" {
			return fmt.Errorf("its state is %s", s)
		}
		return nil
	})
	keys("\n")
	r.said(fmt.Sprintf(`%d got %d\r`, pid, unix.SIGCONT))
	keys("\x03")
	r.said(fmt.Sprintf(`%d got %d\r`, pid, unix.SIGINT))
	testpeer.WaitFor(t, "a second Ctrl-C to be one", patience, func() error {
		keys("\x03")
		if !strings.Contains(r.Log(), "asked to stop again") {
			return errors.New("it is taken for the first one")
		}
		return nil
	})
	r.said(`status 137\r`)
	in.Close()
	r.Wait(t)
	if n := strings.Count(r.Log(), fmt.Sprintf("%d got %d\r\n", pid, unix.SIGINT)); n != 1 {
		t.Errorf("Ctrl-C came %d times", n)
	}
}
