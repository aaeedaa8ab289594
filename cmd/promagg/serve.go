package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/multiproc"
)

// serveFlags are the settings of serve.
type serveFlags struct {
	dirs       dirsFlag
	rules      ruleFlags
	probe      probeFlag
	fold       foldFlags
	start      choice
	limits     multiproc.Limits
	listen     listenFlags
	path       string
	config     string // file with TLS and users
	secure     *webConfig
	pprof      bool
	lifecycle  bool
	reloads    *reloader
	caught     *caught // nil where signals are another's
	noOwn      bool
	level      levelFlag
	format     formatFlag
	web        webLimits
	remote     remoteFlags
	procs      *procMetrics
	shutdownIn time.Duration
}

// newServeFlags returns the settings that have no flag, and the defaults of those
// that are not set where flags are added.
func newServeFlags() serveFlags {
	f := serveFlags{web: newWebLimits(), procs: &procMetrics{mode: newWorkersChoice(workersSummed)}, reloads: new(reloader), shutdownIn: 30 * time.Second, start: choice{adopt, []string{adopt, cleanUp}}}
	f.level.Level, f.format.Format = promslog.NewLevel(), promslog.NewFormat()
	if err := f.format.Set("logfmt"); err != nil {
		panic(err) // it is one of the two that there are
	}
	return f
}

func newServe() *cobra.Command {
	f := newServeFlags()
	stop := newStopChoice(keep)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Watch a directory and serve its merged metrics",
		Long: `serve watches the multiprocess directory and answers each scrape with the merged
metrics of all workers. The directory need not exist yet. The files of workers that
have ended are folded: added up in one archive per type, and deleted. SIGTERM and
SIGINT let running scrapes finish.`,
		Example: `  promagg serve --dir /run/myapp/metrics
  PROMETHEUS_MULTIPROC_DIR=/run/myapp/metrics promagg serve --web.listen-address 127.0.0.1:9917`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.caught = catch()
			defer f.caught.release()
			s, err := f.open(cmd)
			if err != nil {
				return err
			}
			return errors.Join(f.serve(cmd.Context(), s.listener, s.options), atStop(stop, s.options))
		},
	}
	f.addFlags(cmd)
	cmd.Flags().Var(&f.start, "on-start", "what to do with value files that are there: adopt them, or clean the directory as promagg clean does")
	addStopFlag(cmd, &stop)
	return cmd
}

// addFlags adds the flags of whatever serves a directory.
func (f *serveFlags) addFlags(cmd *cobra.Command) {
	f.dirs.addFlags(cmd)
	addLivenessFlag(cmd, &f.probe)
	addFoldFlags(cmd, &f.fold)
	addLimitFlags(cmd, &f.limits)
	f.rules.addFlags(cmd)
	f.listen.addFlags(cmd)
	cmd.Flags().StringVar(&f.path, "web.telemetry-path", "/metrics", "path under which the merged metrics are served")
	cmd.Flags().StringVar(&f.config, "web.config.file", "", "file with TLS certificates, users and headers, in the format of all exporters (docs/web.md)")
	cmd.Flags().BoolVar(&f.pprof, "web.enable-pprof", false, "serve profiles of promagg itself under /debug/pprof/")
	cmd.Flags().BoolVar(&f.lifecycle, "web.enable-lifecycle", false, "reload on POST /-/reload as on SIGHUP")
	f.web.addFlags(cmd)
	f.remote.addFlags(cmd, serveRemoteNames)
	f.procs.addFlags(cmd)
	cmd.Flags().BoolVar(&f.noOwn, "web.disable-exporter-metrics", false, "leave out the metrics of promagg itself (promagg_*)")
	cmd.Flags().Var(&f.level, "log.level", "least severe messages to log: debug, info, warn or error")
	cmd.Flags().Var(&f.format, "log.format", "format of log messages: logfmt or json")
}

// opened is what can fail before anything is served, done.
type opened struct {
	log      *slog.Logger
	listener net.Listener
	options  []multiproc.Options // of each directory
}

// open checks the flags, listens, and cleans the directories if it is to.
func (f *serveFlags) open(cmd *cobra.Command) (*opened, error) {
	if !telemetryPath.MatchString(f.path) || path.Clean(f.path) != f.path || f.pprof && strings.HasPrefix(f.path+"/", pprofPath) {
		return nil, usageError{fmt.Errorf("--web.telemetry-path: want a path such as /metrics, got %q", f.path)}
	}
	folding, err := f.fold.options()
	if err != nil {
		return nil, err
	}
	log := promslog.New(&promslog.Config{Level: f.level.Level, Format: f.format.Format, Writer: cmd.ErrOrStderr()})
	warnUnknownEnv(cmd, log)
	all, err := f.dirs.options(&f.rules, multiproc.Options{Liveness: f.probe.Probe, Limits: &f.limits, Logger: log, Fold: folding})
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if err := checkDirectory(o.Path); err != nil {
			return nil, err
		}
	}
	if err := f.openWeb(); err != nil {
		return nil, err
	}
	if err := f.remote.open(cmd, log); err != nil {
		return nil, err
	}
	l, err := f.listen.listen()
	if err != nil {
		return nil, err
	}
	if f.start.word == cleanUp {
		if err := cleanAtStart(all, log); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return &opened{log, l, all}, nil
}

