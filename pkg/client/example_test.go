package client_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/web"
)

// registry returns a registry that keeps its metrics in this process, whatever
// the environment says. Programs use the default one.
func registry() *client.Registry {
	os.Unsetenv("PROMETHEUS_MULTIPROC_DIR")
	os.Unsetenv("prometheus_multiproc_dir")
	return client.NewRegistry(client.Options{})
}

// show prints the samples that /metrics has of a registry: those with the prefix.
func show(r *client.Registry, prefix string) {
	w := httptest.NewRecorder()
	web.HandlerFor(r).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for lines := bufio.NewScanner(w.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, prefix) && !strings.HasPrefix(line, "#") {
			fmt.Println(line)
		}
	}
}

func ExampleNewCounter() {
	r := registry()
	defer r.Close()
	requests := client.NewCounter(client.CounterOpts{Name: "requests_total", Help: "Requests served."})
	r.MustRegister(requests)
	requests.Inc()
	requests.Add(2)
	show(r, "")
	// Output: requests_total 3
}

func ExampleNewCounterVec() {
	r := registry()
	defer r.Close()
	requests := client.NewCounterVec(client.CounterOpts{Namespace: "app", Name: "requests_total", Help: "Requests served."}, []string{"path", "code"})
	r.MustRegister(requests)
	requests.WithLabelValues("/", "200").Inc()
	requests.With(client.Labels{"path": "/", "code": "500"}).Inc()
	_, err := requests.GetMetricWithLabelValues("/")
	fmt.Println(err)
	show(r, "")
	// Output:
	// inconsistent label cardinality: "app_requests_total" has 2 variable labels named ["path" "code"] but 1 values ["/"] were provided
	// app_requests_total{code="200",path="/"} 1
	// app_requests_total{code="500",path="/"} 1
}

func ExampleNewCounterFunc() {
	r := registry()
	defer r.Close()
	var hits atomic.Int64 // what a cache counts itself
	r.MustRegister(client.NewCounterFunc(client.CounterOpts{Name: "cache_hits_total", Help: "Found in the cache."}, func() float64 { return float64(hits.Load()) }))
	hits.Add(12)
	show(r, "")
	// Output: cache_hits_total 12
}

func ExampleNewGauge() {
	r := registry()
	defer r.Close()
	busy := client.NewGauge(client.GaugeOpts{Name: "requests_in_progress", Help: "Requests being served.", Mode: client.ModeLiveSum})
	r.MustRegister(busy)
	client.InProgress(busy, func() { show(r, "") })
	show(r, "")
	// Output:
	// requests_in_progress 1
	// requests_in_progress 0
}

func ExampleNewGaugeFunc() {
	r := registry()
	defer r.Close()
	queue := make(chan string, 10)
	r.MustRegister(client.NewGaugeFunc(client.GaugeOpts{Name: "queue_length", Help: "Jobs that wait.", Mode: client.ModeLiveSum}, func() float64 { return float64(len(queue)) }))
	queue <- "a job"
	show(r, "")
	// Output: queue_length 1
}

func ExampleNewHistogram() {
	r := registry()
	defer r.Close()
	took := client.NewHistogram(client.HistogramOpts{Name: "request", Unit: "seconds", Help: "Time to serve.", Buckets: client.ExponentialBuckets(0.25, 2, 3)})
	r.MustRegister(took)
	took.Observe(0.5)
	took.Observe(4)
	show(r, "")
	// Output:
	// request_seconds_bucket{le="0.25"} 0
	// request_seconds_bucket{le="0.5"} 1
	// request_seconds_bucket{le="1.0"} 1
	// request_seconds_bucket{le="+Inf"} 2
	// request_seconds_sum 4.5
	// request_seconds_count 2
}

func ExampleNewTimer() {
	r := registry()
	defer r.Close()
	took := client.NewHistogram(client.HistogramOpts{Name: "request", Unit: "seconds", Help: "Time to serve."})
	r.MustRegister(took)
	func() {
		defer client.NewTimer(took).ObserveDuration()
		time.Sleep(time.Millisecond) // serve
	}()
	show(r, "request_seconds_count")
	// Output: request_seconds_count 1
}

func ExampleNewSummary() {
	r := registry()
	defer r.Close()
	size := client.NewSummary(client.SummaryOpts{Name: "response", Unit: "bytes", Help: "Size of responses."})
	r.MustRegister(size)
	size.Observe(512)
	size.Observe(256)
	show(r, "")
	// Output:
	// response_bytes_count 2
	// response_bytes_sum 768
}

func ExampleNewInfo() {
	r := registry()
	defer r.Close()
	info := client.NewInfo(client.InfoOpts{Name: "app", Help: "The program."}, []string{"version"})
	r.MustRegister(info)
	info.Set(client.Labels{"version": "1.2.3"})
	show(r, "")
	info.Set(client.Labels{"version": "1.2.4"})
	show(r, "")
	// Output:
	// app_info{version="1.2.3"} 1
	// app_info{version="1.2.4"} 1
}

func ExampleNewEnum() {
	r := registry()
	defer r.Close()
	state := client.NewEnum(client.EnumOpts{Name: "worker_state", Help: "What the worker does.", States: []string{"starting", "serving", "draining"}, Mode: client.ModeLiveSum})
	r.MustRegister(state)
	state.State("serving")
	show(r, "")
	// Output:
	// worker_state{worker_state="draining"} 0
	// worker_state{worker_state="serving"} 1
	// worker_state{worker_state="starting"} 0
}

// pool knows how many connections it has to which database.
type pool struct{ open map[string]int }

var openConns = client.NewDesc("pool_connections", "Open connections.", []string{"db"}, nil).WithMode(client.ModeLiveSum)

func (p pool) Describe(ch chan<- *client.Desc) { ch <- openConns }

func (p pool) Collect(ch chan<- client.Metric) {
	for db, n := range p.open {
		ch <- client.MustNewConstMetric(openConns, client.GaugeValue, float64(n), db)
	}
}

func ExampleCollector() {
	r := registry()
	defer r.Close()
	r.MustRegister(pool{map[string]int{"orders": 3, "users": 1}})
	show(r, "")
	// Output:
	// pool_connections{db="orders"} 3
	// pool_connections{db="users"} 1
}

func ExampleCountErrors() {
	r := registry()
	defer r.Close()
	failures := client.NewCounter(client.CounterOpts{Name: "failures_total", Help: "Failed attempts."})
	r.MustRegister(failures)
	fmt.Println(client.CountErrors(failures, func() error { return io.ErrUnexpectedEOF }))
	show(r, "")
	// Output:
	// unexpected EOF
	// failures_total 1
}

func ExampleExponentialBucketsRange() {
	fmt.Println(client.LinearBuckets(5, 5, 4))
	fmt.Println(client.ExponentialBuckets(1, 10, 4))
	fmt.Println(client.ExponentialBucketsRange(1, 100, 3))
	// Output:
	// [5 10 15 20]
	// [1 10 100 1000]
	// [1 10 100]
}
