package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
)

func newClean() *cobra.Command {
	var (
		dirs          dirsFlag
		dryRun, force bool
	)
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove the value files of an application that is down",
		Long: `clean removes the value files of a directory, and nothing else, and names them on
standard output. It is for the start and stop of the application: as long as a
writer is alive, or can't be shown to be dead, it removes nothing. It takes several
directories as serve does, and cleans each of them whatever it finds in the others.`,
		Example: `  promagg clean --dir /run/myapp/metrics
  promagg clean --dir web=/run/web/metrics --dir jobs=/run/jobs/metrics`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := dirs.directories()
			for _, d := range all {
				err = errors.Join(err, cleanDirectory(cmd, d, len(all) > 1, dryRun, force))
			}
			return err
		},
	}
	dirs.addDirFlag(cmd)
	addRemovalFlags(cmd, &dryRun, &force)
	return cmd
}

// cleanDirectory cleans one directory, which goes before the names of its files if there
// are several.
func cleanDirectory(cmd *cobra.Command, d namedDir, several, dryRun, force bool) error {
	if _, err := existingDirectory(d.path); err != nil {
		return err
	}
	removed, err := multiproc.Clean(d.path, dryRun, force)
	if several {
		for i, name := range removed {
			removed[i] = filepath.Join(d.path, name)
		}
	}
	return reportRemoved(cmd, dryRun, removed, err, "nothing removed from "+d.path, "stop the application first, or use --force")
}

func newMarkDead() *cobra.Command {
	var (
		dir           string
		dryRun, force bool
	)
	cmd := &cobra.Command{
		Use:   "mark-dead ID...",
		Short: "Remove the live gauges of workers that have ended",
		Long: `mark-dead removes the value files of the live gauges (livesum, liveall and so on) of
workers that have ended, by their ids, which are mostly their PIDs. It is what the
Python client's multiprocess.mark_process_dead does, for those who have it in the
configuration of their server. promagg serve does without: it asks the kernel.`,
		Example: `  promagg mark-dead --dir /run/myapp/metrics 4711`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("no worker: give the id of one that has ended (see %s --help)", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			path, err := existingDirectory(dir)
			if err != nil {
				return err
			}
			removed, err := multiproc.MarkDead(path, ids, dryRun, force)
			return reportRemoved(cmd, dryRun, removed, err, "nothing removed from "+path, "wait for the worker to end, or use --force")
		},
	}
	addDirFlag(cmd, &dir)
	addRemovalFlags(cmd, &dryRun, &force)
	return cmd
}

func addRemovalFlags(cmd *cobra.Command, dryRun, force *bool) {
	cmd.Flags().BoolVarP(dryRun, "dry-run", "n", false, "say what would be removed and remove nothing")
	cmd.Flags().BoolVar(force, "force", false, "remove files whose writers may be alive; their values are lost")
}

// reportRemoved names what was removed, and says what to do if nothing was because
// of a writer.
func reportRemoved(cmd *cobra.Command, dryRun bool, removed []string, err error, what, do string) error {
	prefix := ""
	if dryRun {
		prefix = "would remove "
	}
	err = errors.Join(err, printNames(cmd.OutOrStdout(), prefix, removed))
	if errors.Is(err, multiproc.ErrWriters) {
		return fmt.Errorf("%s: %w; %s", what, err, do)
	}
	return err
}
