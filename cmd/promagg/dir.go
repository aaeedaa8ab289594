package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/mmapfile"
)

// dirEnv are the variables that name the multiprocess directory, as the clients
// look them up.
var dirEnv = []string{"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"}

// addDirFlag adds --dir.
func addDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVarP(dir, "dir", "d", "", "multiprocess directory (default $"+dirEnv[0]+", then $"+dirEnv[1]+")")
}

// directory returns the directory that --dir or the environment names.
func directory(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	for _, env := range dirEnv {
		if dir := os.Getenv(env); dir != "" {
			return dir, nil
		}
	}
	return "", usageError{fmt.Errorf("no directory: give --dir, or set %s to what the workers use", dirEnv[0])}
}

// existingDirectory is directory for commands that have no use for one that is
// not there.
func existingDirectory(flag string) (string, error) {
	dir, err := directory(flag)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if dirName.MatchString(dir) {
			return "", fmt.Errorf("directory %s does not exist: this command takes one directory, by its path without a name", dir)
		}
		return "", fmt.Errorf("directory %s does not exist: create it, or give with --dir the one that the workers use", dir)
	}
	return dir, checkDirectory(dir)
}

// checkDirectory returns an error for what is there and is no directory.
func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory: give with --dir the one that the workers use", dir)
	}
	return nil
}

// probeFlag is a liveness probe as a flag.
type probeFlag struct{ mmapfile.Probe }

func (p *probeFlag) Set(s string) (err error) {
	p.Probe, err = mmapfile.ParseProbe(s)
	return err
}

func (p *probeFlag) Type() string { return "probe" }

func (p *probeFlag) words() []string {
	words := []string{mmapfile.ProbeAuto.String()}
	for _, probe := range mmapfile.Probes() {
		words = append(words, probe.String())
	}
	return words
}

// addLivenessFlag adds --liveness.
func addLivenessFlag(cmd *cobra.Command, p *probeFlag) {
	cmd.Flags().Var(p, "liveness", "how to tell whether a writer is alive: auto, lease, flock, pid, or off (a file that exists is live)")
}
