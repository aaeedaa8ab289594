package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// inspection is what inspect found, and the form of its JSON.
type inspection struct {
	Files  []*multiproc.Report `json:"files"`
	Others []string            `json:"not_value_files"`
}

func newInspect() *cobra.Command {
	var (
		probe            probeFlag
		entries, jsonOut bool
	)
	cmd := &cobra.Command{
		Use:   "inspect PATH...",
		Short: "Show what is in value files and who writes them",
		Long: `inspect tells of each value file, or of each in a directory: whose it is, its type,
mode and layout, how much it holds, whether its writer is alive and how that is known.`,
		Example: `  promagg inspect /run/myapp/metrics
  promagg inspect --entries /run/myapp/metrics/counter_4711.db`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("no PATH: give value files or a directory (see %s --help)", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error {
			found := inspection{Files: []*multiproc.Report{}, Others: []string{}}
			for _, path := range paths {
				if err := found.add(path, probe, entries); err != nil {
					return err
				}
			}
			if !jsonOut {
				return found.print(cmd.OutOrStdout())
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(found)
		},
	}
	addLivenessFlag(cmd, &probe)
	cmd.Flags().BoolVar(&entries, "entries", false, "list the entries with their values")
	cmd.Flags().BoolVar(&jsonOut, "json", false, "print JSON")
	return cmd
}

func (in *inspection) add(path string, probe probeFlag, entries bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: give value files or a directory", path)
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(path) // a link to a directory is followed, one to a file is not
	}
	if err == nil && info.IsDir() {
		reports, others, err := multiproc.InspectDir(path, probe.Probe, entries)
		in.Files = append(in.Files, reports...)
		for _, name := range others {
			in.Others = append(in.Others, filepath.Join(path, name))
		}
		return err
	}
	r, err := multiproc.Inspect(path, probe.Probe, entries)
	switch {
	case errors.Is(err, multiproc.ErrNotValueFile):
		return fmt.Errorf("%s is not a value file: their names are counter_ID.db, histogram_ID.db, summary_ID.db and gauge_MODE_ID.db", path)
	case err != nil:
		return err
	}
	in.Files = append(in.Files, r)
	return nil
}

// print writes a table of the files, each with its damage and entries below.
func (in *inspection) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(in.Files) > 0 {
		fmt.Fprintln(tw, "FILE\tWRITER\tCLIENT\tTYPE\tMODE\tLAYOUT\tENTRIES\tUSED/SIZE\tSTATE")
	}
	var below strings.Builder
	for _, r := range in.Files {
		state := r.State
		switch {
		case r.State == mmapfile.Dead.String() && !r.Proven:
			state += " (" + r.By + ", no proof)"
		case r.By != "":
			state += " (" + r.By + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d/%d\t%s\n", printable(filepath.Base(r.Path)), printable(r.Writer), dash(r.Client),
			r.Type, dash(r.Mode), r.Layout, r.Entries, r.Used, r.Size, state)
		printBelow(&below, r)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, path := range in.Others {
		fmt.Fprintf(&below, "%s: not a value file\n", printable(path))
	}
	_, err := io.WriteString(w, below.String())
	return err
}

// printBelow writes what does not fit into a table.
func printBelow(b *strings.Builder, r *multiproc.Report) {
	name := printable(filepath.Base(r.Path))
	if r.Damage != "" {
		fmt.Fprintf(b, "%s: damaged: %s\n", name, printable(r.Damage))
	}
	if r.Why != "" {
		fmt.Fprintf(b, "%s: %s\n", name, printable(r.Why))
	}
	for _, e := range r.List {
		fmt.Fprintf(b, "%s: %s%s %s", name, printable(e.Sample), labelText(e.Labels), e.Value)
		if e.Timestamp != "" && e.Timestamp != "0" {
			fmt.Fprintf(b, " @%s", e.Timestamp)
		}
		b.WriteByte('\n')
	}
}

func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%q", printable(name), labels[name]))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
