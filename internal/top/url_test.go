package top

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestURL follows an endpoint through its answers: the numbers are what matters here;
// that a promagg answers so is for internal/e2e.
func TestURL(t *testing.T) {
	answers := []string{`
# TYPE jobs_total counter
jobs_total{queue="a"} 100
jobs_total{queue="b"} 50
# TYPE took histogram
took_bucket{le="1"} 3
took_bucket{le="+Inf"} 4
took_sum 9
took_count 4
# TYPE busy gauge
busy{pid="7"} 3
# TYPE promagg_worker_cpu_seconds_total counter
promagg_worker_cpu_seconds_total{pid="7"} 10
promagg_worker_cpu_seconds_total{pid="8"} 20
# TYPE promagg_worker_resident_memory_bytes gauge
promagg_worker_resident_memory_bytes{pid="7"} 4096
# TYPE promagg_worker_start_time_seconds gauge
promagg_worker_start_time_seconds{pid="7"} 1.7778959e+09
# TYPE promagg_worker_threads gauge
promagg_worker_threads{pid="7"} 5
`, `
# TYPE jobs_total counter
jobs_total{queue="a"} 120
jobs_total{queue="b"} 30
jobs_total{queue="c"} 10
# TYPE took histogram
took_bucket{le="1"} 3
took_bucket{le="+Inf"} 24
took_sum 9
took_count 24
# TYPE busy gauge
busy{pid="7"} 300
# TYPE promagg_worker_cpu_seconds_total counter
promagg_worker_cpu_seconds_total{pid="7"} 15
promagg_worker_cpu_seconds_total{pid="8"} NaN
# TYPE promagg_worker_resident_memory_bytes gauge
promagg_worker_resident_memory_bytes{pid="7"} 8192
# TYPE promagg_worker_start_time_seconds gauge
promagg_worker_start_time_seconds{pid="7"} 1.7778959e+09
# TYPE promagg_worker_threads gauge
promagg_worker_threads{pid="7"} 5
`}
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, answers[next])
		next++
	}))
	defer server.Close()
	u := NewURL(server.URL, server.URL)
	defer u.Close()
	at := time.Unix(1777896000, 0)
	u.now = func() time.Time { at = at.Add(10 * time.Second); return at }
	from, err := u.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to, err := u.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	families := Families(from, to)
	// b began anew, which tells nothing; c is new.
	wantRow(t, families, "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=3 WORKERS=- VALUE=160 RATE/S=3.000 SKEW=- CV=-")
	wantRow(t, families, "took", "FAMILY=took TYPE=histogram ENTRIES=1 WORKERS=- VALUE=24 RATE/S=2.000 SKEW=- CV=-")
	wantRow(t, families, "busy", "FAMILY=busy TYPE=gauge ENTRIES=1 WORKERS=1 VALUE=300 RATE/S=- SKEW=- CV=-")
	wantRow(t, ByWorker(from, to, FamilyID{"busy", "gauge"}), "7", "WORKER=7 STATE=alive ENTRIES=1 VALUE=300 RATE/S=- SHARE=-")
	workers := Workers(from, to)
	wantRow(t, workers, "7", "WORKER=7 STATE=alive AGE=120 CPU%=50.0 RSS=8192 THREADS=5 FILES=- ENTRIES=- UPDATES/S=- SHARE=-")
	wantRow(t, workers, "8", "WORKER=8 STATE=alive AGE=- CPU%=- RSS=- THREADS=- FILES=- ENTRIES=- UPDATES/S=- SHARE=-")
}

// TestURLErrors wants an error that says what to do for what is no answer.
func TestURLErrors(t *testing.T) {
	for body, want := range map[string]string{
		"":                       "its answer has no metrics: give with --url where the metrics are",
		"<html>\n":               "text format parsing error in line 1",
		"\x1b[2J 1\n":            "text format parsing error in line 1",
		"jobs_total{a=\"b} 1\n":  "text format parsing error in line 1",
		"# TYPE a b\na 1\na x\n": "text format parsing error",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		_, err := NewURL(server.URL, "http://user:xxxxx@there").Look(t.Context())
		server.Close()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "http://user:xxxxx@there") {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
}
