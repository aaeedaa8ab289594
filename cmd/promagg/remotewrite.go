package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/remotewrite"
)

// remoteFlags say where merged metrics are sent to, and what becomes of them when
// that fails. Without a URL nothing is sent.
type remoteFlags struct {
	names                         remoteNames
	url, config, job, instance    string
	external                      []string
	interval, timeout, flush, age time.Duration
	queue, batch                  int
	options                       remotewrite.Options // what the flags come to
	exporter                      *remotewrite.Exporter
}

// remoteNames are the names of those flags that export has under a shorter one.
type remoteNames struct{ url, interval, external, job, instance string }

var (
	serveRemoteNames  = remoteNames{"remote-write.url", "remote-write.interval", "remote-write.external-label", "remote-write.job", "remote-write.instance"}
	exportRemoteNames = remoteNames{"remote-write", "interval", "external-label", "job", "instance"}
)

func (f *remoteFlags) addFlags(cmd *cobra.Command, names remoteNames) {
	f.names = names
	flags := cmd.Flags()
	flags.StringVar(&f.url, names.url, "", "URL of a remote write receiver that the merged metrics are sent to, such as http://prometheus:9090/api/v1/write")
	flags.DurationVar(&f.interval, names.interval, 15*time.Second, "how often they are sent")
	flags.StringArrayVar(&f.external, names.external, nil, "label NAME=VALUE for series that have none of that name; may be given more than once")
	flags.StringVar(&f.job, names.job, "promagg", "label job of all series that are sent; empty for none")
	flags.StringVar(&f.instance, names.instance, "", "label instance of all series that are sent; empty for none (default the host's name)")
	flags.StringVar(&f.config, "remote-write.config.file", "", "file with the settings of the HTTP client: TLS, authentication, proxy, headers, as Prometheus has them")
	flags.DurationVar(&f.timeout, "remote-write.timeout", 30*time.Second, "how long a request to the receiver may take")
	flags.DurationVar(&f.flush, "remote-write.flush-timeout", remotewrite.DefaultFlush, "how long the last flush may take")
	flags.IntVar(&f.batch, "remote-write.batch-samples", remotewrite.DefaultBatch, "most samples of one request")
	flags.IntVar(&f.queue, "remote-write.queue-samples", remotewrite.DefaultQueue, "most samples that wait for the receiver; past it the oldest are dropped")
	flags.DurationVar(&f.age, "remote-write.queue-age", remotewrite.DefaultAge, "how long a sample waits for the receiver")
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// open checks the flags.
func (f *remoteFlags) open(cmd *cobra.Command, log *slog.Logger) error {
	if f.url == "" {
		return nil
	}
	u, err := remotewrite.ParseURL(f.url)
	if err != nil {
		return usageError{fmt.Errorf("--%s: %w", f.names.url, err)}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{f.names.interval, f.interval}, {"remote-write.timeout", f.timeout}, {"remote-write.flush-timeout", f.flush}, {"remote-write.queue-age", f.age}} {
		if d.value <= 0 {
			return usageError{fmt.Errorf("--%s: want more than 0, got %s", d.flag, d.value)}
		}
	}
	if f.batch < 1 {
		return usageError{fmt.Errorf("--remote-write.batch-samples: want at least 1, got %d", f.batch)}
	}
	if f.queue < 2*f.batch {
		return usageError{fmt.Errorf("--remote-write.queue-samples: want at least %d, two requests (--remote-write.batch-samples), got %d", 2*f.batch, f.queue)}
	}
	external, err := f.externalLabels()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed(f.names.instance) {
		if f.instance, err = os.Hostname(); err != nil {
			return fmt.Errorf("%w: give --%s", err, f.names.instance)
		}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	f.options = remotewrite.Options{
		URL: u.String(), Client: client, Interval: f.interval, Job: f.job, Instance: f.instance, External: external,
		BatchSamples: f.batch, QueueSamples: f.queue, QueueAge: f.age, Flush: f.flush, Logger: log,
	}
	return nil
}

func (f *remoteFlags) externalLabels() (map[string]string, error) {
	external := make(map[string]string)
	for _, l := range f.external {
		name, value, ok := strings.Cut(l, "=")
		if !ok || !labelName.MatchString(name) || strings.HasPrefix(name, "__") || !utf8.ValidString(value) {
			return nil, usageError{fmt.Errorf("--%s: want NAME=VALUE such as env=prod, got %q", f.names.external, l)}
		}
		switch name {
		case "job":
			return nil, usageError{fmt.Errorf("--%s: give the label job with --%s", f.names.external, f.names.job)}
		case "instance":
			return nil, usageError{fmt.Errorf("--%s: give the label instance with --%s", f.names.external, f.names.instance)}
		case "le", "quantile":
			return nil, usageError{fmt.Errorf("--%s: histograms and summaries need the label %s for themselves", f.names.external, name)}
		}
		external[name] = value
	}
	return external, nil
}

// client is the HTTP client that requests are made with.
func (f *remoteFlags) client() (*http.Client, error) {
	settings := config.DefaultHTTPClientConfig
	if f.config != "" {
		read, _, err := config.LoadHTTPConfigFile(f.config)
		if err != nil {
			return nil, fmt.Errorf("--remote-write.config.file %s: %w", f.config, err)
		}
		settings = *read
	}
	client, err := config.NewClientFromConfig(settings, "remote_write", config.WithUserAgent("promagg/"+version.Version))
	if err != nil {
		return nil, fmt.Errorf("--remote-write.config.file %s: %w", f.config, err)
	}
	client.Timeout = f.timeout
	return client, nil
}

// from makes the exporter, if there is to be one, of what dir has.
func (f *remoteFlags) from(source remotewrite.Source) (err error) {
	if f.options.URL != "" {
		f.exporter, err = remotewrite.New(source, f.options)
	}
	return err
}

// sendOwn has promagg's own metrics tell of what is sent, and sends them too.
func (f *remoteFlags) sendOwn(s *self) *self {
	if f.exporter != nil {
		s.remote = f.exporter
		f.exporter.SendOwn(s)
	}
	return s
}

// run sends until ctx ends, and what is left then.
func (f *remoteFlags) run(ctx context.Context, log *slog.Logger) {
	if f.exporter == nil {
		return
	}
	if err := f.exporter.Run(ctx); err != nil {
		log.Warn("not all was sent by remote write", "err", err)
	}
}

// remoteWrite tells what is sent by remote write.
func (g *gathered) remoteWrite(s remotewrite.Stats) {
	g.counter("remote_write_snapshots_total", "Snapshots that were taken to be sent.").add(float64(s.Snapshots))
	g.counter("remote_write_snapshot_failures_total", "Snapshots to be sent that could not be taken.").add(float64(s.SnapshotFailures))
	g.counter("remote_write_requests_total", "Requests that were made, each retry one.").add(float64(s.Requests))
	g.counter("remote_write_samples_sent_total", "Samples that the receiver has confirmed, stale markers among them.").add(float64(s.Sent))
	g.counter("remote_write_samples_retried_total", "Samples that were sent again, each time.").add(float64(s.Retried))
	g.counter("remote_write_samples_failed_total", "Samples that the receiver has refused for good.").add(float64(s.Failed))
	dropped := g.counter("remote_write_samples_dropped_total", "Samples that were not sent, by reason.")
	for _, why := range remotewrite.DroppedReasons() {
		dropped.add(float64(s.Dropped[why]), "reason", why.String())
	}
	g.gauge("remote_write_queue_samples", "Samples that the receiver has not confirmed yet.").add(float64(s.Queued))
	last := 0.0
	if !s.LastSuccess.IsZero() {
		last = float64(s.LastSuccess.UnixMilli()) / 1000
	}
	g.gauge("remote_write_last_success_timestamp_seconds", "When the receiver confirmed samples last, in Unix time; 0 for never.").add(last)
	g.gauge("remote_write_fallback", "Whether the receiver gets remote write 1.0, as it has no 2.0 (1), or 2.0 (0).").add(oneIf(s.Fallback))
}
