package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/promagg/promagg/pkg/client"
)

// MiddlewareOpts are the options of a middleware. All may be zero.
type MiddlewareOpts struct {
	// Registry gets the metrics. Default: client.DefaultRegistry().
	Registry *client.Registry
	// Namespace comes before the metrics' names.
	Namespace string
	// ConstLabels are put on all of the metrics.
	ConstLabels client.Labels
	// Buckets are those of the duration, in seconds. Default: client.DefBuckets.
	Buckets []float64
	// Route adds the label "route" to the requests and their duration. It is
	// called when the handler has returned, so it may ask what a ServeMux found:
	//
	//	func(r *http.Request) string { return r.Pattern }
	//
	// It must return one of few values, never the path as the client sent it.
	Route func(*http.Request) string
}

// NewMiddleware returns a function that wraps handlers, and registers
//
//	http_requests_total{code,method}        counter
//	http_request_duration_seconds{method}   histogram, until the handler returns
//	http_requests_in_flight                 gauge, the sum over the living processes
//	http_response_size_bytes{method}        summary, bodies without headers
//
// A response to HEAD has no body, so its size is 0 whatever the handler writes.
// Methods are in lower case, and "unknown" where they are none of net/http's.
// The code of a handler that panics before it has answered is 500, and of one
// that takes the connection over it is 101; the panic goes on.
//
// Middlewares with the same registry, names and labels share their metrics.
// NewMiddleware panics if a name is taken by something else.
func NewMiddleware(opts MiddlewareOpts) func(http.Handler) http.Handler {
	if opts.Registry == nil {
		opts.Registry = client.DefaultRegistry()
	}
	byMethod, byCode := []string{"method"}, []string{"code", "method"}
	took := byMethod
	if opts.Route != nil {
		byCode, took = append(byCode, "route"), []string{"method", "route"}
	}
	named := func(name, help string) client.Opts {
		return client.Opts{Namespace: opts.Namespace, Name: name, Help: help, ConstLabels: opts.ConstLabels}
	}
	m := &middleware{
		route: opts.Route,
		requests: register(opts.Registry, client.NewCounterVec(
			client.CounterOpts(named("http_requests_total", "HTTP requests answered, by status code and method.")), byCode)),
		duration: register(opts.Registry, client.NewHistogramVec(client.HistogramOpts{
			Namespace: opts.Namespace, Name: "http_request_duration_seconds", Help: "Time until the handler of an HTTP request returned.",
			ConstLabels: opts.ConstLabels, Buckets: opts.Buckets,
		}, took)),
		inFlight: register(opts.Registry, client.NewGauge(client.GaugeOpts{
			Namespace: opts.Namespace, Name: "http_requests_in_flight", Help: "HTTP requests that are being answered.",
			ConstLabels: opts.ConstLabels, Mode: client.ModeLiveSum,
		})),
		size: register(opts.Registry, client.NewSummaryVec(
			client.SummaryOpts(named("http_response_size_bytes", "Size of HTTP responses without their headers.")), byMethod)),
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(next, w, r) })
	}
}

// described is a collector of one family.
type described interface {
	client.Collector
	Desc() *client.Desc
}

// register registers c, or returns the one of its kind that already is.
func register[C described](r *client.Registry, c C) C {
	err := r.Register(c)
	if err == nil {
		return c
	}
	var already client.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok && existing.Desc().String() == c.Desc().String() {
			return existing
		}
		err = errors.New("the name is taken by another collector")
	}
	panic("client/web: middleware: register " + c.Desc().String() + ": " + err.Error())
}

type middleware struct {
	route    func(*http.Request) string
	requests *client.CounterVec
	duration *client.HistogramVec
	inFlight client.Gauge
	size     *client.SummaryVec
}

func (m *middleware) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	rec := &recorder{ResponseWriter: w, head: r.Method == http.MethodHead}
	method := methodLabel(r.Method)
	returned := false
	m.inFlight.Inc()
	// No recover: a panic goes on from where it was raised.
	defer func() {
		took := time.Since(begin).Seconds()
		m.inFlight.Dec()
		code := strconv.Itoa(rec.answered(returned))
		m.size.WithLabelValues(method).Observe(float64(rec.size))
		if m.route == nil {
			m.duration.WithLabelValues(method).Observe(took)
			m.requests.WithLabelValues(code, method).Inc()
			return
		}
		route := strings.ToValidUTF8(m.route(r), "\uFFFD")
		m.duration.WithLabelValues(method, route).Observe(took)
		m.requests.WithLabelValues(code, method, route).Inc()
	}()
	next.ServeHTTP(rec.asCapable(), r)
	returned = true
}

// methodLabel bounds what a client can make the label be.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, "":
		return "get"
	case http.MethodHead:
		return "head"
	case http.MethodPost:
		return "post"
	case http.MethodPut:
		return "put"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	case http.MethodConnect:
		return "connect"
	case http.MethodOptions:
		return "options"
	case http.MethodTrace:
		return "trace"
	}
	return "unknown"
}
