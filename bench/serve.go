package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// daemon is a promagg process. It serves its own metrics too, as it does by
// default.
type daemon struct {
	process
	cancel context.CancelFunc
	url    string
	bare   *helper // instead of promagg
}

// patience is how long a program may take to start or to stop.
const patience = 30 * time.Second

// ownPrefix begins the names of promagg's own metrics.
const ownPrefix = "promagg_"

func startDaemon(ctx context.Context, b *bench) (*daemon, error) {
	program, err := b.promagg(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &daemon{cancel: cancel}
	fold := "--fold=false"
	if b.dir.shape.fold {
		fold = "--fold.interval=1s"
	}
	d.cmd = exec.CommandContext(ctx, program, "serve", "--dir", b.dir.path, "--liveness", b.dir.liveness().String(), fold,
		"--web.listen-address", "127.0.0.1:0", "--web.max-requests", "0", "--web.max-connections", "0") // 200 at once are measured, too
	log := &serveLog{address: make(chan string, 1)}
	d.cmd.Stderr = log
	d.cmd.WaitDelay = patience
	if err := d.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	select {
	case address := <-log.address:
		d.url = "http://" + address + "/metrics"
		return d, nil
	case <-ctx.Done():
	case <-time.After(patience):
	}
	err = fmt.Errorf("promagg serve does not say where it listens: %s", log.String())
	cancel()
	_ = d.cmd.Wait() // we have just killed it
	return nil, err
}

func (d *daemon) rest() {}

func (d *daemon) close() error {
	if d.bare != nil {
		return d.bare.stop()
	}
	if err := d.cmd.Process.Signal(mmapfile.Terminate); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.cancel()
	}
	defer d.cancel()
	timer := time.AfterFunc(patience, d.cancel)
	defer timer.Stop()
	return d.cmd.Wait()
}

// client scrapes over one connection, as a Prometheus server does.
type client struct {
	http     http.Client
	url      string
	encoding string
	body     bytes.Buffer
}

func newClient(url, encoding string) *client {
	return &client{http: http.Client{Timeout: patience, Transport: &http.Transport{}}, url: url, encoding: encoding}
}

// get scrapes once; the answer is in body.
func (c *client) get() error {
	req, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		return err
	}
	// Asking by hand keeps the transport from asking for gzip, and from unpacking it.
	req.Header.Set("Accept-Encoding", c.encoding)
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	c.body.Reset()
	if _, err = io.Copy(&c.body, resp.Body); err != nil {
		return err
	}
	got := resp.Header.Get("Content-Encoding")
	if resp.StatusCode != http.StatusOK || got != c.encoding && (got != "" || c.encoding != identity) {
		return fmt.Errorf("GET %s: want 200 with encoding %s, got %s %q", c.url, c.encoding, resp.Status, got)
	}
	return nil
}

const identity = "identity"

// serve is a promagg process and a client that scrapes it.
type serve struct {
	*daemon
	client *client
	only   string
	text   bytes.Buffer // what was compressed
}

func startServe(ctx context.Context, b *bench) (scraper, error) {
	return serveOf(b, identity, "")(startDaemon(ctx, b))
}

func startGzip(ctx context.Context, b *bench) (scraper, error) {
	return serveOf(b, "gzip", "")(startDaemon(ctx, b))
}

func startBare(ctx context.Context, b *bench) (scraper, error) {
	return serveOf(b, identity, "")(bareDaemon(ctx, b, ""))
}

// startNamed asks for one family only.
func startNamed(ctx context.Context, b *bench) (scraper, error) {
	return serveOf(b, identity, b.oneFamily())(startDaemon(ctx, b))
}

func startBareNamed(ctx context.Context, b *bench) (scraper, error) {
	return serveOf(b, identity, b.oneFamily())(bareDaemon(ctx, b, b.oneFamily()))
}

// oneFamily is the family that is asked for by name.
func (b *bench) oneFamily() string {
	families := b.dir.shape.families(b.dir.shape.entries)
	return families[len(families)/2].Name + "_total"
}

func serveOf(b *bench, encoding, only string) func(*daemon, error) (scraper, error) {
	return func(d *daemon, err error) (scraper, error) {
		if err != nil {
			return nil, err
		}
		url := d.url
		if only != "" {
			url += nameQuery(only)
		}
		return &serve{daemon: d, client: newClient(url, encoding), only: only}, nil
	}
}

func nameQuery(name string) string { return "?" + url.Values{"name[]": {name}}.Encode() }

func (s *serve) scrape() (answer, error) {
	begin := time.Now()
	if err := s.client.get(); err != nil {
		return answer{}, err
	}
	a := answer{took: time.Since(begin), text: s.client.body.Bytes(), own: ownPrefix, only: s.only}
	if s.client.encoding == identity {
		return a, nil
	}
	z, err := gzip.NewReader(&s.client.body)
	if err != nil {
		return answer{}, err
	}
	s.text.Reset()
	if _, err := io.Copy(&s.text, z); err != nil {
		return answer{}, err
	}
	a.text = s.text.Bytes()
	return a, z.Close()
}

func (s *serve) close() error {
	s.client.http.CloseIdleConnections()
	return s.daemon.close()
}

// herd is a promagg process and many clients that scrape it at the same time.
type herd struct {
	*daemon
	clients []*client
	errs    []error // of each client's last scrape
}

// herdSize is how many there are.
const herdSize = 200

func startHerd(ctx context.Context, b *bench) (scraper, error) { return newHerd(startDaemon(ctx, b)) }

func startBareHerd(ctx context.Context, b *bench) (scraper, error) {
	return newHerd(bareDaemon(ctx, b, ""))
}

func newHerd(d *daemon, err error) (scraper, error) {
	if err != nil {
		return nil, err
	}
	h := &herd{daemon: d, errs: make([]error, herdSize)}
	for range herdSize {
		h.clients = append(h.clients, newClient(d.url, identity))
	}
	return h, nil
}

// scrape has all clients scrape and waits for the last one.
func (h *herd) scrape() (answer, error) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i, c := range h.clients {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			h.errs[i] = c.get()
		})
	}
	ready.Wait()
	begin := time.Now()
	close(start)
	done.Wait()
	a := answer{took: time.Since(begin), own: ownPrefix}
	if err := errors.Join(h.errs...); err != nil {
		return answer{}, err
	}
	a.text = h.clients[0].body.Bytes()
	for _, c := range h.clients[1:] {
		a.others = append(a.others, c.body.Bytes())
	}
	return a, nil
}

func (h *herd) close() error {
	for _, c := range h.clients {
		c.http.CloseIdleConnections()
	}
	return h.daemon.close()
}

// serveLog is what promagg logs; it says there where it listens.
type serveLog struct {
	mu      sync.Mutex // protects text
	text    bytes.Buffer
	address chan string
}

var listening = regexp.MustCompile(`msg=listening address=(\S+)`)

func (l *serveLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if m := listening.FindSubmatch(b); m != nil {
		select {
		case l.address <- string(m[1]):
		default:
		}
	}
	return len(b), nil
}

func (l *serveLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
