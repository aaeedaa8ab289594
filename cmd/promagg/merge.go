package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/multiproc"
)

func newMerge() *cobra.Command {
	var (
		dirs   dirsFlag
		rules  ruleFlags
		probe  probeFlag
		limits multiproc.Limits
		names  []string
		strict bool
	)
	formats := map[string]expose.Format{"text": expose.Text, "openmetrics": expose.OpenMetrics}
	format := choice{"text", []string{"text", "openmetrics"}}
	cmd := &cobra.Command{
		Use:   "merge",
		Short: "Print the merged exposition of a directory once",
		Long: `merge prints on standard output what serve would answer to one scrape. Damaged
files are named on standard error; what stands before the damage is printed. What
else is left out is counted there.`,
		Example: `  promagg merge --dir /run/myapp/metrics
  promagg merge --dir ./saved --liveness off --name http_requests`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := dirs.options(&rules, multiproc.Options{Liveness: probe.Probe, Limits: &limits})
			if err != nil {
				return err
			}
			for _, o := range all {
				if _, err := existingDirectory(o.Path); err != nil {
					return err
				}
			}
			group := openAll(all)
			defer group.Close()
			snapshot, err := group.Snapshot(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(expose.Append(nil, formats[format.word], snapshot, names)); err != nil {
				return err
			}
			for i, d := range group.Dirs() {
				err = errors.Join(err, warnOf(cmd.ErrOrStderr(), d, all[i].Path, strict))
			}
			return err
		},
	}
	dirs.addFlags(cmd)
	rules.addFlags(cmd)
	addLivenessFlag(cmd, &probe)
	addLimitFlags(cmd, &limits)
	cmd.Flags().Var(&format, "format", "exposition format: text or openmetrics")
	cmd.Flags().StringArrayVar(&names, "name", nil, "print only the family or sample of this name; may be given more than once")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 if a file is damaged, or something is past a limit")
	return cmd
}

// warnOf names what a merge has left out of a directory. It returns an error for that
// if strict.
func warnOf(w io.Writer, d *multiproc.Dir, path string, strict bool) error {
	damaged := d.Damaged()
	for _, name := range slices.Sorted(maps.Keys(damaged)) {
		fmt.Fprintf(w, "promagg: warning: %s: %s\n", printable(name), printable(damaged[name]))
	}
	stats := d.Stats()
	limited := printLeftOut(w, stats)
	if n := stats.Corrupt; strict && n > 0 {
		return fmt.Errorf("%d damaged files in %s: inspect them with promagg inspect", n, path)
	}
	if strict && limited {
		return fmt.Errorf("%s is past a limit: raise it if that is as it should be", path)
	}
	return nil
}
