package collectors_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/collectors"
	"github.com/promagg/promagg/pkg/client/web"
)

func Example() {
	os.Unsetenv("PROMETHEUS_MULTIPROC_DIR") // the metrics are to stay in this process
	os.Unsetenv("prometheus_multiproc_dir")
	r := client.NewRegistry(client.Options{})
	defer r.Close()
	r.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		collectors.NewPlatformCollector(),
	)

	w := httptest.NewRecorder()
	web.HandlerFor(r).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for lines := bufio.NewScanner(w.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "# TYPE go_gc_") { // and many more
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// # TYPE go_gc_duration_seconds summary
	// # TYPE go_gc_gogc_percent gauge
	// # TYPE go_gc_gomemlimit_bytes gauge
}
