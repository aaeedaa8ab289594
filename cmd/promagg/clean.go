package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
)

func newClean() *cobra.Command {
	var (
		dir           string
		dryRun, force bool
	)
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove the value files of a directory",
		Long: `clean removes the value files of a directory, and nothing else, and names them on
standard output. It is for the start and stop of the application: as long as a
writer is alive, or can't be shown to be dead, it removes nothing.`,
		Example: `  promagg clean --dir /run/myapp/metrics`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := existingDirectory(dir)
			if err != nil {
				return err
			}
			removed, err := multiproc.Clean(path, dryRun, force)
			prefix := ""
			if dryRun {
				prefix = "would remove "
			}
			err = errors.Join(err, printNames(cmd.OutOrStdout(), prefix, removed))
			if errors.Is(err, multiproc.ErrWriters) {
				return fmt.Errorf("nothing removed from %s: %w; stop the application first, or use --force", path, err)
			}
			return err
		},
	}
	addDirFlag(cmd, &dir)
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "say what would be removed and remove nothing")
	cmd.Flags().BoolVar(&force, "force", false, "remove files whose writers may be alive; their values are lost")
	return cmd
}
