package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/check"
)

func newCheck() *cobra.Command {
	var (
		dir     string
		probe   probeFlag
		o       check.Options
		jsonOut bool
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell what is wrong with a directory and those who write there",
		Long: `check looks at a multiprocess directory, its filesystem, its files, what they merge
to, and the processes that write there, and tells what is wrong or soon will be: what,
why it matters and what to do. Each kind of finding has an id, and all ids are
explained in docs/check.md.

It exits with 1 if there is an error. As root, or as the user that the workers run as,
it sees most; what it can't see it says. In the directory it makes a file of its own
for a moment, to try out what works there, and nothing else.`,
		Example: `  promagg check --dir /run/myapp/metrics
  promagg check --dir /run/myapp/metrics --pid "$(cat /run/myapp/gunicorn.pid)"
  promagg check --dir /run/myapp/metrics --json --ignore PA601`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, id := range o.Ignore {
				if !slices.Contains(check.IDs(), id) {
					return usageError{fmt.Errorf("--ignore: want an id such as PA601, got %q; docs/check.md lists them", id)}
				}
			}
			for _, pid := range o.PIDs {
				if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); pid <= 0 || err != nil {
					return usageError{fmt.Errorf("--pid: there is no process %d that can be seen from here", pid)}
				}
			}
			path, err := directory(dir)
			if err != nil {
				return err
			}
			o.Path, o.Liveness = path, probe.Probe
			r, err := check.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if jsonOut {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				err = e.Encode(r)
			} else {
				err = r.Print(cmd.OutOrStdout())
			}
			if err == nil && r.Errors > 0 {
				return errSilent
			}
			return err
		},
	}
	addDirFlag(cmd, &dir)
	addLivenessFlag(cmd, &probe)
	addLimitFlags(cmd, &o.Limits)
	cmd.Flags().IntSliceVar(&o.PIDs, "pid", nil, "a process of the application, such as gunicorn's master; with it those it has started; may be given more than once")
	cmd.Flags().StringArrayVar(&o.Ignore, "ignore", nil, "leave out findings of this id; may be given more than once")
	cmd.Flags().BoolVar(&o.ReadOnly, "read-only", false, "make no file in the directory, not even for a moment")
	cmd.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return cmd
}
