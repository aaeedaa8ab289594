package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
)

func newStopChoice(word string) choice { return choice{word, []string{keep, cleanUp}} }

func addStopFlag(cmd *cobra.Command, c *choice) {
	cmd.Flags().Var(c, "on-stop", "what to do with value files at the stop: keep them, or clean the directory as promagg clean does")
}

// atStop cleans the directories if they are to be cleaned. Nobody may be serving them any
// more in this process. That somebody writes one still is no fault of the stop, and is
// logged.
func atStop(do choice, all []multiproc.Options) (err error) {
	if do.word != cleanUp {
		return nil
	}
	for _, o := range all {
		err = errors.Join(err, cleanAtStop(o))
	}
	return err
}

func cleanAtStop(o multiproc.Options) error {
	removed, err := multiproc.Clean(o.Path, false, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, multiproc.ErrWriters):
		o.Logger.Warn("the directory was not cleaned: run promagg clean once the application has ended", "dir", o.Path, "err", err)
		return nil
	case err != nil:
		return fmt.Errorf("--on-stop=clean: %w", err)
	}
	o.Logger.Info("the directory was cleaned", "dir", o.Path, "files", len(removed))
	return nil
}
