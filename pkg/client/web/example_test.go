package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/web"
)

// Handler is the same for the default registry, which most programs use.
func ExampleHandlerFor() {
	os.Unsetenv("PROMETHEUS_MULTIPROC_DIR") // the metrics are to stay in this process
	os.Unsetenv("prometheus_multiproc_dir")
	r := client.NewRegistry(client.Options{})
	defer r.Close()
	requests := client.NewCounter(client.CounterOpts{Name: "requests_total", Help: "Requests served."})
	r.MustRegister(requests)

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) { requests.Inc() })
	mux.Handle("/metrics", web.HandlerFor(r))

	for _, path := range []string{"/", "/", "/metrics"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total 2
}
