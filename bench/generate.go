package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// maxValue bounds values: what a worker counts in a few hours.
const maxValue = 1_000_000

// pen writes value files of one shape, all with the same keys.
type pen struct {
	shape
	dir  string
	keys [][]byte
	rand *rand.Rand
	written
}

func newPen(s shape, dir string, seed uint64) *pen {
	keys := keysOf(s.families(s.entries))
	return &pen{shape: s, dir: dir, keys: keys, rand: rand.New(rand.NewPCG(seed, 0)), written: newWritten(len(keys))}
}

// write writes the file of one writer, in the value-only layout that the Python
// client in Debian reads as well as the newest one. The file is left open.
func (p *pen) write(writer string) (*mmapfile.Writer, error) {
	w, err := mmapfile.Create(filepath.Join(p.dir, p.fileName(writer)), mmapfile.ValueOnly, p.fileSize())
	if err != nil {
		return nil, err
	}
	sum := 0.0
	for i, key := range p.keys {
		at, err := w.Append(key)
		if err != nil {
			_ = w.Close() // the first error says what is wrong
			return nil, err
		}
		v := float64(p.rand.IntN(maxValue))
		w.Set(at, v)
		p.Sums[i] += v
		sum += v
	}
	p.Writers = append(p.Writers, sum)
	return w, nil
}

// generateGo fills a directory with a writer of our own.
func generateGo(s shape, dir string, seed uint64) (written, error) {
	p := newPen(s, dir, seed)
	for i := range s.writers {
		w, err := p.write(writerID(i))
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return written{}, err
		}
	}
	return p.written, nil
}

//go:embed generate.py
var generatePython string

//go:embed generate.rb
var generateRuby string

// generatePeer has another client write the same, in its own form.
func generatePeer(ctx context.Context, p peer, script, dir string, s shape, seed uint64) (written, error) {
	families := s.families(s.entries)
	order := struct {
		Families []family `json:"families"`
		Writers  []string `json:"writers"`
		MaxValue int      `json:"max_value"`
		Seed     uint64   `json:"seed"`
	}{Families: families, MaxValue: maxValue, Seed: seed}
	for i := range s.writers {
		order.Writers = append(order.Writers, writerID(i))
	}
	text, err := json.Marshal(order)
	if err != nil {
		return written{}, err
	}
	cmd := p.command(ctx, script, dir)
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return written{}, fmt.Errorf("%s: %w", filepath.Base(p.path), err)
	}
	var w written
	if err := json.Unmarshal(out, &w); err != nil {
		return written{}, fmt.Errorf("%s: %w", filepath.Base(p.path), err)
	}
	if keys := len(keysOf(families)); len(w.Sums) != keys || len(w.Writers) != s.writers {
		return written{}, fmt.Errorf("%s: want sums of %d keys and %d writers, got %d and %d", filepath.Base(p.path), keys, s.writers, len(w.Sums), len(w.Writers))
	}
	return w, nil
}

// command runs a script in the interpreter, for which dir is the multiprocess
// directory in both clients' spelling.
func (p peer) command(ctx context.Context, script, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, p.eval, script, dir)
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir, "prometheus_multiproc_dir="+dir)
	return cmd
}
