package remotewrite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/value"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/testpeer"
)

// running is an exporter whose test says when a snapshot is taken.
type running struct {
	*Exporter
	t    *testing.T
	stop context.CancelFunc // of the sender, at once
	done sync.WaitGroup
}

func start(t *testing.T, w *world, url string, set func(*Options)) *running {
	t.Helper()
	opts := Options{URL: url, Job: "j", Instance: "i", MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
	if set != nil {
		set(&opts)
	}
	e, err := New(w.dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Exporter: e, t: t}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	r.done.Go(func() { e.sender.run(ctx, nil) })
	t.Cleanup(func() {
		r.stop()
		r.done.Wait()
	})
	return r
}

// take takes a snapshot, at another time than the last one.
func (r *running) take() {
	r.t.Helper()
	last := r.last
	testpeer.WaitFor(r.t, "the clock", patience, func() error {
		if r.opts.Now().UnixMilli() <= last {
			return fmt.Errorf("it is %d still", last)
		}
		return nil
	})
	if err := r.collect(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// settled waits until the queue is empty.
func (r *running) settled() Stats {
	r.t.Helper()
	testpeer.WaitFor(r.t, "an empty queue", patience, func() error {
		if n := r.queue.len(); n > 0 {
			return fmt.Errorf("it has %d samples", n)
		}
		return nil
	})
	return r.Stats()
}

func TestStaleIsPrometheus(t *testing.T) {
	if !value.IsStaleNaN(stale) {
		t.Errorf("%x is no stale marker", math.Float64bits(stale))
	}
}

// TestSent: what a scrape shows arrives with labels and metadata as it has them, in
// both protocols.
func TestSent(t *testing.T) {
	for _, typ := range []remote.WriteMessageType{remote.WriteV1MessageType, remote.WriteV2MessageType} {
		t.Run(string(typ), func(t *testing.T) {
			w, r := newWorld(t), newReceiver(t, typ)
			w.write("counter_1.db", `["c", "c_total", {"job": "own", "exported_job": "other", "env": "own"}, "C."]`, 3.0, `["d", "d_total", {"empty": "", "quote": "\"}\n"}]`, 1.5)
			w.write("histogram_1.db", `["h", "h_bucket", {"le": "1"}, "H."]`, 2.0, `["h", "h_bucket", {"le": "+Inf"}, "H."]`, 1.0, `["h", "h_sum", {}, "H."]`, 9.0)
			w.write("gauge_all_7.db", `["g", "g", {}, "G."]`, -1.0)
			e := start(t, w, r.URL, func(o *Options) { o.External = map[string]string{"env": "prod", "zone": "z"} })
			own := prometheus.NewRegistry()
			c := prometheus.NewCounter(prometheus.CounterOpts{Name: "promagg_own_total", Help: "O."})
			c.(prometheus.ExemplarAdder).AddWithExemplar(2, prometheus.Labels{"trace_id": "t"})
			own.MustRegister(c)
			e.SendOwn(own)
			e.take()
			e.settled()
			const rest = `instance="i",job="j",`
			want := map[string]string{
				`__name__="c_total",env="own",exported_exported_job="own",exported_job="other",` + rest + `zone="z",`: "3",
				`__name__="d_total",env="prod",` + rest + `quote="\"}\n",zone="z",`:                                   "1.5",
				`__name__="g",env="prod",` + rest + `pid="7",zone="z",`:                                               "-1",
				`__name__="h_bucket",env="prod",` + rest + `le="+Inf",zone="z",`:                                      "3",
				`__name__="h_bucket",env="prod",` + rest + `le="1.0",zone="z",`:                                       "2",
				`__name__="h_count",env="prod",` + rest + `zone="z",`:                                                 "3",
				`__name__="h_sum",env="prod",` + rest + `zone="z",`:                                                   "9",
				`__name__="promagg_own_total",env="prod",` + rest + `zone="z",`:                                       "2",
			}
			got := map[string]string{}
			for _, name := range r.names() {
				got[name] = strings.Join(r.values(name), " ")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			wantMeta := map[string]string{"c_total": `COUNTER "C."`, "d_total": `COUNTER "Multiprocess metric"`, "g": `GAUGE "G."`, "h": `HISTOGRAM "H."`, "promagg_own_total": `COUNTER "O."`}
			if typ == remote.WriteV2MessageType {
				byFamily := wantMeta
				wantMeta = map[string]string{}
				for series := range want {
					name := strings.Split(series, `"`)[1]
					if strings.HasPrefix(name, "h_") {
						name = "h"
					}
					wantMeta[series] = "METRIC_TYPE_" + byFamily[name]
				}
				const o = `__name__="promagg_own_total",env="prod",` + rest + `zone="z",`
				if len(r.examples) != 1 || r.examples[0] != o+"[trace_id t] 2" {
					t.Errorf("exemplars %q, want the one of the counter", r.examples)
				}
				if r.created[o] == 0 || r.created[`__name__="d_total",env="prod",`+rest+`quote="\"}\n",zone="z",`] != 0 {
					t.Errorf("created timestamps %v, want that of the one counter that has it", r.created)
				}
			}
			if diff := cmp.Diff(wantMeta, r.metadata); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStale: a series that vanishes ends with a stale marker, one that is there
// again goes on, and one that is there at the stop has none.
func TestStale(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	e := start(t, w, r.URL, nil)
	w.counters(2, 1)
	e.take()
	w.counters(1, 2)
	e.take()
	e.take()
	w.counters(2, 3)
	e.take()
	e.settled()
	const of = `__name__="c_total",i="%d",instance="i",job="j",`
	if diff := cmp.Diff([]string{"1", "2", "2", "3"}, r.values(fmt.Sprintf(of, 0))); diff != "" {
		t.Errorf("the series that stays (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1", "stale", "3"}, r.values(fmt.Sprintf(of, 1))); diff != "" {
		t.Errorf("the series that comes and goes (-want +got):\n%s", diff)
	}
	if len(e.series) != 2 || len(e.families) != 1 {
		t.Errorf("%d series and %d families are kept, want those that there are", len(e.series), len(e.families))
	}
}

// TestMetadataChanges: a help text that changes arrives, and makes no other series.
func TestMetadataChanges(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	e := start(t, w, r.URL, nil)
	for i, help := range []string{"Old.", "New."} {
		w.write("counter_1.db", `["c", "c_total", {}, "`+help+`"]`, float64(i))
		e.take()
		e.settled()
		const c = `__name__="c_total",instance="i",job="j",`
		if got := r.metadata[c]; !strings.Contains(got, help) {
			t.Errorf("metadata %s, want %s", got, help)
		}
		if got := r.values(c); len(got) != i+1 {
			t.Errorf("values %v, want %d of them", got, i+1)
		}
	}
}

// TestDuplicate: label sets that differ in a label without a value are one series,
// which gets one value.
func TestDuplicate(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	e := start(t, w, r.URL, nil)
	w.write("counter_1.db", `["c", "c_total", {}, "C."]`, 1.0, `["c", "c_total", {"a": ""}, "C."]`, 2.0)
	e.take()
	s := e.settled()
	if got := r.values(`__name__="c_total",instance="i",job="j",`); len(got) != 1 || s.Dropped[DroppedDuplicate] != 1 || s.Sent != 1 {
		t.Errorf("stored %v, statistics %+v, want one of the two", got, s)
	}
}

// TestFallback: a receiver that has no 2.0 gets 1.0, and is not asked again.
func TestFallback(t *testing.T) {
	t.Run("415", func(t *testing.T) {
		w, r := newWorld(t), newReceiver(t, remote.WriteV1MessageType)
		testFallback(t, w, r)
	})
	t.Run("ignores what it does not know", func(t *testing.T) {
		// As Prometheus 2.42 does, which does not look at the type.
		w, r := newWorld(t), newReceiver(t, remote.WriteV1MessageType)
		r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
			q.Header.Set("Content-Type", "application/x-protobuf")
			next.ServeHTTP(w, q)
		})
		testFallback(t, w, r)
	})
}

func testFallback(t *testing.T, w *world, r *receiver) {
	e := start(t, w, r.URL, nil)
	w.counters(3, 1)
	for range 4 {
		e.take()
	}
	s := e.settled()
	if got := r.values(`__name__="c_total",i="0",instance="i",job="j",`); len(got) != 4 {
		t.Errorf("stored %v, want four values", got)
	}
	if s.Sent != 12 || s.Requests != 5 || s.Retried != 3 || s.Failed != 0 || !s.Fallback {
		t.Errorf("statistics %+v, want 12 samples sent by 5 requests, the first of them in vain", s)
	}
}

// answer is a fault: an answer without a look at the request.
func answer(status int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		http.Error(w, "no", status)
	}
}

// cut is a fault: an answer that breaks off.
func cut(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "100")
	w.WriteHeader(http.StatusOK)
	panic(http.ErrAbortHandler)
}

// discard is a response that nobody reads.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// TestNothingDoubled: whatever goes wrong at random, before the receiver has stored
// a request or after, each value is there once, and all are there in the end.
func TestNothingDoubled(t *testing.T) {
	random := testpeer.Rand(t)
	faults := []func(http.ResponseWriter){
		answer(500), answer(503, "Retry-After", "0"), answer(429), answer(502, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"),
		cut, func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	w, r := newWorld(t), newReceiver(t)
	r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		fault := faults[random.IntN(len(faults))]
		switch random.IntN(4) {
		case 0, 1:
			next.ServeHTTP(w, q)
		case 2:
			next.ServeHTTP(discard{http.Header{}}, q) // stored, but the sender does not learn of it
			fault(w)
		default:
			fault(w)
		}
	})
	e := start(t, w, r.URL, func(o *Options) { o.BatchSamples = 7 })
	const series, rounds = 40, 12
	for i := range rounds {
		w.counters(series, float64(i))
		e.take()
	}
	s := e.settled()
	if s.Sent != series*rounds || s.Failed != 0 || s.lost() != 0 || s.Retried == 0 {
		t.Errorf("statistics %+v, want %d samples sent, some of them again", s, series*rounds)
	}
	names := r.names()
	if len(names) != series {
		t.Errorf("%d series, want %d", len(names), series)
	}
	for _, name := range names {
		got := r.values(name)
		for i := range rounds {
			if len(got) != rounds || got[i] != fmt.Sprint(i) {
				t.Fatalf("%s is %v, want 0 to %d", name, got, rounds-1)
			}
		}
	}
	again := false
	for _, try := range r.retries {
		again = again || try != "" && try != "0"
	}
	if !again {
		t.Errorf("Retry-Attempt is %q", r.retries)
	}
}

// TestRefused: what the receiver refuses is counted and not sent again; of a request
// that is refused in part, the rest counts as sent.
func TestRefused(t *testing.T) {
	for _, status := range []int{400, 401, 404, 413, 302} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w, r := newWorld(t), newReceiver(t)
			r.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer(status)(w) })
			e := start(t, w, r.URL, nil)
			w.counters(5, 1)
			e.take()
			if s := e.settled(); s.Failed != 5 || s.Sent != 0 || s.Requests != 1 || !s.LastSuccess.IsZero() {
				t.Errorf("statistics %+v, want 5 failed in one request", s)
			}
			r.setFault(nil)
			e.take()
			if s := e.settled(); s.Failed != 5 || s.Sent != 5 || s.LastSuccess.IsZero() {
				t.Errorf("statistics %+v, want 5 failed and 5 sent", s)
			}
		})
	}
	t.Run("in part", func(t *testing.T) {
		w, r := newWorld(t), newReceiver(t)
		r.refuse = func(series string) bool { return strings.Contains(series, `i="3"`) }
		e := start(t, w, r.URL, nil)
		w.counters(5, 1)
		e.take()
		if s := e.settled(); s.Failed != 1 || s.Sent != 4 {
			t.Errorf("statistics %+v, want 1 failed and 4 sent", s)
		}
	})
}

