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
	"path/filepath"
	"time"
)

//go:embed collect.py
var collectPython string

//go:embed collect.rb
var collectRuby string

// collector is another client's collector, in a process that scrapes when told
// to and measures that itself.
type collector struct {
	process
	name string
	in   io.WriteCloser
	out  *bufio.Reader
	text []byte
}

func startPython(ctx context.Context, b *bench) (scraper, error) {
	return startCollector(ctx, b, b.python, collectPython)
}

func startRuby(ctx context.Context, b *bench) (scraper, error) {
	return startCollector(ctx, b, b.ruby, collectRuby)
}

func startCollector(ctx context.Context, b *bench, p peer, script string) (scraper, error) {
	if p.missing != nil {
		return nil, notMeasured{p.missing}
	}
	c := &collector{name: filepath.Base(p.path), process: process{cmd: p.command(ctx, script, b.dir.path)}}
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
	a, err := c.ask()
	if err != nil {
		return a, fmt.Errorf("%s: %w", c.name, err)
	}
	return a, nil
}

func (c *collector) ask() (answer, error) {
	if _, err := io.WriteString(c.in, "scrape\n"); err != nil {
		return answer{}, err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return answer{}, err
	}
	var head struct {
		Seconds float64 `json:"seconds"`
		Bytes   int     `json:"bytes"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return answer{}, err
	}
	c.text = append(c.text[:0], make([]byte, head.Bytes)...)
	if _, err := io.ReadFull(c.out, c.text); err != nil {
		return answer{}, err
	}
	return answer{took: time.Duration(head.Seconds * float64(time.Second)), text: c.text}, nil
}

func (c *collector) rest() {}

// close ends the process by ending its input.
func (c *collector) close() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }

// process is a scraper's part that works in another process.
type process struct{ cmd *exec.Cmd }

func (p *process) pid() int                    { return p.cmd.Process.Pid }
func (p *process) cpu() (time.Duration, error) { return cpuTime(p.pid()) }
