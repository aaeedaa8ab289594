package bridge_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/bridge"
	"github.com/promagg/promagg/pkg/client/web"
)

// A library counts with client_golang; the worker's /metrics has it as well.
func ExampleNew() {
	library := prometheus.NewRegistry()
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "library_calls_total", Help: "Calls."}, []string{"to"})
	library.MustRegister(calls)
	calls.WithLabelValues("somewhere").Add(3)

	os.Unsetenv("PROMETHEUS_MULTIPROC_DIR") // the metrics are to stay in this process
	os.Unsetenv("prometheus_multiproc_dir")
	r := client.NewRegistry(client.Options{})
	defer r.Close()
	r.MustRegister(bridge.New(library, bridge.Options{}))

	w := httptest.NewRecorder()
	web.HandlerFor(r).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	fmt.Print(w.Body)
	// Output:
	// # HELP library_calls_total Calls.
	// # TYPE library_calls_total counter
	// library_calls_total{to="somewhere"} 3
}
