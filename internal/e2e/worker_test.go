package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/testpeer"
)

// worker is a process that takes a line at a time on stdin and answers some of
// them with a line on stdout.
type worker struct {
	*testpeer.Process
	name  string
	stdin io.WriteCloser
	lines lineQueue
}

func startWorker(t testing.TB, cmd *exec.Cmd) *worker {
	t.Helper()
	w := &worker{name: strings.Join(cmd.Args, " ")}
	w.lines.more = make(chan struct{}, 1)
	var err error
	if w.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = &w.lines
	w.Process = testpeer.Start(t, cmd)
	// The first process of a PID namespace does not end on SIGTERM; each worker ends with its input.
	t.Cleanup(func() { w.stdin.Close() })
	return w
}

func (w *worker) send(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(w.stdin, line+"\n"); err != nil {
		t.Fatalf("%s: send %q: %v", w.name, line, err)
	}
}

// receive is the next line that the worker writes.
func (w *worker) receive(t testing.TB) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		if line, ok := w.lines.take(); ok {
			return line
		}
		if ended, err := w.Exited(); ended {
			t.Fatalf("%s has ended in place of answering: %v", w.name, err)
		}
		select {
		case <-w.lines.more:
		case <-time.After(100 * time.Millisecond): // to see whether it has ended
		case <-deadline:
			t.Fatalf("%s: no answer after %v", w.name, patience)
		}
	}
}

func (w *worker) ask(t testing.TB, line string) string {
	t.Helper()
	w.send(t, line)
	return w.receive(t)
}

// lineQueue takes what a process writes apart into lines.
type lineQueue struct {
	mu   sync.Mutex // protects buf
	buf  []byte
	more chan struct{} // has a token when buf has grown
}

func (q *lineQueue) Write(b []byte) (int, error) {
	q.mu.Lock()
	q.buf = append(q.buf, b...)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (q *lineQueue) take() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line, rest, ok := bytes.Cut(q.buf, []byte("\n"))
	if !ok {
		return "", false
	}
	q.buf = slices.Clone(rest)
	return string(line), true
}

// op is one thing for worker.py or worker.rb to do.
type op struct {
	Op     string            `json:"op"`
	ID     string            `json:"id,omitempty"`
	Type   string            `json:"type,omitempty"`
	Name   string            `json:"name,omitempty"`
	Mode   string            `json:"mode,omitempty"`
	Bounds []float64         `json:"bounds,omitempty"`
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
}

func (o op) String() string {
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("op %#v: %v", o, err))
	}
	return string(b)
}
