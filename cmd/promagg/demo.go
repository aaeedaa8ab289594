package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/demo"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// demoWorker is the hidden command that runs one worker of the demonstration.
const demoWorker = "demo-worker"

func newDemo() *cobra.Command {
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what promagg does: a server of four workers under load",
		Long: `demo starts an HTTP server of four worker processes that count with promagg's
client library, sends it requests, replaces a worker every few seconds, and serves
the merged metrics. All of it is bound to 127.0.0.1 and lives in a temporary
directory; nothing is left when it ends.`,
		Example: `  promagg demo
  promagg demo --for 30s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if duration < 0 {
				return usageError{fmt.Errorf("--for: want a duration above 0, got %s", duration)}
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			// Without the terminal, or who reads our output, we have to clean up, too.
			ctx, stop := signal.NotifyContext(cmd.Context(), mmapfile.LossSignals()...)
			defer stop()
			log := promslog.New(&promslog.Config{Level: warnLevel(), Writer: cmd.ErrOrStderr()})
			f := newServeFlags()
			f.path, f.shutdownIn = "/metrics", 5*time.Second
			return demo.Run(ctx, demo.Options{
				Worker: []string{program, demoWorker},
				Serve: func(ctx context.Context, l net.Listener, dir string) error {
					// Often enough for somebody who looks on.
					folding := multiproc.Folding{Interval: 5 * time.Second, Settle: time.Second, Retention: multiproc.Forever}
					return f.serve(ctx, l, []multiproc.Options{{Path: dir, Logger: log, Fold: folding}})
				},
				For: duration,
				Out: cmd.OutOrStdout(),
				Err: cmd.ErrOrStderr(),
			})
		},
	}
	cmd.Flags().DurationVar(&duration, "for", 0, "end by itself after this time (default: on Ctrl-C)")
	return cmd
}

func newDemoWorker() *cobra.Command {
	return &cobra.Command{
		Use:    demoWorker,
		Short:  "Run one worker of the demonstration",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Work(cmd.Context(), cmp.Or(version.Version, "dev"), cmd.InOrStdin())
		},
	}
}

func warnLevel() *promslog.Level {
	level := promslog.NewLevel()
	if err := level.Set("warn"); err != nil {
		panic(err) // it is one of those there are
	}
	return level
}