// TestRedirect: samples follow a redirect that keeps the method. After another one the
// answer is not the receiver's, and confirms nothing.
func TestRedirect(t *testing.T) {
	for status, followed := range map[int]bool{301: false, 302: false, 303: false, 307: true, 308: true} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w, r := newWorld(t), newReceiver(t)
			r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
				switch {
				case q.URL.Path != "/moved":
					http.Redirect(w, q, "/moved", status)
				case q.Method == http.MethodPost:
					next.ServeHTTP(w, q)
				default:
					fmt.Fprint(w, "<html>log in")
				}
			})
			e, err := New(w.dir, Options{URL: r.URL, Flush: patience, MinBackoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			w.counters(2, 1)
			err = e.Once(t.Context())
			if followed && err != nil {
				t.Error(err)
			}
			if !followed && (err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) || !strings.Contains(err.Error(), "redirect")) {
				t.Errorf("error %v, want one that tells of the redirect", err)
			}
			want := Stats{Sent: 2}
			if !followed {
				want = Stats{Failed: 2}
			}
			if s := e.Stats(); s.Sent != want.Sent || s.Failed != want.Failed || s.Requests != 1 {
				t.Errorf("statistics %+v, want %d sent, %d failed, in one request", s, want.Sent, want.Failed)
			}
		})
	}
}

