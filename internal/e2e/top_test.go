package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// terminal is a shell in a terminal of its own, under tmux.
type terminal struct {
	t      *testing.T
	socket string
}

// startTerminal starts one of that size.
func startTerminal(t *testing.T, wide, high int, env ...string) *terminal {
	t.Helper()
	testpeer.Require(t, testpeer.Tmux)
	// A socket's path must be short.
	term := &terminal{t, filepath.Join(testpeer.Shm(t), "tmux")}
	conf := filepath.Join(t.TempDir(), "tmux.conf")
	if err := os.WriteFile(conf, []byte("set -g exit-empty off\nset -g default-shell /bin/sh\nset -g default-command 'exec /bin/sh'\nset -g status off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := command(testpeer.Tmux.Path(), "-D", "-S", term.socket, "-f", conf)
	server.Env = append(server.Env, "PS1=prompt> ", "ENV=", "LANG=C.UTF-8", "LC_ALL=C.UTF-8")
	server.Env = append(server.Env, env...)
	testpeer.Start(t, server)
	testpeer.WaitFor(t, "tmux", patience, func() error {
		// -N: a client would start another server where there is none yet.
		return command(testpeer.Tmux.Path(), "-N", "-S", term.socket, "start-server").Run()
	})
	term.tmux("new-session", "-d", "-x", strconv.Itoa(wide), "-y", strconv.Itoa(high))
	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	return output(term.t, command(append([]string{testpeer.Tmux.Path(), "-N", "-S", term.socket}, args...)...))
}

// keys sends keys by tmux's names for them.
func (term *terminal) keys(keys ...string) {
	term.t.Helper()
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// line types a line for the shell.
func (term *terminal) line(text string) {
	term.t.Helper()
	term.tmux("send-keys", "-l", text)
	term.keys("Enter")
}

// screen waits until what is on the screen matches, and returns it.
func (term *terminal) screen(pattern string) (text string) {
	term.t.Helper()
	re := regexp.MustCompile(pattern)
	testpeer.WaitFor(term.t, "the terminal to show "+pattern, patience, func() error {
		text = term.tmux("capture-pane", "-p")
		if !re.MatchString(text) {
			return fmt.Errorf("it shows\n%s", text)
		}
		return nil
	})
	return text
}

// sane wants the terminal to be as before, with the shell in it: what is typed is shown,
// and what the program has drawn is gone.
func (term *terminal) sane(before string) {
	term.t.Helper()
	shell := term.shell()
	testpeer.WaitFor(term.t, "the program to end", patience, func() error {
		if children := testpeer.Children(term.t, shell); len(children) > 0 {
			return fmt.Errorf("the shell has the children %v", children)
		}
		return nil
	})
	// What no stty tells: that the shell's reads would not block, unless it has put that
	// right itself, which it says.
	if text := term.screen(`prompt>\s*\z`); strings.Contains(text, "NDELAY") {
		term.t.Errorf("the shell says\n%s", text)
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/0", shell))
	if err != nil {
		term.t.Fatal(err)
	}
	flags, err := strconv.ParseUint(regexp.MustCompile(`(?m)^flags:\s+(\d+)$`).FindStringSubmatch(string(info))[1], 8, 64)
	if nonblock := uint64(0o4000); err != nil || flags&nonblock != 0 {
		term.t.Errorf("the terminal's flags are %#o, %v", flags, err)
	}
	term.line("clear; echo ended; stty -g | cksum")
	text := term.screen(`(?m)^ended\n\d+ \d+$`)
	if !strings.Contains(text, before) {
		term.t.Errorf("the terminal was %s before, and is\n%s", before, text)
	}
	if got := term.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{keypad_flag} #{mouse_any_flag}"); got != "0 1 0 0\n" {
		term.t.Errorf("alternate screen, cursor, keypad, mouse: %q", got)
	}
}

// settings are the terminal's.
func (term *terminal) settings() string {
	term.t.Helper()
	term.line("clear; stty -g | cksum; echo that was it")
	m := regexp.MustCompile(`(?m)^(\d+ \d+)\nthat was it$`).FindStringSubmatch(term.screen(`(?m)^that was it$`))
	if m == nil {
		term.t.Fatal("stty tells nothing")
	}
	return m[1]
}

// shell is the PID of the shell.
func (term *terminal) shell() int {
	term.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(term.tmux("display-message", "-p", "#{pane_pid}")))
	if err != nil {
		term.t.Fatal(err)
	}
	return pid
}

// pid is that of the program in the foreground.
func (term *terminal) pid() int {
	term.t.Helper()
	children := testpeer.Children(term.t, term.shell())
	if len(children) != 1 {
		term.t.Fatalf("the shell has the children %v", children)
	}
	return children[0]
}

// TestTop looks at gunicorn in a terminal of 80 by 24, by way of all keys.
func TestTop(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Tmux)
	dir := testpeer.Shm(t)
	g := startGunicorn(t, dir, 3)
	done := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { // until it has been seen
		for {
			select {
			case <-done:
				return
			default:
				if _, err := g.page("a"); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer load.Wait()
	defer close(done)
	term := startTerminal(t, 80, 24, "NO_COLOR=1")
	before := term.settings()
	term.line(testpeer.Promagg(t) + " top --dir " + dir + " --interval 300ms")

	// The three workers, with what their processes cost and do.
	text := term.screen(`(?m)^ 3 workers: 3 alive   \d+ families   [1-9][0-9.]* updates/s$`)
	for pid := range g.workers(t) {
		text = term.screen(`(?m)^[> ]` + pid + ` +alive +\d+m?\d*s +[0-9.]+ +[0-9.]+M +\d+ `)
	}
	if lines := strings.Split(strings.TrimRight(text, "\n"), "\n"); len(lines) != 24 || !strings.Contains(lines[23], "q quit") {
		t.Errorf("the screen is not filled:\n%s", text)
	}
	// No colours but the terminal's own (39, 49), and nothing but bold and reverse.
	for _, code := range regexp.MustCompile(`\x1b\[([0-9;]*)m`).FindAllStringSubmatch(term.tmux("capture-pane", "-p", "-e"), -1) {
		for _, n := range strings.Split(code[1], ";") {
			if !slices.Contains([]string{"", "0", "1", "7", "39", "49"}, n) {
				t.Errorf("an attribute %s: wanted bold (1) and reverse (7) only", n)
			}
		}
	}

	term.keys("Tab")
	term.screen(`(?m)^ Workers \[Families\]   by RATE/S, falling\n FAMILY .* RATE/S\*   SKEW *\n>.* (counter|histogram|summary) `)
	term.keys("/")
	term.tmux("send-keys", "-l", "requests_total")
	term.screen(`(?m)^>[^ ]*requests_total +counter [^\n]* [1-9][0-9.]* +[1-3]\.\d\d *$(?s).*\n/requests_total_`)
	term.keys("Enter", "Enter") // in one go
	text = term.screen(`(?m)^ Workers \[Families\] > [^ ]*requests_total   by RATE/S, falling$`)
	rows := 0
	for pid := range g.workers(t) {
		if regexp.MustCompile(`(?m)^[> ]` + pid + ` +alive `).MatchString(text) {
			rows++
		}
	}
	if rows != 3 {
		t.Errorf("%d of 3 workers in\n%s", rows, text)
	}
	term.keys("Escape")
	term.screen(`by RATE/S, falling   filter requests_total: 1 of \d+`)
	term.keys("Escape") // alone: with a key right behind it, it would be Alt and that key
	term.screen(`by RATE/S, falling *\n`)
	term.keys("1")
	term.screen(`by FAMILY, rising *\n`)
	term.keys("r")
	term.screen(`by FAMILY, falling *\n`)
	term.keys("Tab", "Enter")
	term.screen(`(?m)^\[Workers\] Families  > \d+   by RATE/S, falling$`)
	term.keys("?")
	term.screen(`any key goes on`)
	term.keys("x", "p")
	term.screen(`PAUSED *\n`)
	paused := term.screen(`PAUSED`)
	term.keys("p")
	testpeer.WaitFor(t, "looks to go on", patience, func() error {
		if text := term.screen(`every 300ms`); strings.SplitN(text, "\n", 3)[1] == strings.SplitN(paused, "\n", 3)[1] {
			return errors.New("nothing has changed")
		}
		return nil
	})

	// What is sent from look to look is what has changed: nothing is cleared, and no line
	// drawn that is as it was.
	sent := filepath.Join(t.TempDir(), "sent")
	term.tmux("pipe-pane", "cat >"+sent)
	summary := regexp.MustCompile(`(?m)^ 3 workers.*$`)
	for range 3 {
		was := summary.FindString(term.screen(`(?m)^ 3 workers`))
		testpeer.WaitFor(t, "another look", patience, func() error {
			if summary.FindString(term.screen(`(?m)^ 3 workers`)) == was {
				return errors.New("nothing has changed")
			}
			return nil
		})
	}
	term.tmux("pipe-pane")
	testpeer.WaitFor(t, "what is sent", patience, func() error {
		raw, err := os.ReadFile(sent)
		switch {
		case err != nil:
			return err
		case len(raw) == 0:
			return errors.New("nothing yet")
		case regexp.MustCompile(`\x1b\[[0-3]?[JK]|q quit`).Match(raw):
			t.Errorf("more is sent than has changed: %q", raw)
		}
		return nil
	})

	// Another size, and one that is too small.
	term.tmux("resize-window", "-x", "130", "-y", "30")
	term.keys("Escape")
	text = term.screen(`THREADS   FILES   ENTRIES`)
	if lines := strings.Split(strings.TrimRight(text, "\n"), "\n"); len(lines) != 30 {
		t.Errorf("%d lines of 30:\n%s", len(lines), text)
	}
	term.tmux("resize-window", "-x", "20", "-y", "4")
	term.screen(`(?m)^promagg top`)
	term.tmux("resize-window", "-x", "80", "-y", "24")
	term.screen(`q quit`)

	// Workers that have ended are shown as dead, for their files are there still. Not by
	// SIGKILL, which would cost a request.
	old := g.workers(t)
	testpeer.SignalPid(t, "HUP", g.Pid())
	for pid := range old {
		term.screen(`(?m)^[> ]` + pid + ` +dead +- +- +- `)
	}

	term.keys("q")
	term.sane(before)
}

// TestTopEnds has it end in all the ways there are, and wants the terminal back.
func TestTopEnds(t *testing.T) {
	testpeer.Require(t, testpeer.Tmux)
	dir := t.TempDir()
	run := testpeer.Promagg(t) + " top --dir " + dir
	shown := `no value files: nobody has written here yet`
	term := startTerminal(t, 80, 24)
	before := term.settings()
	for name, end := range map[string]func(){
		"q":      func() { term.keys("q") },
		"Ctrl-C": func() { term.keys("C-c") },
		"TERM":   func() { testpeer.SignalPid(t, "TERM", term.pid()) },
		"INT":    func() { testpeer.SignalPid(t, "INT", term.pid()) },
		"HUP":    func() { testpeer.SignalPid(t, "HUP", term.pid()) },
	} {
		t.Run(name, func(t *testing.T) {
			term.t = t
			term.line("clear; " + run + "; echo status $?")
			term.screen(shown)
			end()
			term.screen(`(?m)^status 0$`)
			term.sane(before)
		})
	}
	term.t = t

	// A pipe in place of either side, and a terminal that can do nothing.
	term.line("clear; " + run + " | cat")
	term.screen(`is not a terminal: use --once to print\s+it`)
	term.line("clear; " + run + " </dev/null")
	term.screen(`is not a terminal: use --once to print\s+it`)
	term.line("clear; TERM=nothing " + run)
	term.screen(`\(TERM=nothing\): use --once to print\s+it`)
	term.sane(before)

	// With the terminal it ends, too.
	term.line("clear; " + run)
	term.screen(shown)
	pid := term.pid()
	term.tmux("kill-session")
	testpeer.Ended(t, pid)
}

// TestTopForbidden has it run by somebody who may not look.
func TestTopForbidden(t *testing.T) {
	dir := testpeer.Shm(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := command(append(testpeer.Nobody(t), testpeer.Promagg(t), "top", "--once", "--dir", dir)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || !regexp.MustCompile(`^promagg: error: open .*: permission denied: run it as the user that the workers run as, or as root\n$`).MatchString(stderr.String()) {
		t.Errorf("%v, it says %q", err, &stderr)
	}
}

// TestTopURL looks at a promagg's own answers, and at one that goes away and comes back.
func TestTopURL(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Tmux)
	dir := testpeer.Shm(t)
	g := startGunicorn(t, dir, 2)
	g.request(t, 50)
	p := serve(t, dir, "--worker-metrics=per-process").ready(t)
	once := func() string {
		return output(t, command(testpeer.Promagg(t), "top", "--once", "--interval", "100ms", "--url", "http://"+p.address))
	}
	for pid := range g.workers(t) {
		testpeer.WaitFor(t, "worker "+pid, patience, func() error {
			if text := once(); !regexp.MustCompile(`(?m)^` + pid + ` +alive +\d+ +[0-9.]+ +\d+ +\d+ +- +- +- +-$`).MatchString(text) {
				return fmt.Errorf("it is not in\n%s", text)
			}
			return nil
		})
	}
	term := startTerminal(t, 80, 24)
	term.line(testpeer.Promagg(t) + " top --interval 200ms --url http://" + p.address)
	term.screen(`(?m)^ 2 workers: 2 alive `)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	term.screen(`(?m)^error: get http://[^ ]*/metrics: dial tcp (?s).*connection\s+refused`)
	term.keys("q")
}
