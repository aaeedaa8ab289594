package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// helperEnv in the environment makes this program a helper: a process of its own
// that plays writers, since whether they live is what the kernel says of them, or
// a server.
const helperEnv = "PROMAGG_BENCH_HELPER"

// order tells a helper what to do. It is one JSON object on its stdin.
type order struct {
	Hold  []string    `json:"hold,omitempty"` // value files to keep mapped writable
	Churn *churnOrder `json:"churn,omitempty"`
	Serve []byte      `json:"serve,omitempty"` // what to serve over HTTP
	Fleet *fleetOrder `json:"fleet,omitempty"`
	Grow  *growOrder  `json:"grow,omitempty"`
}

// churnOrder is about writers that come and go.
type churnOrder struct {
	Shape       string        `json:"shape"`
	Entries     int           `json:"entries"`
	Dir         string        `json:"dir"`
	First, Last int           // the writers, the last one not included
	AtOnce      int           `json:"at_once"` // how many of them live at a time
	Every       time.Duration `json:"every"`   // a new one comes
	Seed        uint64        `json:"seed"`
}

// playHelper carries out an order, and is done at the latest when stdin ends: a
// benchmark that is killed leaves no writers.
func playHelper(stdin io.Reader, stdout io.Writer) error {
	in := json.NewDecoder(stdin)
	var o order
	if err := in.Decode(&o); err != nil {
		return err
	}
	if o.Churn != nil {
		w, err := o.Churn.play()
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(w)
	}
	if o.Serve != nil {
		return serveBytes(o.Serve, stdin, stdout)
	}
	if o.Grow != nil {
		n, err := o.Grow.play()
		if err != nil {
			return err
		}
		if err := json.NewEncoder(stdout).Encode(n); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, stdin) // it lives on
		return err
	}
	if o.Fleet != nil {
		if err := o.Fleet.play(); err != nil {
			return err
		}
	}
	for _, path := range o.Hold {
		// Never closed: it is the end of the process that ends the writer.
		if _, err := mmapfile.Create(path, mmapfile.ValueOnly, 0); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(stdout, "ready"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// play has each writer write its file, live for as long as it takes some others
// to come, and go.
func (o *churnOrder) play() (written, error) {
	found, err := shapesOf(o.Shape)
	if err != nil {
		return written{}, err
	}
	p := newPen(found[0].sized(options{entries: o.Entries}), o.Dir, o.Seed)
	var alive []*mmapfile.Writer
	for i := o.First; i < o.Last; i++ {
		w, err := p.write(writerID(i))
		if err != nil {
			return written{}, err
		}
		if alive = append(alive, w); len(alive) > o.AtOnce {
			if err := alive[0].Close(); err != nil {
				return written{}, err
			}
			alive = alive[1:]
		}
		time.Sleep(o.Every)
	}
	for _, w := range alive {
		if err := w.Close(); err != nil {
			return written{}, err
		}
	}
	return p.written, nil
}

// helper is a helper process.
type helper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log bytes.Buffer // its stderr
}

func startHelper(ctx context.Context, o order) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.CommandContext(ctx, self)}
	h.cmd.Env = append(os.Environ(), helperEnv+"=1")
	h.cmd.Stderr = &h.log
	h.cmd.WaitDelay = patience
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(h.in).Encode(o); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// hold has a process keep files as if it were their writer.
func hold(ctx context.Context, paths []string) (*helper, error) {
	h, err := startHelper(ctx, order{Hold: paths})
	if err != nil {
		return nil, err
	}
	if err := h.ready(); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// ready waits until the process holds its files.
func (h *helper) ready() error {
	if line, err := h.out.ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("the process that holds the files: want ready, got %q", line)
	}
	return nil
}

// stop ends the process by ending its input, which is the end of its writers.
func (h *helper) stop() error {
	err := errors.Join(h.in.Close(), h.cmd.Wait())
	if err != nil {
		return fmt.Errorf("helper process: %w: %s", err, bytes.TrimSpace(h.log.Bytes()))
	}
	return nil
}
