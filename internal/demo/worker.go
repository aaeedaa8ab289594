package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/web"
)

// listenerFD is the file descriptor that a worker inherits the socket as.
const listenerFD = 3

// finishIn bounds how long a worker that is to stop goes on answering.
const finishIn = time.Second

// Work is the worker process. It serves until ctx ends or stdin does, which is a
// pipe from the parent.
func Work(ctx context.Context, version string, stdin io.Reader) error {
	// Ctrl-C reaches every process of the terminal; in which order things stop is
	// the parent's to decide.
	signal.Ignore(os.Interrupt)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end is all there is to know
		stop()
	}()
	inherited := os.NewFile(listenerFD, "listener")
	l, err := net.FileListener(inherited)
	if err != nil {
		return fmt.Errorf("worker of the demonstration: want a socket as file descriptor %d, as promagg demo gives it: %w", listenerFD, err)
	}
	if err := inherited.Close(); err != nil {
		return err
	}
	defer client.Close()
	server := &http.Server{Handler: newApp(version), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.Background(), finishIn)
	defer cancel()
	if server.Shutdown(finish) != nil {
		return server.Close() // somebody is too slow to wait for
	}
	return nil
}

// newApp returns the application, with metrics in the default registry.
func newApp(version string) http.Handler {
	requests := client.NewGauge(client.GaugeOpts{
		Name: "demo_worker_requests", Help: "Requests that each living worker has answered.", Mode: client.ModeLiveAll})
	orders := client.NewSummary(client.SummaryOpts{Name: "demo_order_items", Help: "Items per order."})
	info := client.NewInfo(client.InfoOpts{Name: "demo_build", Help: "What the workers run."}, []string{"version", "go"})
	state := client.NewEnum(client.EnumOpts{
		Name: "demo_workers", Help: "Living workers in each state.", States: []string{"idle", "busy"}, Mode: client.ModeLiveSum})
	client.MustRegister(requests, orders, info, state)
	info.Set(client.Labels{"version": version, "go": runtime.Version()})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "worker %d\n", os.Getpid()) })
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		if len(r.PathValue("id")) > 2 {
			http.Error(w, "no such item", http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "item %s\n", r.PathValue("id"))
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, _ *http.Request) {
		orders.Observe(float64(1 + rand.IntN(5)))
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		// The state is the worker's as a whole: of two slow requests the first to
		// end makes it idle. For a demonstration that will do.
		state.State("busy")
		defer state.State("idle")
		select {
		case <-time.After(time.Duration(20+rand.IntN(80)) * time.Millisecond):
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, "done")
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "broken", http.StatusInternalServerError)
	})
	measure := web.NewMiddleware(web.MiddlewareOpts{
		Namespace: "demo",
		Buckets:   []float64{0.001, 0.01, 0.1, 1},
		Route:     func(r *http.Request) string { return r.Pattern },
	})
	return measure(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer requests.Inc()
		mux.ServeHTTP(w, r)
	}))
}