// telemetryPath is what may be a path for metrics: nothing that a URL would need
// to escape, not the landing page, not under /-/.
var telemetryPath = regexp.MustCompile(`^(/[A-Za-z0-9_.~][A-Za-z0-9_.~-]*)+$`)

// cleanAtStart removes the value files of applications that are down: of none if one
// of them is not.
func cleanAtStart(all []multiproc.Options, log *slog.Logger) error {
	for _, dryRun := range []bool{true, false} {
		for _, o := range all {
			if err := cleanOne(o.Path, dryRun, log); err != nil {
				return err
			}
		}
	}
	return nil
}

func cleanOne(dir string, dryRun bool, log *slog.Logger) error {
	removed, err := multiproc.Clean(dir, dryRun, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, multiproc.ErrWriters):
		return fmt.Errorf("--on-start=clean: nothing removed from %s: %w; stop the application first, or start with --on-start=adopt", dir, err)
	case err != nil:
		return fmt.Errorf("--on-start=clean: %w", err)
	}
	if !dryRun {
		log.Info("the directory was cleaned", "dir", dir, "files", len(removed))
	}
	return nil
}

// serve looks at the directories and serves on l, which it closes, until ctx ends.
// They have a logger in common.
func (f *serveFlags) serve(ctx context.Context, l net.Listener, options []multiproc.Options) error {
	log := options[0].Logger
	group := openAll(options)
	defer group.Close()
	f.rules.reloadBy(f.reloads, &f.dirs, group, options)
	if f.caught != nil {
		defer f.reloads.onHangup(ctx, f.caught, log)()
	}
	if err := f.remote.from(group); err != nil {
		return errors.Join(err, l.Close())
	}
	f.procs.watch(group)
	connections := limit.NewListener(l, f.web.connections)
	server := f.web.server(f.handler(group, connections, log), connections)
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	// Background work ends before the directory is closed.
	watching, stopWatching := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { group.Run(watching) })
	background.Go(func() { f.remote.run(watching, log) })
	if !f.noOwn {
		background.Go(func() { f.procs.run(watching) })
	}
	manager := systemd{log}
	background.Go(func() { manager.attend(watching, group.Ready, func() error { return stuck(group) }) })
	defer background.Wait()
	defer stopWatching()

	for _, address := range addresses(l) {
		attrs := []any{"address", address, "path", f.path}
		for _, o := range options {
			attrs = append(attrs, "dir", o.Path)
		}
		if f.secure.encrypted() {
			attrs = append(attrs, "tls", true)
		}
		log.Info("listening", attrs...)
	}
	defer f.secure.close()
	served := make(chan error, 1)
	go func() { served <- f.secure.serve(connections, server, log) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping")
	manager.stopping()
	finish, cancel := context.WithTimeout(context.Background(), f.shutdownIn)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return errors.Join(fmt.Errorf("scrapes did not end in %s: %w", f.shutdownIn, err), server.Close())
	}
	return nil
}

// handler routes requests.
func (f *serveFlags) handler(dirs *multiproc.Group, connections *limit.Listener, log *slog.Logger) http.Handler {
	seen := newWebMetrics(connections)
	var own prometheus.Gatherer
	if !f.noOwn {
		own = f.remote.sendOwn(newSelf(dirs, f.dirs.label, seen, f.procs))
	}
	mux := http.NewServeMux()
	mux.Handle(f.path, f.web.scrapes(dirs, own, seen))
	mux.Handle("GET /-/healthy", healthy(dirs))
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !dirs.Ready() {
			http.Error(w, "the directory has not been read yet; if it can't be, the answer to "+f.path+" says why", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "promagg is ready.")
	})
	mux.Handle("/-/reload", f.reloads.handler(f.lifecycle, log))
	if f.pprof {
		handlePprof(mux, seen)
	}
	mux.Handle("GET /{$}", limit.AtOnce(maxLandings, landingPage(f.path, f.pprof, dirs), "too many requests at once: try again later", seen.refused))
	return limit.Small(mux, seen.refused)
}
