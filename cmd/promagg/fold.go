package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

func newFold() *cobra.Command {
	var (
		dir       string
		probe     probeFlag
		retention retentionFlag
	)
	cmd := &cobra.Command{
		Use:   "fold",
		Short: "Add up dead writers' files in archives, once",
		Long: `fold does once what serve does all the time: it adds the files of writers that are
dead into one archive per type and gauge mode, and deletes them. No value changes by
that, but for live gauges of the dead, which count for nothing and are deleted.`,
		Example: `  promagg fold --dir /run/myapp/metrics`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kept := retention.duration(); kept != 0 && kept != multiproc.Forever {
				return usageError{fmt.Errorf("--gauge.retention: want 0 or forever, got %s: only serve knows how long a writer has been dead", kept)}
			}
			path, err := existingDirectory(dir)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			d := multiproc.Open(multiproc.Options{Path: path, Liveness: probe.Probe, Logger: log,
				Fold: multiproc.Folding{Retention: retention.duration(), Settle: 250 * time.Millisecond}})
			defer d.Close()
			did, err := d.FoldOnce(cmd.Context())
			if errors.Is(err, mmapfile.ErrTaken) {
				return fmt.Errorf("nothing folded in %s: another promagg, which serves it perhaps, folds this directory", path)
			}
			if errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("folding %s: %w; run it as a user that may write the directory, as the owner of the files if it has the sticky bit", path, err)
			}
			if err != nil {
				return fmt.Errorf("folding %s: %w", path, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files folded, %d deleted that count for nothing, %d archives written\n", did.Folded, did.Expired, did.Folds)
			return err
		},
	}
	addDirFlag(cmd, &dir)
	addLivenessFlag(cmd, &probe)
	addRetentionFlag(cmd, &retention)
	return cmd
}
