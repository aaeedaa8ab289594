package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// python is an interpreter that has the Prometheus client.
type python struct {
	path    string
	version string // of it and the client
	missing error  // why there is none
}

// pythons are tried in turn: the system's own comes before PATH, which may well
// put one first that has no client.
var pythons = []string{"/usr/bin/python3", "python3"}

const pythonVersion = `
import platform, importlib.metadata, prometheus_client.multiprocess
print("Python", platform.python_version() + ", prometheus_client", importlib.metadata.version("prometheus_client"))`

func findPython(ctx context.Context, candidates []string) python {
	tried := errors.New("no Python with prometheus_client")
	for _, name := range candidates {
		path, err := exec.LookPath(name)
		if err != nil {
			tried = fmt.Errorf("%w; %w", tried, err)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		out, err := exec.CommandContext(ctx, path, "-c", pythonVersion).Output()
		cancel()
		if err == nil {
			return python{path: path, version: strings.TrimSpace(string(out))}
		}
		tried = fmt.Errorf("%w; %s: %w", tried, path, err)
	}
	return python{missing: tried}
}

//go:embed collect.py
var collectScript string

// collector is a Python process that scrapes when told to.
type collector struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	text []byte
}

func startPython(ctx context.Context, b *bench) (scraper, error) {
	if b.python.missing != nil {
		return nil, notMeasured{b.python.missing}
	}
	c := &collector{cmd: exec.CommandContext(ctx, b.python.path, "-c", collectScript, b.dir.path)}
	c.cmd.Stderr = b.log
	c.cmd.WaitDelay = patience
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *collector) scrape() (answer, error) {
	if _, err := io.WriteString(c.in, "scrape\n"); err != nil {
		return answer{}, fmt.Errorf("collect.py: %w", err)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return answer{}, fmt.Errorf("collect.py: %w", err)
	}
	var head struct {
		Seconds float64 `json:"seconds"`
		Bytes   int     `json:"bytes"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return answer{}, fmt.Errorf("collect.py: %w", err)
	}
	c.text = append(c.text[:0], make([]byte, head.Bytes)...)
	if _, err := io.ReadFull(c.out, c.text); err != nil {
		return answer{}, fmt.Errorf("collect.py: %w", err)
	}
	return answer{took: time.Duration(head.Seconds * float64(time.Second)), text: c.text}, nil
}

func (c *collector) rest() {}

func (c *collector) cpu() (time.Duration, error) { return cpuTime(strconv.Itoa(c.cmd.Process.Pid)) }

// close ends the process by ending its input.
func (c *collector) close() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }
