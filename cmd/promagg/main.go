// Command promagg merges the value files that pre-forked workers write and
// serves the one exposition that Prometheus scrapes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/mmapfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), mmapfile.StopSignals()...)
	defer stop()
	os.Exit(exitCode(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// run executes one command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// usageError is a command line that can't be understood; it exits with 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSilent is returned by a command that has said all there is to say and
// exits with 1.
var errSilent = errors.New("")

// exitCode reports an error in one line and returns the exit status for it: 0,
// 2 for a wrong command line, that of an exitStatus, 1 for all else.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	ended := exitStatus{status: 1}
	if errors.As(err, &ended) && ended.error == nil {
		return ended.status
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(stderr, "promagg: error: %s\n", escaped(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	if errors.As(err, new(usageError)) {
		return 2
	}
	return ended.status
}

func newRoot() *cobra.Command {
	var printVersion bool
	root := &cobra.Command{
		Use:   "promagg",
		Short: "Merge the metrics of pre-forked workers into one exposition",
		Long: `promagg reads the value files that the workers of a pre-forked server write into
their multiprocess directory, merges them, and serves one exposition to Prometheus.

Start it beside the server, with the same PROMETHEUS_MULTIPROC_DIR:

    promagg serve --dir /run/myapp/metrics`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printVersion {
				return writeVersion(cmd)
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&printVersion, "version", false, "print the version, as promagg version does")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", plainly(err), cmd.CommandPath())}
	})
	root.AddCommand(newServe(), newRun(), newExport(), newMerge(), newInspect(), newCheck(), newFold(), newClean(), newMarkDead(), newTop(), newDemo(), newDemoWorker(), newVersion())
	for _, more := range moreCommands {
		root.AddCommand(more())
	}
	addEnv(root)
	addCompletions(root)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args = noArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(help *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usageError{fmt.Errorf("unknown command %q (see promagg --help)", strings.Join(args, " "))}
				}
				return nil
			}
		}
	}
	return root
}

// moreCommands are those of other builds.
var moreCommands []func() *cobra.Command

// noArgs refuses arguments, unknown commands among them.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := "argument"
	if cmd.HasSubCommands() {
		what = "command"
	}
	return usageError{fmt.Errorf("unknown %s %q (see %s --help)", what, args[0], cmd.CommandPath())}
}
