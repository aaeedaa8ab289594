package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
)

// foldFlags say what becomes of dead writers' files.
type foldFlags struct {
	on        bool
	interval  time.Duration
	minFiles  int
	retention retentionFlag
}

// options checks the flags.
func (f *foldFlags) options() (multiproc.Folding, error) {
	if f.interval <= 0 {
		return multiproc.Folding{}, usageError{fmt.Errorf("--fold.interval: want more than 0, got %s; --fold=false turns folding off", f.interval)}
	}
	if f.minFiles < 1 {
		return multiproc.Folding{}, usageError{fmt.Errorf("--fold.min-files: want at least 1, got %d", f.minFiles)}
	}
	o := multiproc.Folding{Interval: f.interval, MinFiles: f.minFiles, Retention: f.retention.duration(), Settle: min(time.Second, f.interval)}
	if !f.on {
		o.Interval = 0
	}
	return o, nil
}

func addFoldFlags(cmd *cobra.Command, f *foldFlags) {
	cmd.Flags().BoolVar(&f.on, "fold", true, "add up dead writers' files in one archive per type and delete them, where the directory can be written")
	cmd.Flags().DurationVar(&f.interval, "fold.interval", 30*time.Second, "how often, at most, archives are written anew")
	cmd.Flags().IntVar(&f.minFiles, "fold.min-files", 1, "how many dead writers' files of one type are worth writing their archive anew")
	addRetentionFlag(cmd, &f.retention)
}

func addRetentionFlag(cmd *cobra.Command, r *retentionFlag) {
	*r = retentionFlag(multiproc.Forever)
	cmd.Flags().Var(r, "gauge.retention", "how long gauges of mode all are kept after their writer was found dead: a duration, 0 or forever")
}

// retentionFlag is a duration that may be forever.
type retentionFlag time.Duration

const forever = "forever"

func (r *retentionFlag) duration() time.Duration { return time.Duration(*r) }

func (r *retentionFlag) String() string {
	if time.Duration(*r) == multiproc.Forever {
		return forever
	}
	return time.Duration(*r).String()
}

func (r *retentionFlag) Set(s string) error {
	if s == forever {
		*r = retentionFlag(multiproc.Forever)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("want a duration such as 24h, 0 or forever, got %q", s)
	}
	*r = retentionFlag(d)
	return nil
}

func (r *retentionFlag) Type() string { return "duration" }
