package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/promagg/promagg/internal/testpeer"
)

// The differential tests: processes of an unmodified client write at random
// while promagg reads as fast as it can; whenever they pause, promagg serves
// what that client's own collector reads from the same files.

func TestDifferentialPython(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	differential(t, differentialClient{
		writer: func(dir string, args ...string) *exec.Cmd { return python(dir, "random_writer.py", args...) },
		// The Python collector takes an identifier apart at underscores, so this has none. It
		// ends as if with a slot of the Ruby client, and means it.
		identifier: "web-0",
		collect: func(t *testing.T, dir string) exposition {
			var families []family
			if err := json.Unmarshal([]byte(output(t, python(dir, "collect.py", dir))), &families); err != nil {
				t.Fatal(err)
			}
			return expositionOf(t, families)
		},
		helps: true,
	})
}

func TestDifferentialRuby(t *testing.T) {
	testpeer.Require(t, testpeer.Ruby)
	differential(t, differentialClient{
		writer:     func(dir string, args ...string) *exec.Cmd { return ruby(dir, "random_writer.rb", args...) },
		identifier: "puma_worker_1",
		collect: func(t *testing.T, dir string) exposition {
			e, err := parseExposition(output(t, ruby(dir, "collect.rb", dir)))
			if err != nil {
				t.Fatal(err)
			}
			return e
		},
		helps: false, // it makes one up: its files hold none
	})
}

type differentialClient struct {
	writer     func(dir string, args ...string) *exec.Cmd
	identifier string // of one of the writers, in place of its PID
	collect    func(t *testing.T, dir string) exposition
	helps      bool // whether the client's files hold help texts
}

func differential(t *testing.T, c differentialClient) {
	const rounds, steps = 6, 40000
	seed := fmt.Sprint(testpeer.Seed(t))
	dir := t.TempDir()
	under := map[string]*promagg{
		"liveness off":     serve(t, dir, "--liveness", "off").ready(t),
		"default liveness": serve(t, dir).ready(t), // all writers live, so nothing may be missing
	}

	// The readers go on also while the writers pause: a scrape must be right
	// however many others run beside it.
	var readers sync.WaitGroup
	stop := make(chan struct{})
	scrapes := map[string]*int{}
	for name, p := range under {
		n := new(int)
		scrapes[name] = n
		readers.Go(func() { *n = keepReading(t, name, p, stop) })
	}
	stopReading := sync.OnceFunc(func() { close(stop); readers.Wait() })
	t.Cleanup(stopReading) // before the servers are stopped, also if the test fails

	var writers []*worker
	for round := range rounds {
		// Each round but the last has one writer more than the one before.
		if round < rounds-1 {
			args := []string{seed, fmt.Sprint(round)}
			if round == 1 {
				args = append(args, c.identifier)
			}
			writers = append(writers, startWorker(t, c.writer(dir, args...)))
		}
		for _, w := range writers {
			w.send(t, fmt.Sprintf("go %d", steps/len(writers)))
		}
		for _, w := range writers {
			if answer := w.receive(t); answer != "paused" {
				t.Fatalf("the writer answers %q, want paused", answer)
			}
		}
		want := c.collect(t, dir)
		if len(want.samples) < 100 {
			t.Fatalf("the client's collector has %d series only", len(want.samples))
		}
		compare := func(what string, got exposition) {
			t.Helper()
			checkSamples(t, what, got.samples, want.samples)
			if diff := cmp.Diff(want.types, got.types); diff != "" {
				t.Errorf("%s: types (-client +promagg):\n%s", what, diff)
			}
			if c.helps {
				if diff := cmp.Diff(want.helps, got.helps); diff != "" {
					t.Errorf("%s: help texts (-client +promagg):\n%s", what, diff)
				}
			}
		}
		for name, p := range under {
			compare(fmt.Sprintf("round %d, serve with %s", round, name), p.scrape(t))
		}
		compare(fmt.Sprintf("round %d, merge", round), merge(t, dir))
		if t.Failed() {
			break
		}
	}
	stopReading()
	for name, n := range scrapes {
		t.Logf("%d scrapes in between with %s", *n, name)
		if *n < 2*rounds && !t.Failed() {
			t.Errorf("%d scrapes in between with %s: too few to have met the writers", *n, name)
		}
	}
}

// keepReading scrapes over and over until stop. Each scrape must parse, and
// nothing that only grows may fall. It returns the number of scrapes.
func keepReading(t *testing.T, name string, p *promagg, stop <-chan struct{}) int {
	before := exposition{}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		default:
		}
		text, err := fetch("http://" + p.address + "/metrics")
		if err != nil {
			t.Errorf("serve with %s: %v", name, err)
			return n
		}
		e, err := parseExposition(text)
		if err != nil {
			t.Errorf("serve with %s, scrape %d: %v", name, n, err)
			return n
		}
		if err := mustNotFall(e, before); err != nil {
			at := strings.Index(text, strings.SplitN(err.Error(), "{", 2)[0])
			t.Errorf("serve with %s, scrape %d: %v\n%s", name, n, err, text[max(0, at):min(len(text), at+400)])
			return n
		}
		before = e
	}
}
