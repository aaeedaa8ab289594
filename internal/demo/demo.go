package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options are the settings of a demonstration.
type Options struct {
	// Worker is the command line of a worker, which calls [Work].
	Worker []string
	// Serve serves the merged metrics of a directory on a listener, which it
	// closes, until ctx ends.
	Serve func(ctx context.Context, l net.Listener, dir string) error
	// For is how long it goes on; 0 is until ctx ends.
	For time.Duration
	// Out is told what to look at.
	Out io.Writer
	// Err gets what the workers have to say.
	Err io.Writer
}

const (
	workers = 4
	// senders and rate are the load, light enough for a laptop on battery.
	senders = 4
	rate    = 25.0 // requests per second and sender
	// recycleEvery is how often one of the workers is replaced.
	recycleEvery = 2 * time.Second
	// startIn bounds how long the application may take to answer.
	startIn = 20 * time.Second
	// warmUp is how much load comes before the metrics are shown.
	warmUp = time.Second

	appPort, metricsPort = 8917, 9917
)

// failure ends a demonstration that can't go on.
type failure struct{ error }

// Run runs the demonstration until ctx ends or the time is up.
func Run(ctx context.Context, o Options) (err error) {
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	tmp, err := os.MkdirTemp("", "promagg-demo.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	dir := filepath.Join(tmp, "metrics")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	d := &demo{Options: o}
	app, err := listen(appPort)
	if err != nil {
		return err
	}
	defer app.Close()
	socket, err := app.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	metrics, err := listen(metricsPort)
	if err != nil {
		return err
	}
	d.app, d.metrics = "http://"+app.Addr().String(), "http://"+metrics.Addr().String()
	d.load = newLoad(d.app)
	d.pool = &pool{argv: o.Worker, env: environ(dir), socket: socket, stderr: o.Err}

	// What is started last is stopped first: the load, the workers, promagg. The
	// first thing that fails ends it all.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	serving, stopServing := context.WithCancel(context.Background())
	var promagg sync.WaitGroup
	promagg.Go(func() {
		if err := o.Serve(serving, metrics, dir); err != nil {
			fail(failure{err})
		}
	})
	defer promagg.Wait()
	defer stopServing()
	working, stopWorking := context.WithCancel(context.Background())
	var pool sync.WaitGroup
	slots := make([]*slot, workers)
	for i := range slots {
		slots[i] = &slot{recycle: make(chan bool)}
		pool.Go(func() {
			if err := d.pool.keep(working, slots[i]); err != nil {
				fail(failure{err})
			}
		})
	}
	defer pool.Wait()
	defer stopWorking()

	shown := d.show(ctx, slots)
	if f := new(failure); errors.As(context.Cause(ctx), f) {
		return f.error // what show says of it is only a consequence
	}
	return shown
}

// demo is a demonstration under way.
type demo struct {
	Options
	app, metrics string // URLs
	load         *load
	pool         *pool
}

// show runs the load and recycles workers until ctx ends, and tells what can be
// seen. That ctx has ended is no error.
func (d *demo) show(ctx context.Context, slots []*slot) error {
	if err := d.await(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	loading, stopLoading := context.WithCancel(ctx)
	var load sync.WaitGroup
	for range senders {
		load.Go(func() { d.load.run(loading, rate) })
	}
	defer load.Wait()
	defer stopLoading()
	d.say("%d worker processes serve on one socket; promagg merges what they write", workers)
	d.say("application  %s/", d.app)
	d.say("metrics      %s/metrics", d.metrics)
	d.say("promagg      %s/", d.metrics)
	pause(ctx, warmUp)
	if ctx.Err() == nil {
		excerpt, err := d.excerpt()
		if err != nil {
			return err
		}
		d.say("after a second of load, some of what promagg serves:\n\n%s", excerpt)
		d.say("Every %s a worker is replaced, by SIGTERM and SIGKILL in turn; kill -9 one yourself.", recycleEvery)
		d.say("Look again: what it had counted is still there, its demo_worker_requests is gone.")
		if d.For > 0 {
			d.say("This ends after %s, or on Ctrl-C.", d.For)
		} else {
			d.say("Ctrl-C ends it.")
		}
	}
	terminated, killed := recycle(ctx, slots)
	stopLoading()
	load.Wait()
	counted, err := d.counted()
	if err != nil {
		return err
	}
	d.say("%d requests answered (%d failed), %.0f counted; workers replaced: %d by SIGTERM, %d by SIGKILL",
		d.load.answered.Load(), d.load.failed.Load(), counted, terminated, killed)
	return nil
}

// recycle replaces workers until ctx ends.
func recycle(ctx context.Context, slots []*slot) (terminated, killed int) {
	for n := 0; ; n++ {
		pause(ctx, recycleEvery)
		kill := n%2 == 1
		select {
		case <-ctx.Done():
			return terminated, killed
		case slots[n%len(slots)].recycle <- kill:
		}
		if kill {
			killed++
		} else {
			terminated++
		}
	}
}

// await returns once the application answers. Its requests count among those
// answered.
func (d *demo) await(ctx context.Context) error {
	deadline := time.Now().Add(startIn)
	for ctx.Err() == nil {
		err := d.load.send(ctx, "GET", "/")
		if err == nil {
			d.load.answered.Add(1)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the application does not answer: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// excerpt returns a few families of what promagg serves.
func (d *demo) excerpt() ([]byte, error) {
	text, err := d.scrape("demo_http_requests_total", "demo_http_request_duration_seconds_count",
		"demo_http_requests_in_flight", "demo_worker_requests", "demo_workers", "demo_build_info")
	if err != nil {
		return nil, err
	}
	var b []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("# HELP ")) {
			b = append(append(b, "  "...), line...)
		}
	}
	return b, nil
}

// counted returns how many requests the workers counted, all that ever were.
func (d *demo) counted() (total float64, err error) {
	text, err := d.scrape("demo_http_requests_total")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %w", err)
		}
		total += v
	}
	return total, nil
}

// scrape asks promagg for some families.
func (d *demo) scrape(names ...string) ([]byte, error) {
	resp, err := d.load.client.Get(d.metrics + "/metrics?" + url.Values{"name[]": names}.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", d.metrics, resp.Status, text)
	}
	return text, nil
}

// say tells something. Who no longer listens is a signal's matter.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, "demo: "+format+"\n", args...) }

// listen takes the port, or any other if that is taken.
func listen(port int) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}

// environ is the environment of the workers: ours, with a directory, and with
// no id that all of them would have to share.
func environ(dir string) []string {
	var env []string
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); strings.ToUpper(name) {
		case "PROMETHEUS_MULTIPROC_DIR", "PROMAGG_PROCESS_ID":
		default:
			env = append(env, kv)
		}
	}
	return append(env, "PROMETHEUS_MULTIPROC_DIR="+dir)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
