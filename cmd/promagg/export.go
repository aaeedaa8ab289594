package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/common/promslog"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/remotewrite"
)

// exportFlags are the settings of export.
type exportFlags struct {
	dirs   dirsFlag
	rules  ruleFlags
	probe  probeFlag
	fold   foldFlags
	limits multiproc.Limits
	remote remoteFlags
	noOwn  bool
	once   bool
	level  levelFlag
	format formatFlag
}

func newExport() *cobra.Command {
	var f exportFlags
	f.level.Level, f.format.Format = promslog.NewLevel(), promslog.NewFormat()
	if err := f.format.Set("logfmt"); err != nil {
		panic(err) // it is one of the two that there are
	}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Watch a directory and send its merged metrics by remote write",
		Long: `export sends what serve would answer to a scrape to a Prometheus remote write receiver,
again and again, for hosts that nobody can scrape. It watches and folds the directory as
serve does. While the receiver is down, samples wait in a queue of bounded size and age.
SIGTERM and SIGINT send what there is then, and what waits, before the end; the exit
status is 1 if something is left.

With --once it sends the metrics as they are, and exits with 0 once the receiver has
taken all of them: for the end of a batch job. It folds nothing then, and sends no
metrics of promagg itself.`,
		Example: `  promagg export --dir /run/myapp/metrics --remote-write http://prometheus:9090/api/v1/write
  promagg export --dir ./metrics --remote-write http://prometheus:9090 --job nightly --once`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.dirs.addFlags(cmd)
	addLivenessFlag(cmd, &f.probe)
	addFoldFlags(cmd, &f.fold)
	addLimitFlags(cmd, &f.limits)
	f.rules.addFlags(cmd)
	f.remote.addFlags(cmd, exportRemoteNames)
	cmd.Flags().BoolVar(&f.once, "once", false, "send the metrics once and exit")
	cmd.Flags().BoolVar(&f.noOwn, "disable-exporter-metrics", false, "leave out the metrics of promagg itself (promagg_*)")
	cmd.Flags().Var(&f.level, "log.level", "least severe messages to log: debug, info, warn or error")
	cmd.Flags().Var(&f.format, "log.format", "format of log messages: logfmt or json")
	return cmd
}

func (f *exportFlags) run(cmd *cobra.Command) error {
	if f.remote.url == "" {
		return usageError{errors.New("no receiver: give --remote-write, such as http://prometheus:9090/api/v1/write")}
	}
	folding, err := f.fold.options()
	if err != nil {
		return err
	}
	var signals *caught
	if !f.once {
		signals = catch()
		defer signals.release()
	}
	log := promslog.New(&promslog.Config{Level: f.level.Level, Format: f.format.Format, Writer: cmd.ErrOrStderr()})
	warnUnknownEnv(cmd, log)
	if err := f.remote.open(cmd, log); err != nil {
		return err
	}
	all, err := f.dirs.options(&f.rules, multiproc.Options{Liveness: f.probe.Probe, Limits: &f.limits, Logger: log, Fold: folding})
	if err != nil {
		return err
	}
	for _, o := range all {
		err := checkDirectory(o.Path)
		if f.once && err == nil {
			_, err = existingDirectory(o.Path) // nothing will come into being
		}
		if err != nil {
			return err
		}
	}
	group := openAll(all)
	defer group.Close()
	if err := f.remote.from(group); err != nil {
		return err
	}
	if f.once {
		err := f.remote.exporter.Once(cmd.Context())
		if errors.Is(err, remotewrite.ErrNothing) {
			err = fmt.Errorf("%w in %s: give with --dir the directory that the workers use", err, strings.Join(paths(all), ", "))
		}
		return err
	}
	var reloads reloader
	f.rules.reloadBy(&reloads, &f.dirs, group, all)
	defer reloads.onHangup(cmd.Context(), signals, log)()
	return f.export(cmd.Context(), group)
}

// export sends what is in the directories until ctx ends.
func (f *exportFlags) export(ctx context.Context, dirs *multiproc.Group) error {
	if !f.noOwn {
		f.remote.sendOwn(newSelf(dirs, f.dirs.label, nil, nil))
	}
	// Folding ends before the directory is closed.
	watching, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { dirs.Run(watching) })
	defer background.Wait()
	defer stop()
	if err := f.remote.exporter.Run(ctx); err != nil {
		return fmt.Errorf("not all was sent: %w", err)
	}
	return nil
}
