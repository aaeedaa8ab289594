package client_test

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/promagg/promagg/pkg/client"
)

// registry returns a registry that writes to a directory of its own. Programs
// use the default one.
func registry() (r *client.Registry, done func()) {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		panic(err)
	}
	r = client.NewRegistry(client.Options{Dir: dir})
	return r, func() {
		if err := errors.Join(r.Err(), r.Close(), os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	}
}

func ExampleNewCounter() {
	r, done := registry()
	defer done()
	requests := client.NewCounter(client.CounterOpts{Name: "requests_total", Help: "Requests served."})
	r.MustRegister(requests)
	requests.Inc()
	requests.Add(2)
}

func ExampleNewCounterVec() {
	r, done := registry()
	defer done()
	requests := client.NewCounterVec(client.CounterOpts{Namespace: "app", Name: "requests_total", Help: "Requests served."}, []string{"path", "code"})
	r.MustRegister(requests)
	requests.WithLabelValues("/", "200").Inc()
	requests.With(client.Labels{"path": "/", "code": "500"}).Inc()
	_, err := requests.GetMetricWithLabelValues("/")
	fmt.Println(err)
	// Output: inconsistent label cardinality: "app_requests_total" has 2 variable labels named ["path" "code"] but 1 values ["/"] were provided
}

func ExampleNewGauge() {
	r, done := registry()
	defer done()
	busy := client.NewGauge(client.GaugeOpts{Name: "requests_in_progress", Help: "Requests being served.", Mode: client.ModeLiveSum})
	r.MustRegister(busy)
	client.InProgress(busy, func() { /* serve */ })
}

func ExampleNewHistogram() {
	r, done := registry()
	defer done()
	took := client.NewHistogram(client.HistogramOpts{Name: "request", Unit: "seconds", Help: "Time to serve.", Buckets: []float64{0.01, 0.1, 1}})
	r.MustRegister(took)
	defer client.NewTimer(took).ObserveDuration()
}

func ExampleNewSummary() {
	r, done := registry()
	defer done()
	size := client.NewSummary(client.SummaryOpts{Name: "response", Unit: "bytes", Help: "Size of responses."})
	r.MustRegister(size)
	size.Observe(512)
}

func ExampleNewInfo() {
	r, done := registry()
	defer done()
	info := client.NewInfo(client.InfoOpts{Name: "app", Help: "The program."}, []string{"version"})
	r.MustRegister(info)
	info.Set(client.Labels{"version": "1.2.3"})
}

func ExampleNewEnum() {
	r, done := registry()
	defer done()
	state := client.NewEnum(client.EnumOpts{Name: "worker_state", Help: "What the worker does.", States: []string{"starting", "serving", "draining"}, Mode: client.ModeLiveSum})
	r.MustRegister(state)
	state.State("serving")
}

func ExampleCountErrors() {
	r, done := registry()
	defer done()
	failures := client.NewCounter(client.CounterOpts{Name: "failures_total", Help: "Failed attempts."})
	r.MustRegister(failures)
	fmt.Println(client.CountErrors(failures, func() error { return io.ErrUnexpectedEOF }))
	// Output: unexpected EOF
}