// TestSlow: a request that takes too long is given up and made again.
func TestSlow(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	first := true
	r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if first {
			first = false
			next.ServeHTTP(discard{http.Header{}}, q)
			<-q.Context().Done()
			return
		}
		next.ServeHTTP(w, q)
	})
	e := start(t, w, r.URL, func(o *Options) { o.Client = &http.Client{Timeout: time.Second} })
	w.counters(1, 1)
	e.take()
	if s := e.settled(); s.Sent != 1 || s.Retried == 0 {
		t.Errorf("statistics %+v, want 1 sent, after it was retried", s)
	}
}

// TestHugeAnswer: an answer that does not end is not read to its end.
func TestHugeAnswer(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	r.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusBadRequest)
		for b := bytes.Repeat([]byte("x\n"), 4096); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	e := start(t, w, r.URL, nil)
	w.counters(1, 1)
	e.take()
	if s := e.settled(); s.Failed != 1 {
		t.Errorf("statistics %+v, want 1 failed", s)
	}
	if n := len(e.sender.lastError().Error()); n > 2*maxMessage {
		t.Errorf("an error of %d bytes", n)
	}
}

// TestQueueIsBounded: while nobody takes anything the queue keeps the newest, and
// counts what it does not keep.
func TestQueueIsBounded(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	open := make(chan struct{})
	r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		<-open
		next.ServeHTTP(w, q)
	})
	var log bytes.Buffer
	e := start(t, w, r.URL, func(o *Options) {
		o.BatchSamples, o.QueueSamples = 10, 40
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	for i := range 9 { // of 15 samples in two requests
		w.counters(15, float64(i))
		e.take()
		if i == 0 {
			testpeer.WaitFor(t, "the first request", patience, func() error {
				if r.requestCount() == 0 {
					return fmt.Errorf("none yet")
				}
				return nil
			})
		}
		if n := e.queue.len(); n > 40 {
			t.Errorf("%d samples in the queue", n)
		}
	}
	close(open)
	s := e.settled()
	if s.Dropped[DroppedQueue] == 0 || s.Sent+s.lost() != 9*15 || s.Sent < 31 {
		t.Errorf("statistics %+v, want %d samples sent or dropped, and a queue's worth sent", s, 9*15)
	}
	stored := 0
	for _, name := range r.names() {
		got := r.values(name)
		stored += len(got)
		if got[len(got)-1] != "8" {
			t.Errorf("%s is %v, want the last value", name, got)
		}
	}
	if stored != int(s.Sent) {
		t.Errorf("%d values are stored, %d were sent", stored, s.Sent)
	}
	e.stop()
	e.done.Wait()
	if n := strings.Count(log.String(), "are dropped"); n != 1 {
		t.Errorf("dropping is logged %d times:\n%s", n, &log)
	}
}

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex // protects at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// TestAge: what is too old is dropped and counted, what is not is sent.
func TestAge(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	r.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer(503)(w) })
	c := &clock{at: time.Now()}
	e := start(t, w, r.URL, func(o *Options) { o.Now, o.QueueAge = c.now, time.Hour })
	w.counters(2, 1)
	e.take()
	c.add(30 * time.Minute)
	w.counters(2, 2)
	e.take()
	c.add(40 * time.Minute)
	testpeer.WaitFor(t, "the older samples to go", patience, func() error {
		if s := e.Stats(); s.Dropped[DroppedAge] != 2 || s.Queued != 2 {
			return fmt.Errorf("statistics %+v", s)
		}
		return nil
	})
	r.setFault(nil)
	if s := e.settled(); s.Sent != 2 {
		t.Errorf("statistics %+v, want 2 sent", s)
	}
	if got := r.values(`__name__="c_total",i="0",instance="i",job="j",`); len(got) != 1 || got[0] != "2" {
		t.Errorf("stored %v, want the younger value", got)
	}
}

