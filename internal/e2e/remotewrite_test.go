package e2e

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// store is a receiver of remote write that a test can kill and start again, behind a
// door that the test shuts first. Both receivers answer Prometheus' queries.
type store struct {
	*prometheus
	t       *testing.T
	argv    []string
	flush   string // what makes it write to disk what it has; empty where it does so by itself
	door    *door
	address string
}

// start starts the receiver, or starts it again with what it has on disk.
func (s *store) start() {
	s.t.Helper()
	s.Process = testpeer.Start(s.t, command(s.argv...))
	testpeer.WaitFor(s.t, "the receiver", patience, func() error {
		if ended, err := s.Exited(); ended {
			s.t.Fatalf("it has ended: %v", err)
		}
		_, err := fetch(s.url + "/-/ready")
		return err
	})
	s.door.open(s.address)
}

// crash ends the receiver as a power cut does to a process, but lets it write first
// what it has confirmed: one that keeps that in memory for a while loses it, which is
// no fault of the sender.
func (s *store) crash() {
	s.t.Helper()
	s.door.shut()
	if s.flush != "" {
		if _, err := fetch(s.url + s.flush); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Kill(s.t)
}

// freeAddress is an address that was free just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// door hands connections on to a receiver; while it is shut they are refused, and
// those that there were are cut.
type door struct {
	address string

	mu    sync.Mutex // protects all below
	l     net.Listener
	conns []net.Conn
}

func (d *door) open(to string) {
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	d.l = l
	d.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					way[0].Close()
				}()
			}
		}
	}()
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.l.Close()
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

// stores are the receivers that Debian has.
var stores = map[string]struct {
	peer *testpeer.Peer
	make func(t *testing.T, s *store, dir string)
}{
	"prometheus": {testpeer.Prometheus, func(t *testing.T, s *store, dir string) {
		config := filepath.Join(dir, "prometheus.yml")
		if err := os.WriteFile(config, []byte("{}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.argv = []string{testpeer.Prometheus.Path(), "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
			"--web.listen-address", s.address, "--web.enable-remote-write-receiver"}
	}},
	"victoria-metrics": {testpeer.VictoriaMetrics, func(t *testing.T, s *store, dir string) {
		s.argv = []string{testpeer.VictoriaMetrics.Path(), "-storageDataPath", filepath.Join(dir, "data"), "-httpListenAddr", s.address,
			"-search.latencyOffset=0s", "-search.disableCache",
			// Without it, a request that is repeated is stored twice: docs/remote-write.md.
			"-dedup.minScrapeInterval=1ms"}
		s.flush = "/snapshot/create" // /internal/force_flush leaves things in memory
	}},
}

func startStore(t *testing.T, name string) *store {
	t.Helper()
	testpeer.Require(t, testpeer.Python, stores[name].peer)
	s := &store{t: t, address: freeAddress(t), door: &door{address: freeAddress(t)}}
	s.prometheus = &prometheus{url: "http://" + s.address}
	stores[name].make(t, s, t.TempDir())
	s.start()
	t.Cleanup(s.door.shut)
	return s
}

// number is the result of a query that has one series.
func (s *store) number(promql string) (float64, error) {
	body, err := fetch(s.url + "/api/v1/query?" + url.Values{"query": {promql}, "nocache": {"1"}}.Encode())
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`"value":\[[0-9.]+,"([^"]*)"\]`).FindAllStringSubmatch(body, -1)
	if len(m) != 1 {
		return 0, fmt.Errorf("%s has %d results, want one: %s", promql, len(m), body)
	}
	return strconv.ParseFloat(m[0][1], 64)
}

// sees waits until a query has a result.
func (s *store) sees(promql string, want float64) {
	s.t.Helper()
	testpeer.WaitFor(s.t, promql, patience, func() error {
		got, err := s.number(promql)
		if err == nil && got != want {
			err = fmt.Errorf("%s is %v, want %v", promql, got, want)
		}
		return err
	})
}

// export runs promagg export.
func export(t *testing.T, dir, url string, args ...string) *testpeer.Process {
	t.Helper()
	argv := append([]string{testpeer.Promagg(t), "export", "--dir", dir, "--remote-write", url, "--interval", "100ms"}, args...)
	return testpeer.Start(t, command(argv...))
}

var ended = regexp.MustCompile(`msg="remote write has ended" .*snapshots=(\d+) sent=(\d+) retried=(\d+) failed=(\d+) dropped=(\d+)`)

// total is what an exporter tells at its end.
type total struct{ snapshots, sent, retried, failed, dropped int }

// stopped stops an exporter and returns what it tells.
func stopped(t *testing.T, p *testpeer.Process) (n total) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Errorf("promagg export has ended with %v", err)
	}
	m := ended.FindStringSubmatch(p.Log())
	if m == nil {
		t.Fatalf("promagg export does not tell what it has sent: %s", p.Log())
	}
	for i, to := range []*int{&n.snapshots, &n.sent, &n.retried, &n.failed, &n.dropped} {
		*to, _ = strconv.Atoi(m[i+1])
	}
	return n
}

