package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

const docs = "../../docs"
const readme = "../../README.md"

// startPeers is what each section needs that has something to run.
var startPeers = map[string][]*testpeer.Peer{
	"First steps":                    {testpeer.Gunicorn},
	"gunicorn and Flask":             {testpeer.Gunicorn},
	"promagg beside the application": {testpeer.Gunicorn},
	"gunicorn and Django":            {testpeer.Django},
	"gunicorn and FastAPI":           {testpeer.FastAPI},
	"uWSGI":                          {testpeer.UWSGI, testpeer.Python},
	"Celery":                         {testpeer.Celery},
	"Puma":                           {testpeer.Puma, testpeer.Ruby},
	"Unicorn":                        {testpeer.Unicorn, testpeer.Ruby},
	"Go prefork":                     nil,
}

// TestQuickStarts runs every quick start as it stands in README.md and docs/quickstart.md:
// its files in an empty directory, the first block of shell to start it, the second to look at it. What
// that prints has the lines that the page says. Only ports and /run/shop are others.
func TestQuickStarts(t *testing.T) {
	files := map[string]string{} // of the sections so far: some go on with what they have
	ran := map[string]bool{}
	for _, s := range append(sections(t, readme), sections(t, filepath.Join(docs, "quickstart.md"))...) {
		for _, b := range s.blocks {
			if name := fileName(b); name != "" {
				files[name] = b.text
			}
		}
		shell := s.of("sh")
		if len(shell) == 0 {
			continue
		}
		peers, known := startPeers[s.title]
		if expected := s.of("text"); !known || len(shell) != 2 || len(expected) != 1 {
			t.Fatalf("section %q has %d blocks of shell and %d of expected text, and is known: %v; want 2, 1, true", s.title, len(shell), len(expected), known)
		}
		ran[s.title] = true
		own := map[string]string{}
		for name, text := range files {
			own[name] = text
		}
		t.Run(strings.ReplaceAll(s.title, " ", "_"), func(t *testing.T) {
			t.Parallel()
			testpeer.Require(t, append(peers, testpeer.Curl)...)
			quickStart(t, own, shell[0], shell[1], s.of("text")[0])
		})
	}
	for title := range startPeers {
		if !ran[title] {
			t.Errorf("the pages have no section %q with something to run", title)
		}
	}
}

// quickStart starts a server, does what a reader is to do, and compares.
func quickStart(t *testing.T, files map[string]string, start, look, expected string) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(testpeer.Promagg(t), filepath.Join(bin, "promagg")); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	app, metrics := freeAddress(t), freeAddress(t)
	here := strings.NewReplacer("127.0.0.1:8000", app, "127.0.0.1:9917", metrics, "/run/shop", dir)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(here.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shell := func(script string) *exec.Cmd {
		cmd := command("bash", "-eu", "-o", "pipefail", "-c", here.Replace(script))
		cmd.Dir = dir
		// The distribution's programs, whatever comes first on the developer's PATH.
		cmd.Env = append(cmd.Env, "PATH="+bin+":/usr/bin:/bin:"+os.Getenv("PATH"))
		return cmd
	}
	if strings.Contains(start, "go build") { // a module is built from inside it
		start = strings.Replace(start, "go build ", "go build -C "+root+" -buildvcs=false ", 1)
		start = strings.Replace(start, "bin/prefork ./", filepath.Join(bin, "prefork")+" ./", 1)
	}

	// The shell ends after what it has started: a signal reaches them all, and it waits.
	server := testpeer.Start(t, shell("trap : TERM\n"+start))
	testpeer.WaitFor(t, "promagg and the application", patience, func() error {
		if ended, err := server.Exited(); ended {
			t.Fatalf("it has ended: %v", err)
		}
		if _, err := fetch("http://" + metrics + "/-/ready"); err != nil {
			return err
		}
		if !strings.Contains(look, "127.0.0.1:8000") { // it has a queue, which keeps what comes early
			return nil
		}
		conn, err := net.Dial("tcp", app)
		if err == nil {
			conn.Close()
		}
		return err
	})
	out, err := shell(look).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", look, err, out)
	}
	// What is counted behind the answer to a client, or by a task, may come a moment later.
	scrape := regexp.MustCompile(`(?m)^curl -s 127\.0\.0\.1:9917/metrics.*`).FindString(look)
	printed := string(out)
	testpeer.WaitFor(t, "the lines that the page has", patience, func() error {
		for _, line := range strings.Split(strings.TrimSpace(expected), "\n") {
			if !strings.Contains("\n"+printed, "\n"+line+"\n") {
				again, err := shell(scrape).CombinedOutput()
				missing := fmt.Errorf("no line %q in:\n%s(%v)", line, printed, err)
				printed = string(again)
				return missing
			}
		}
		return nil
	})
	again, err := shell(scrape).CombinedOutput()
	if err != nil || strings.TrimSpace(string(again)) != strings.TrimSpace(expected) {
		t.Errorf("%s prints, %v:\n%sand the page has:\n%s", scrape, err, again, expected)
	}
}

// TestConfigurationInDocs: what the pages would have put into prometheus.yml, Prometheus takes.
func TestConfigurationInDocs(t *testing.T) {
	testpeer.Require(t, testpeer.Promtool)
	found := 0
	for _, page := range []string{readme, docs + "/quickstart.md", docs + "/migrating.md"} {
		for _, s := range sections(t, page) {
			for _, text := range s.of("yaml") {
				found++
				path := filepath.Join(t.TempDir(), "prometheus.yml")
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				if out, err := command(testpeer.Promtool.Path(), "check", "config", path).CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s\n%s", page, err, out, text)
				}
			}
		}
	}
	if found == 0 {
		t.Error("there is none")
	}
}

// section is a part of a page, from a heading "## …" to the next one.
type section struct {
	title  string
	blocks []block
}

// block is a fenced block of code without its indentation.
type block struct{ language, text string }

func (s section) of(language string) (texts []string) {
	for _, b := range s.blocks {
		if b.language == language {
			texts = append(texts, b.text)
		}
	}
	return texts
}

// fileName is the name that a block gives itself in its first line, "# app.py".
func fileName(b block) string {
	m := regexp.MustCompile(`^# ([a-z]+\.[a-z]+)\n`).FindStringSubmatch(b.text)
	if m == nil || b.language == "sh" {
		return ""
	}
	return m[1]
}

func sections(t *testing.T, path string) []section {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := []section{{}}
	fence := regexp.MustCompile("^( *)```([a-z]*)$")
	var open *block
	indent := ""
	for line := range strings.Lines(string(page)) {
		last := &all[len(all)-1]
		m := fence.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		switch {
		case m != nil && open == nil:
			indent, open = m[1], &block{language: m[2]}
		case m != nil:
			last.blocks = append(last.blocks, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent)
		case strings.HasPrefix(line, "## "):
			all = append(all, section{title: strings.TrimSpace(line[3:])})
		}
	}
	if open != nil {
		t.Fatalf("%s: a block of code has no end", path)
	}
	return all
}