// run runs an exporter until it has met the receiver, and returns what stops it and
// waits for its end.
func run(t *testing.T, w *world, r *receiver, set func(*Options)) (e *Exporter, end func() error) {
	t.Helper()
	opts := Options{URL: r.URL, Interval: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour}
	if set != nil {
		set(&opts)
	}
	e, err := New(w.dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(stop)
	testpeer.WaitFor(t, "a request", patience, func() error {
		if r.requestCount() == 0 {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	return e, func() error {
		stop()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			t.Fatal("the exporter does not end")
			return nil
		}
	}
}

// TestLastFlush: at the stop a last snapshot is sent, and what waits for its next
// try does not wait longer.
func TestLastFlush(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	r.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer(503)(w) })
	w.counters(1, 1)
	e, end := run(t, w, r, func(o *Options) { o.Flush = patience })
	testpeer.WaitFor(t, "the failure", patience, func() error {
		e.sender.mu.Lock()
		defer e.sender.mu.Unlock()
		return map[bool]error{false: fmt.Errorf("not seen yet")}[e.sender.ailing]
	})
	r.setFault(nil)
	w.counters(1, 2)
	if err := end(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(r.values(`__name__="c_total",i="0",`), " "); got != "1 2" {
		t.Errorf("stored %s, want both values", got)
	}
	if s := e.Stats(); s.Sent != 2 || s.Snapshots != 2 || s.lost() != 0 {
		t.Errorf("statistics %+v, want 2 sent", s)
	}
}

// TestLastFlushIsBounded: a receiver that is down does not keep an exporter from
// its end, and what was not sent is counted.
func TestLastFlushIsBounded(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"down":            func(w http.ResponseWriter, _ *http.Request) { answer(503)(w) },
		"asks for a wait": func(w http.ResponseWriter, _ *http.Request) { answer(503, "Retry-After", "3600")(w) },
		"hangs": func(_ http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body) // only then the server sees who has gone
			<-q.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newReceiver(t)
			r.setFault(func(w http.ResponseWriter, q *http.Request, _ http.Handler) { fault(w, q) })
			w.counters(3, 1)
			e, end := run(t, w, r, func(o *Options) { o.Flush = 50 * time.Millisecond })
			if err := end(); err == nil || !strings.Contains(err.Error(), "6 samples were not sent in 50ms") {
				t.Errorf("error %v, want it to tell of 6 samples", err)
			}
			if s := e.Stats(); s.Dropped[DroppedAtStop] != 6 || s.Queued != 0 {
				t.Errorf("statistics %+v, want 6 dropped at the stop", s)
			}
			if name == "asks for a wait" && r.requestCount() != 1 {
				t.Errorf("%d requests, want none before the receiver wants it", r.requestCount())
			}
		})
	}
}

