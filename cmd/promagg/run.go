package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/supervise"
)

// leftoverGrace is how long processes that the application leaves behind have to end
// before they are killed. Docker gives a container ten seconds in all.
const leftoverGrace = 5 * time.Second

// runFlags are the settings of run.
type runFlags struct {
	serveFlags
	stop   choice
	linger time.Duration
}

func newRun() *cobra.Command {
	f := runFlags{serveFlags: newServeFlags(), stop: newStopChoice(cleanUp)}
	f.start.word = cleanUp
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM [ARG...]",
		Short: "Run an application and serve its metrics, as one command",
		Long: `run starts an application with a multiprocess directory of its own and serves the
merged metrics of all its workers, as serve does. Signals are passed on to the
application, and its exit status becomes that of promagg: 128+n if signal n has ended
it, 127 if there is no such program, 126 if it can't be run. A second SIGTERM or
SIGINT kills it.

The directory is cleaned at the start and at the stop. Without --dir, and with none in
the environment, it is a new one that only this user can enter, and that is removed at
the end. The application finds it in PROMETHEUS_MULTIPROC_DIR and prometheus_multiproc_dir.`,
		Example: `  promagg run -- gunicorn --workers 4 app:app
  promagg run --dir /run/myapp/metrics --web.listen-address :9917 -- puma --workers 4`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return usageError{fmt.Errorf("no program: give the application's command line behind -- (see %s --help)", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().SetInterspersed(false) // what follows the program's name is the program's
	f.addFlags(cmd)
	cmd.Flags().Var(&f.start, "on-start", "what to do with value files that are there: clean the directory as promagg clean does, or adopt them")
	addStopFlag(cmd, &f.stop)
	cmd.Flags().DurationVar(&f.linger, "linger", 0, "serve the final values for this long once the application has ended by itself")
	return cmd
}

// run runs the application from its start to its end.
func (f *runFlags) run(cmd *cobra.Command, args []string) (err error) {
	signals := supervise.Catch()
	defer signals.Release()
	if f.linger < 0 {
		return usageError{fmt.Errorf("--linger: want a duration, got %s", f.linger)}
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return cannotStart(args[0], err)
	}
	dir, fresh, err := f.place()
	if err != nil {
		return err
	}
	keepFresh := false
	if fresh {
		defer func() {
			if !keepFresh {
				err = errors.Join(err, os.RemoveAll(dir))
			}
		}()
	}
	s, err := f.open(cmd)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	if cmd.Context().Err() != nil && !signals.Waiting() {
		// It came before anything could be passed on.
		return errors.Join(errors.New("asked to stop before the application was started"), s.listener.Close())
	}

	log := s.log
	serving, stopServing := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer stopServing()
	served := make(chan struct{})
	go func() {
		defer close(served)
		// The application matters more than its metrics.
		if err := f.serve(serving, s.listener, s.options); err != nil {
			log.Error("serving has ended", "err", err)
		}
	}()
	ended, failed := signals.Run(supervise.Program{Path: program, Argv: args, Env: environ(dir), Grace: leftoverGrace, Log: log})
	if failed == nil {
		log.Info("application ended", "status", ended.Status)
		if f.linger > 0 && !ended.Asked {
			log.Info("serving the final values", "for", f.linger)
			signals.Await(f.linger)
		}
	}
	stopServing()
	<-served

	// From here on a fault of ours is said, and the status is still the application's.
	switch {
	case !fresh:
		if err := atStop(f.stop, s.options); err != nil {
			log.Error("the directory was not cleaned", "err", err)
		}
	case f.stop.word == keep && failed == nil:
		keepFresh = true
		log.Info("the directory is kept", "dir", dir)
	}
	switch {
	case errors.Is(failed, fs.ErrNotExist): // it was there a moment ago
		return exitStatus{127, fmt.Errorf("can't run %s: the interpreter or loader that it names does not exist", args[0])}
	case failed != nil:
		return cannotStart(args[0], failed)
	case ended.Status != 0:
		return exitStatus{status: ended.Status}
	}
	return nil
}

// exitStatus ends promagg with the status of an application, and if there is an error
// with that, too.
type exitStatus struct {
	status int
	error
}

func (e exitStatus) Unwrap() error { return e.error }

func (e exitStatus) Error() string {
	if e.error == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.error.Error()
}

// cannotStart gives an error the status that a shell has for it.
func cannotStart(name string, err error) error {
	status := 126
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		status = 127
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause // the last one does not say the name once more
	}
	return exitStatus{status, fmt.Errorf("can't run %s: %w", name, err)}
}

// place settles which directory it is, as an absolute path: the application may change
// its own. fresh tells of one that was made for this run alone.
func (f *runFlags) place() (dir string, fresh bool, err error) {
	if len(f.dirs.given) > 1 {
		return "", false, usageError{errors.New("--dir: an application has one directory: give one, and serve others with promagg serve")}
	}
	all, err := f.dirs.directories()
	switch {
	case err != nil && len(f.dirs.given) > 0:
		return "", false, err
	case err != nil:
		dir, err = freshDirectory()
		fresh = true
	default:
		dir, err = filepath.Abs(all[0].path)
	}
	f.dirs.given = []string{dir}
	if len(all) > 0 && all[0].name != "" {
		f.dirs.given[0] = all[0].name + "=" + dir
	}
	return dir, fresh, err
}

// freshDirectory makes a directory, in memory if there is a place for that.
func freshDirectory() (string, error) {
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if !filepath.IsAbs(parent) {
			continue
		}
		if dir, err := os.MkdirTemp(parent, freshName); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp("", freshName)
	if err != nil {
		return "", fmt.Errorf("no place for a directory: %w; give --dir", err)
	}
	return filepath.Abs(dir)
}

const freshName = "promagg-run-"

// environ is this process' environment with the directory in it, under both names.
func environ(dir string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(dirEnv, name)
	})
	for _, name := range dirEnv {
		env = append(env, name+"="+dir)
	}
	return env
}
