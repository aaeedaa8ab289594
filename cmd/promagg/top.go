package main

import (
	"errors"
	"fmt"

	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/top"
)

// topFlags are the flags of top.
type topFlags struct {
	dir, url string
	probe    probeFlag
	limits   multiproc.Limits
	interval time.Duration
	once     bool
	view     choice
	sort     string
	filter   string
}

func newTop() *cobra.Command {
	f := topFlags{view: choice{among: topViews}}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show workers and families as they change",
		Long: `top shows on the terminal who the workers of a directory are and what they cost, how
fast each family is counted, and how evenly the workers share it. It only reads: a
promagg that serves the directory is not disturbed. ? shows the keys.

With --url it shows what an endpoint answers: families with their rates, and workers
if it tells of them one by one (promagg_worker_ metrics with a pid).

UPDATES/S is by how much all counters and the counts of histograms and summaries of a
worker grow in a second, RATE/S the same of one family. SKEW tells how evenly the
living workers share a family: the busiest one's rate by their mean, 1 where all do
the same, and with n workers n where one does it all. CV is the standard deviation of
their rates by the mean. What is not known is shown as -.

No colours are used.`,
		Example: `  promagg top --dir /run/myapp/metrics
  promagg top --url http://127.0.0.1:9917/metrics --interval 5s
  promagg top --once --view families --sort skew | head`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := f.source()
			if err != nil {
				return err
			}
			defer source.Close()
			if f.once {
				return f.printOnce(cmd, source)
			}
			for _, flag := range []string{"view", "sort", "filter"} {
				if cmd.Flags().Changed(flag) {
					return usageError{fmt.Errorf("--%s is for --once: on the terminal there are keys for it (?)", flag)}
				}
			}
			if !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.OutOrStdout()) {
				return errors.New("standard input or output is not a terminal: use --once to print it")
			}
			// Without the terminal there is nobody to look on.
			ctx, stop := signal.NotifyContext(cmd.Context(), mmapfile.LossSignals()...)
			defer stop()
			err = top.Run(ctx, source, f.interval)
			if errors.Is(err, top.ErrTerminal) {
				err = fmt.Errorf("%w (TERM=%s): use --once to print it", err, printable(os.Getenv("TERM")))
			}
			return err
		},
	}
	addDirFlag(cmd, &f.dir)
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "show what this endpoint answers, in place of a directory")
	addLivenessFlag(cmd, &f.probe)
	f.limits = multiproc.DefaultLimits()
	flags.DurationVar(&f.interval, "interval", 2*time.Second, "time between two looks")
	flags.BoolVar(&f.once, "once", false, "look twice, print the tables for programs, and end")
	flags.Var(&f.view, "view", "with --once: only this table: workers or families")
	flags.StringVar(&f.sort, "sort", "", "with --once: sort by the column of this title (default: by name)")
	flags.StringVar(&f.filter, "filter", "", "with --once: only rows that have this text")
	return cmd
}

// source returns what the flags say to look at.
func (f *topFlags) source() (top.Source, error) {
	if f.interval < 100*time.Millisecond {
		return nil, usageError{fmt.Errorf("--interval: want at least 100ms, got %s", f.interval)}
	}
	if f.url == "" {
		path, err := existingDirectory(f.dir)
		if err != nil {
			return nil, err
		}
		return top.NewDir(path, f.probe.Probe, f.limits), nil
	}
	if f.dir != "" {
		return nil, usageError{errors.New("--dir and --url: want one of them")}
	}
	u, err := url.Parse(f.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--url: want one like http://127.0.0.1:9917/metrics, got %q", f.url)}
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/metrics"
	}
	return top.NewURL(u.String(), u.Redacted()), nil
}

var topViews = []string{"workers", "families"}

// printOnce prints the tables that are asked for, with an empty line between.
func (f *topFlags) printOnce(cmd *cobra.Command, source top.Source) error {
	views := topViews
	if f.view.word != "" {
		views = []string{f.view.word}
	}
	columns := make(map[string]int)
	for _, view := range views {
		t := topTable(view, nil, &top.Look{})
		if i, ok := t.Column(f.sort); ok {
			columns[view] = i
		}
	}
	if f.sort != "" && len(columns) == 0 {
		return usageError{fmt.Errorf("--sort: no table has a column %q: see their titles", f.sort)}
	}
	from, to, err := top.Once(cmd.Context(), source, f.interval)
	if err != nil {
		if cmd.Context().Err() != nil {
			return errSilent // somebody wants it to end
		}
		return err
	}
	out := cmd.OutOrStdout()
	for i, view := range views {
		t := topTable(view, from, to)
		t.Filter(f.filter)
		t.Sort(columns[view], false)
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := t.Print(out); err != nil {
			return err
		}
	}
	for _, note := range to.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "promagg: warning: %s\n", printable(note))
	}
	return nil
}

func topTable(view string, from, to *top.Look) top.Table {
	if view == "families" {
		return top.Families(from, to)
	}
	return top.Workers(from, to)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