// TestOnce: once tells by its error whether all was taken.
func TestOnce(t *testing.T) {
	once := func(w *world, url string) error {
		e, err := New(w.dir, Options{URL: url, Flush: patience, MinBackoff: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return e.Once(t.Context())
	}
	w, r := newWorld(t), newReceiver(t)
	if err := once(w, r.URL); err != ErrNothing {
		t.Errorf("error %v, want %v", err, ErrNothing)
	}
	w.counters(2, 1)
	tries := 0
	r.setFault(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if tries++; tries < 3 {
			answer(500)(w)
		} else {
			next.ServeHTTP(w, q)
		}
	})
	if err := once(w, r.URL); err != nil || tries != 3 {
		t.Errorf("error %v after %d tries, want none after 3", err, tries)
	}
	r.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer(400)(w) })
	if err := once(w, r.URL); err == nil || !strings.Contains(err.Error(), "2 of 2 samples were not taken: server returned HTTP status 400 Bad Request: no") {
		t.Errorf("error %v, want the receiver's words", err)
	}
	asked, stop := context.WithCancel(t.Context())
	r.setFault(func(_ http.ResponseWriter, q *http.Request, _ http.Handler) {
		io.Copy(io.Discard, q.Body) // only then the server sees that the sender is gone
		stop()
		<-q.Context().Done()
	})
	stopped, err := New(w.dir, Options{URL: r.URL, Flush: patience})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"stopped before 2 samples were sent", "stopped before anything was sent"} {
		if err := stopped.Once(asked); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	r.Close()
	e, err := New(w.dir, Options{URL: r.URL, Flush: 100 * time.Millisecond, MinBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v, want the refused connection", err)
	}
}

// TestNoSnapshot: a directory that can't be read is counted, and ends no series.
func TestNoSnapshot(t *testing.T) {
	w, r := newWorld(t), newReceiver(t)
	e := start(t, w, r.URL, nil)
	w.counters(1, 1)
	e.take()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	broken := e.source
	e.source = noSource{}
	if err := e.collect(gone); err == nil {
		t.Error("no error")
	}
	e.source = broken
	e.take()
	s := e.settled()
	if got := strings.Join(r.values(`__name__="c_total",i="0",instance="i",job="j",`), " "); got != "1 1" || s.SnapshotFailures != 1 {
		t.Errorf("stored %s, statistics %+v, want the values and no marker", got, s)
	}
}

// TestSettings: settings that can't be are refused, and no password is told.
func TestSettings(t *testing.T) {
	w := newWorld(t)
	for _, o := range []Options{
		{URL: "prometheus:9090"}, {URL: "ftp://u:secret@h/"}, {URL: "http://"}, {URL: "http://u:secret@h:x y/"},
		{URL: "http://h", QueueSamples: 10, BatchSamples: 6}, {URL: "http://h", BatchSamples: -1},
		{URL: "http://h", External: map[string]string{"job": "x"}}, {URL: "http://h", External: map[string]string{"le": "x"}},
	} {
		if _, err := New(w.dir, o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: error %v, want one without the password", o, err)
		}
	}
	for from, to := range map[string]string{
		"http://h":             "http://h/api/v1/write",
		"https://h:1/?x=y":     "https://h:1/api/v1/write?x=y",
		"http://h/insert/0/p/": "http://h/insert/0/p/",
	} {
		if u, err := ParseURL(from); err != nil || u.String() != to {
			t.Errorf("%s becomes %v, %v, want %s", from, u, err, to)
		}
	}
}

// noSource is a source that fails.
type noSource struct{}

func (noSource) Snapshot(context.Context) (*merge.Snapshot, error) { return nil, fs.ErrPermission }