// TestRemoteWriteOutage: a receiver that is killed and comes back has in the end each
// value of each snapshot once, those of the outage included.
func TestRemoteWriteOutage(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			s := startStore(t, name)
			dir := t.TempDir()
			w := startWorker(t, python(dir, "worker.py"))
			inc := func(v float64) {
				w.send(t, op{Op: "inc", Type: "counter", Name: "jobs", Labels: map[string]string{}, Value: v}.String())
				w.ask(t, op{Op: "sync"}.String())
			}
			inc(1)
			p := export(t, dir, "http://"+s.door.address, "--external-label", "env=test", "--job", "batch", "--disable-exporter-metrics")
			s.sees(`jobs_total{job="batch",env="test"}`, 1)
			for i := range 2 {
				s.crash()
				inc(10)
				testpeer.WaitFor(t, "an attempt that is refused", patience, func() error {
					if !regexp.MustCompile(`remote write fails`).MatchString(p.Log()) {
						return fmt.Errorf("none yet")
					}
					return nil
				})
				s.start()
				s.sees("jobs_total", float64(1+10*(i+1)))
			}
			inc(100) // which only the last flush is sure to send
			n := stopped(t, p)
			s.sees("jobs_total", 121)
			s.sees("count_over_time(jobs_total[1h])", float64(n.snapshots))
			if n.failed != 0 || n.dropped != 0 || n.retried == 0 || n.sent != n.snapshots {
				t.Errorf("%+v, want one sample of each snapshot sent, and some of them again", n)
			}
			s.sees("resets(jobs_total[1h])", 0)
		})
	}
}

// TestRemoteWriteDropped: of an outage for which the queue is too small, the receiver
// lacks as many values as promagg says.
func TestRemoteWriteDropped(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			s := startStore(t, name)
			dir := t.TempDir()
			w := startWorker(t, python(dir, "worker.py"))
			w.send(t, op{Op: "inc", Type: "counter", Name: "jobs", Labels: map[string]string{}, Value: 1}.String())
			w.ask(t, op{Op: "sync"}.String())
			p := export(t, dir, "http://"+s.door.address, "--disable-exporter-metrics", "--remote-write.batch-samples", "1", "--remote-write.queue-samples", "3")
			s.sees("jobs_total", 1)
			s.crash()
			testpeer.WaitFor(t, "a full queue", patience, func() error {
				if !regexp.MustCompile(`samples for remote write are dropped`).MatchString(p.Log()) {
					return fmt.Errorf("it is not full yet")
				}
				return nil
			})
			s.start()
			before, err := s.number("count_over_time(jobs_total[1h])")
			if err != nil {
				t.Fatal(err)
			}
			testpeer.WaitFor(t, "new values", patience, func() error {
				now, err := s.number("count_over_time(jobs_total[1h])")
				if err == nil && now <= before+4 {
					err = fmt.Errorf("%v of them, after %v", now, before)
				}
				return err
			})
			n := stopped(t, p)
			if n.dropped == 0 || n.sent+n.dropped != n.snapshots || n.failed != 0 {
				t.Errorf("%+v, want all snapshots sent or dropped", n)
			}
			s.sees("count_over_time(jobs_total[1h])", float64(n.snapshots-n.dropped))
		})
	}
}

// TestRemoteWriteStale: the series of a worker that has ended ends in the receiver at
// once; what stays at the stop of promagg does not.
func TestRemoteWriteStale(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			s := startStore(t, name)
			dir := t.TempDir()
			w := startWorker(t, goWorker(dir))
			w.send(t, op{Op: "set", Name: "busy", Mode: "liveall", Value: 1}.String())
			w.send(t, op{Op: "inc", Name: "done_total", Value: 5}.String())
			w.ask(t, op{Op: "sync"}.String())
			p := export(t, dir, "http://"+s.door.address)
			s.sees("busy", 1)
			s.sees(`promagg_remote_write_fallback`, 1)
			w.Kill(t)
			testpeer.WaitFor(t, "the end of the series", patience, func() error {
				if _, err := s.number("busy"); err == nil {
					return fmt.Errorf("it is still there")
				}
				return nil
			})
			stopped(t, p)
			s.sees("done_total", 5)
		})
	}
}

// TestRemoteWriteOnce: --once sends what there is, and its exit status tells whether
// it was taken.
func TestRemoteWriteOnce(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			s := startStore(t, name)
			dir := t.TempDir()
			w := startWorker(t, goWorker(dir))
			w.send(t, op{Op: "inc", Name: "done_total", Value: 5}.String())
			w.ask(t, op{Op: "sync"}.String())
			w.stdin.Close()
			w.Wait(t)
			once := func(args ...string) error {
				p := export(t, dir, "http://"+s.door.address, append(args, "--once", "--job", "nightly")...)
				return p.Wait(t)
			}
			if err := once(); err != nil {
				t.Error(err)
			}
			s.sees(`done_total{job="nightly"}`, 5)
			s.crash()
			if err := once("--remote-write.flush-timeout", "200ms"); err == nil {
				t.Error("status 0 although nobody has taken anything")
			}
		})
	}
}

// TestServeRemoteWrite: serve sends what it shows to a scrape, its own metrics too,
// which tell how far that got.
func TestServeRemoteWrite(t *testing.T) {
	s := startStore(t, "prometheus")
	dir := t.TempDir()
	w := startWorker(t, goWorker(dir))
	w.send(t, op{Op: "inc", Name: "done_total", Value: 5}.String())
	w.ask(t, op{Op: "sync"}.String())
	p := serve(t, dir, "--remote-write.url", "http://"+s.door.address, "--remote-write.interval", "100ms", "--remote-write.instance", "here")
	s.sees(`done_total{job="promagg",instance="here"}`, 5)
	s.sees(`promagg_files{state="alive",type="counter",instance="here"}`, 1)
	testpeer.WaitFor(t, "promagg to tell that samples were sent", patience, func() error {
		body := p.get(t, "/metrics")
		if !regexp.MustCompile(`(?m)^promagg_remote_write_samples_sent_total [1-9]`).MatchString(body) {
			return fmt.Errorf("it does not: %s", body)
		}
		return nil
	})
	if up, err := s.number("up"); err == nil {
		t.Errorf("up is %v, want none", up)
	}
}
