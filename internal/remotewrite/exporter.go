package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/merge"
)

// Source makes the snapshots that are sent.
type Source interface {
	Snapshot(context.Context) (*merge.Snapshot, error)
}

// Options are the settings of an exporter. URL, and for [Exporter.Run] Interval,
// must be set.
type Options struct {
	// URL is the receiver's. One without a path has /api/v1/write.
	URL      string
	Client   *http.Client  // default http.DefaultClient; its Timeout is that of a request
	Interval time.Duration // between snapshots
	// Job and Instance are labels that each series gets; one of that name that a
	// series has is renamed, as a scrape does it (exported_job). Empty for none.
	Job, Instance string
	// External are labels for series that have none of that name.
	External map[string]string

	BatchSamples int           // the most points of a request; default [DefaultBatch]
	QueueSamples int           // the most points of the queue, at least two batches; default [DefaultQueue]
	QueueAge     time.Duration // how long a point is kept; default [DefaultAge]
	Flush        time.Duration // how long the last flush may take; default [DefaultFlush]
	MinBackoff   time.Duration // before the first retry; default 250 ms
	MaxBackoff   time.Duration // between retries, where the receiver does not ask for more; default 10 s

	Logger *slog.Logger     // default: none
	Now    func() time.Time // default time.Now
}

// The defaults of [Options].
const (
	DefaultBatch = 2000 // that of Prometheus
	DefaultQueue = 1_000_000
	DefaultAge   = time.Hour
	DefaultFlush = 10 * time.Second
)

// ErrNothing is returned by [Exporter.Once] when the snapshot is empty.
var ErrNothing = errors.New("there are no metrics to send")

// Exporter sends snapshots. [Exporter.Run] or [Exporter.Once] is called once.
type Exporter struct {
	opts   Options
	log    *slog.Logger
	source Source
	own    prometheus.Gatherer // nil for none
	queue  *queue
	sender *sender
	counts counts

	// What follows is of the goroutine that collects.
	families map[string]*family
	series   map[string]*series
	round    uint64
	last     int64 // the time of the last snapshot
	key      []byte
	labeler  labeler
}

// New returns an exporter of what source has.
func New(source Source, opts Options) (*Exporter, error) {
	opts = withDefaults(opts)
	if opts.BatchSamples < 1 || opts.QueueSamples < 2*opts.BatchSamples {
		return nil, fmt.Errorf("a queue of %d samples does not hold two requests of %d", opts.QueueSamples, opts.BatchSamples)
	}
	labeler, err := newLabeler(opts.Job, opts.Instance, opts.External)
	if err != nil {
		return nil, err
	}
	e := &Exporter{
		opts: opts, log: opts.Logger, source: source, queue: newQueue(opts.QueueSamples), labeler: labeler,
		families: make(map[string]*family), series: make(map[string]*series),
	}
	e.sender, err = newSender(e)
	return e, err
}

// SendOwn adds families, which win over those of the source where names are equal.
// It is called before anything is sent.
func (e *Exporter) SendOwn(own prometheus.Gatherer) { e.own = own }

func withDefaults(o Options) Options {
	setDefault(&o.BatchSamples, DefaultBatch)
	setDefault(&o.QueueSamples, DefaultQueue)
	setDefault(&o.QueueAge, DefaultAge)
	setDefault(&o.Flush, DefaultFlush)
	setDefault(&o.MinBackoff, 250*time.Millisecond)
	setDefault(&o.MaxBackoff, 10*time.Second)
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// ParseURL checks the URL of a receiver and completes it.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the rest repeats the URL, which may have a password
		}
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("want a URL such as http://prometheus:9090/api/v1/write, got %q", u.Redacted())
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/api/v1/write"
	}
	return u, nil
}

