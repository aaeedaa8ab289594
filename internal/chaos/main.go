package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

func main() {
	if settings := os.Getenv(workerEnv); settings != "" {
		if err := work(settings); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), mmapfile.StopSignals()...)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: error:", err)
		os.Exit(1)
	}
}

// run runs one command line: "chaos [flags]" or "chaos soak [flags]".
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	soak := len(args) > 0 && args[0] == "soak"
	if soak {
		args = args[1:]
	}
	var c chaosSettings
	var k soakSettings
	var keep bool
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.base, "base", place(), "where the run has its files")
	flags.StringVar(&c.program, "promagg", "", "promagg to run (default: built from this tree)")
	flags.BoolVar(&keep, "keep", false, "keep the run's files in any case")
	flags.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano())%1e9, "seed of all that is drawn")
	flags.DurationVar(&c.time, "time", time.Minute, "how long")
	if soak {
		flags.IntVar(&c.workers, "workers", 64, "how many live at a time")
		flags.DurationVar(&c.every, "pause", 200*time.Millisecond, "mean pause between updates of a goroutine")
		flags.DurationVar(&k.recycle, "recycle", 50*time.Millisecond, "how often one ends and another comes")
		flags.DurationVar(&k.interval, "fold.interval", 5*time.Second, "of promagg")
		flags.DurationVar(&k.sample, "sample", time.Minute, "how often a line is printed")
	} else {
		flags.IntVar(&c.workers, "workers", 16, "how many live at a time")
		flags.DurationVar(&c.every, "pause", 5*time.Millisecond, "mean pause between updates of a goroutine")
		flags.DurationVar(&c.life, "life", 300*time.Millisecond, "mean life of a worker")
		flags.DurationVar(&c.daemonLife, "promagg.life", time.Second, "mean life of a promagg")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.level, c.burst = "debug", 200
	if soak {
		c.level, c.burst = "info", 1
	}
	if c.program == "" {
		built, err := os.MkdirTemp("", "promagg-chaos-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(built)
		c.program = filepath.Join(built, "promagg")
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", c.program, "github.com/promagg/promagg/cmd/promagg")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build promagg: %w: %s", err, out)
		}
	}
	h, err := newHarness(c.settings, stdout)
	if err != nil {
		return err
	}
	defer func() {
		h.report()
		err = cmp.Or(err, h.close(keep || err != nil))
	}()
	if soak {
		k.settings, k.time = c.settings, c.time
		return h.soak(ctx, k)
	}
	return h.chaos(ctx, c)
}

// place is a tmpfs, where there is one.
func place() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}
