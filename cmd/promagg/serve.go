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
	dir        string
	probe      probeFlag
	fold       foldFlags
	start      startFlag
	limits     multiproc.Limits
	address    string
	path       string
	noOwn      bool
	level      levelFlag
	format     formatFlag
	web        webLimits
	procs      *procMetrics
	shutdownIn time.Duration
}

// newServeFlags returns the settings that have no flag, and the defaults of those
// that are not set where flags are added.
func newServeFlags() serveFlags {
	f := serveFlags{web: newWebLimits(), procs: &procMetrics{mode: workersSummed}, shutdownIn: 30 * time.Second, start: adopt}
	f.level.Level, f.format.Format = promslog.NewLevel(), promslog.NewFormat()
	if err := f.format.Set("logfmt"); err != nil {
		panic(err) // it is one of the two that there are
	}
	return f
}

func newServe() *cobra.Command {
	f := newServeFlags()
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
			s, err := f.open(cmd)
			if err != nil {
				return err
			}
			return f.serve(cmd.Context(), s.listener, s.options)
		},
	}
	f.addFlags(cmd)
	cmd.Flags().Var(&f.start, "on-start", "what to do with value files that are there: adopt them, or clean the directory as promagg clean does")
	return cmd
}

// addFlags adds the flags of whatever serves a directory.
func (f *serveFlags) addFlags(cmd *cobra.Command) {
	addDirFlag(cmd, &f.dir)
	addLivenessFlag(cmd, &f.probe)
	addFoldFlags(cmd, &f.fold)
	addLimitFlags(cmd, &f.limits)
	cmd.Flags().StringVar(&f.address, "web.listen-address", ":9917", "address to listen on")
	cmd.Flags().StringVar(&f.path, "web.telemetry-path", "/metrics", "path under which the merged metrics are served")
	f.web.addFlags(cmd)
	f.procs.addFlags(cmd)
	cmd.Flags().BoolVar(&f.noOwn, "web.disable-exporter-metrics", false, "leave out the metrics of promagg itself (promagg_*)")
	cmd.Flags().Var(&f.level, "log.level", "least severe messages to log: debug, info, warn or error")
	cmd.Flags().Var(&f.format, "log.format", "format of log messages: logfmt or json")
}

// opened is what can fail before anything is served, done.
type opened struct {
	listener net.Listener
	options  multiproc.Options
}

// open checks the flags, listens, and cleans the directory if it is to.
func (f *serveFlags) open(cmd *cobra.Command) (*opened, error) {
	if !telemetryPath.MatchString(f.path) || path.Clean(f.path) != f.path {
		return nil, usageError{fmt.Errorf("--web.telemetry-path: want a path such as /metrics, got %q", f.path)}
	}
	folding, err := f.fold.options()
	if err != nil {
		return nil, err
	}
	dir, err := directory(f.dir)
	if err == nil {
		err = checkDirectory(dir)
	}
	if err != nil {
		return nil, err
	}
	log := promslog.New(&promslog.Config{Level: f.level.Level, Format: f.format.Format, Writer: cmd.ErrOrStderr()})
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with --web.listen-address", err)
	}
	if f.start == cleanUp {
		if err := cleanAtStart(dir, log); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return &opened{l, multiproc.Options{Path: dir, Liveness: f.probe.Probe, Limits: &f.limits, Logger: log, Fold: folding}}, nil
}

// telemetryPath is what may be a path for metrics: nothing that a URL would need
// to escape, not the landing page, not under /-/.
var telemetryPath = regexp.MustCompile(`^(/[A-Za-z0-9_.~][A-Za-z0-9_.~-]*)+$`)

// cleanAtStart removes the value files of an application that is down.
func cleanAtStart(dir string, log *slog.Logger) error {
	removed, err := multiproc.Clean(dir, false, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, multiproc.ErrWriters):
		return fmt.Errorf("--on-start=clean: nothing removed from %s: %w; stop the application first, or start with --on-start=adopt", dir, err)
	case err != nil:
		return fmt.Errorf("--on-start=clean: %w", err)
	}
	log.Info("the directory was cleaned", "dir", dir, "files", len(removed))
	return nil
}

// serve looks at the directory and serves on l, which it closes, until ctx ends.
func (f *serveFlags) serve(ctx context.Context, l net.Listener, options multiproc.Options) error {
	log := options.Logger
	dir := multiproc.Open(options)
	defer dir.Close()
	f.procs.watch(dir)
	connections := limit.NewListener(l, f.web.connections)
	server := f.web.server(f.handler(dir, connections), connections)
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	// Background work ends before the directory is closed.
	watching, stopWatching := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { dir.Run(watching) })
	if !f.noOwn {
		background.Go(func() { f.procs.run(watching) })
	}
	defer background.Wait()
	defer stopWatching()

	log.Info("listening", "address", l.Addr().String(), "path", f.path, "dir", options.Path)
	served := make(chan error, 1)
	go func() { served <- server.Serve(connections) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("stopping")
	finish, cancel := context.WithTimeout(context.Background(), f.shutdownIn)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return errors.Join(fmt.Errorf("scrapes did not end in %s: %w", f.shutdownIn, err), server.Close())
	}
	return nil
}

// handler routes requests.
func (f *serveFlags) handler(dir *multiproc.Dir, connections *limit.Listener) http.Handler {
	seen := newWebMetrics(connections)
	var own prometheus.Gatherer
	if !f.noOwn {
		own = newSelf(dir, seen, f.procs)
	}
	mux := http.NewServeMux()
	mux.Handle(f.path, f.web.scrapes(dir, own, seen))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		if behind := dir.Behind(); behind > stuckAfter {
			http.Error(w, fmt.Sprintf("the directory was last looked at %s ago", behind.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "promagg is healthy.")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !dir.Ready() {
			http.Error(w, "the directory has not been looked at yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "promagg is ready.")
	})
	mux.Handle("GET /{$}", limit.AtOnce(maxLandings, landingPage(f.path, dir), "too many requests at once: try again later", seen.refused))
	return limit.Small(mux, seen.refused)
}

// stuckAfter is how long the directory may go unseen before promagg counts as
// unhealthy: several rescans.
const stuckAfter = 30 * time.Second