// Run takes a snapshot at each interval and sends it, until ctx ends. It takes a
// last one then and sends what is left, for as long as a flush may take. It
// returns an error if something is left all the same.
func (e *Exporter) Run(ctx context.Context) error {
	e.log.Info("sending by remote write", "url", e.sender.shown, "interval", e.opts.Interval)
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var sender sync.WaitGroup
	sender.Go(func() { e.sender.run(sending, ctx.Done()) })

	tick := time.NewTicker(e.opts.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := e.collect(ctx); err != nil && ctx.Err() == nil {
			e.sender.complain(noSnapshot, err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	flush := time.AfterFunc(e.opts.Flush, cancel)
	defer flush.Stop()
	err := e.collect(sending)
	if err != nil {
		err = fmt.Errorf("no last snapshot: %w", err)
	}
	e.queue.close()
	sender.Wait()
	return errors.Join(err, e.end(false))
}

// Once sends one snapshot. It returns an error unless there was something to send
// and all of it was taken before ctx ended and the time for a flush was up.
func (e *Exporter) Once(ctx context.Context) error {
	sending, cancel := context.WithTimeout(ctx, e.opts.Flush)
	defer cancel()
	switch err := e.collect(sending); {
	case ctx.Err() != nil:
		return errors.New("stopped before anything was sent")
	case err != nil:
		return err
	}
	if e.queue.len() == 0 {
		return ErrNothing
	}
	e.queue.close()
	e.sender.run(sending, nil)
	if err := e.end(ctx.Err() != nil); err != nil {
		return err
	}
	if s := e.Stats(); s.Failed > 0 || s.lost() > 0 {
		return fmt.Errorf("%d of %d samples were not taken: %w", s.Failed+s.lost(), s.Failed+s.lost()+s.Sent, e.sender.lastError())
	}
	return nil
}

// end gives up what is left in the queue, and tells what has become of all. stopped says
// that the time for a flush was not up.
func (e *Exporter) end(stopped bool) error {
	left := e.queue.clear()
	e.counts.drop(DroppedAtStop, left)
	s := e.Stats()
	e.log.Info("remote write has ended", "url", e.sender.shown, "snapshots", s.Snapshots, "sent", s.Sent, "retried", s.Retried, "failed", s.Failed, "dropped", s.lost())
	switch {
	case left == 0:
		return nil
	case stopped:
		return fmt.Errorf("stopped before %d samples were sent", left)
	}
	return fmt.Errorf("%d samples were not sent in %s: %w", left, e.opts.Flush, e.sender.lastError())
}

// collect takes a snapshot and queues it.
func (e *Exporter) collect(ctx context.Context) error {
	at := e.opts.Now().UnixMilli()
	if at == e.last {
		at++ // the last one of a short run: two values of one time would be a conflict
	}
	snapshot, err := e.source.Snapshot(ctx)
	var own []*dto.MetricFamily
	if err == nil && e.own != nil {
		own, err = e.own.Gather()
	}
	if err != nil {
		e.counts.snapshotFailures.Add(1)
		return err
	}
	e.last = at
	e.round++
	p := packer{e: e, at: at}
	for f := range expose.Families(snapshot, own) {
		fam := e.family(&f)
		for s := range f.Samples {
			known, fresh := e.lookUp(fam, &s)
			if !fresh {
				e.counts.drop(DroppedDuplicate, 1)
				continue
			}
			p.add(point{known, s.Value, newExemplar(s.Exemplar, at)})
		}
	}
	for key, s := range e.series {
		if s.round != e.round {
			p.add(point{series: s, value: stale})
			delete(e.series, key)
		}
	}
	p.flush()
	for name, f := range e.families {
		if f.round != e.round {
			delete(e.families, name)
		}
	}
	e.counts.snapshots.Add(1)
	return nil
}

// stale is the value that ends a series.
var stale = math.Float64frombits(0x7ff0000000000002)

// packer makes batches of points.
type packer struct {
	e      *Exporter
	at     int64
	points []point
}

func (p *packer) add(pt point) {
	if p.points == nil {
		p.points = make([]point, 0, min(p.e.opts.BatchSamples, max(64, len(p.e.series))))
	}
	if p.points = append(p.points, pt); len(p.points) == p.e.opts.BatchSamples {
		p.flush()
	}
}

func (p *packer) flush() {
	if len(p.points) > 0 {
		if dropped := p.e.queue.push(&batch{p.at, p.points}); dropped > 0 {
			p.e.counts.drop(DroppedQueue, dropped)
			p.e.sender.complain(dropping, errors.New("the queue is full"))
		}
		p.points = nil
	}
}
