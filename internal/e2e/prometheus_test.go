package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/promagg/promagg/internal/testpeer"
)

// scrapeInterval of the Prometheus under test, which is also its time-out: long
// enough that a busy machine does not lose a scrape.
const scrapeInterval = time.Second

// TestPrometheusSeesEveryRequest: what gunicorn's workers count arrives in a
// Prometheus to the last request, also when a worker is killed and replaced.
func TestPrometheusSeesEveryRequest(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Prometheus)
	dir := t.TempDir()
	pa := serve(t, dir).ready(t)
	g := startGunicorn(t, dir, 4)
	prom := startPrometheus(t, pa.address)
	began := time.Now()

	sent := g.request(t, 300)
	sees := func(what string) {
		t.Helper()
		testpeer.WaitFor(t, what, patience, func() error {
			got := prom.query(t, "sum(requests_total)")
			if len(got) != 1 || got[0].Value.value != float64(sent) {
				return fmt.Errorf("sum(requests_total) is %v, want %d", got, sent)
			}
			return nil
		})
	}
	// liveWorkers are the workers that have a live gauge in Prometheus.
	liveWorkers := func() map[string]bool {
		pids := map[string]bool{}
		for _, v := range prom.query(t, "worker_requests") {
			pids[v.Metric["pid"]] = true
		}
		return pids
	}
	sees("every request")
	workers := g.workers(t)
	if diff := cmp.Diff(workers, liveWorkers()); diff != "" {
		t.Errorf("workers with a live gauge (-gunicorn's +Prometheus'):\n%s", diff)
	}

	victim := slices.Sorted(maps.Keys(workers))[0]
	pid, err := strconv.Atoi(victim)
	if err != nil {
		t.Fatal(err)
	}
	testpeer.SignalPid(t, "KILL", pid)
	testpeer.WaitFor(t, "gunicorn to replace the worker", patience, func() error {
		now := g.workers(t)
		if len(now) != 4 || now[victim] {
			return fmt.Errorf("workers %v", now)
		}
		return nil
	})
	prom.scrapedAfter(t, time.Now())
	sees("every request after a worker was killed") // at once, but that a scrape may be missed
	delete(workers, victim)
	if diff := cmp.Diff(workers, liveWorkers()); diff != "" {
		t.Errorf("workers with a live gauge after one was killed (-gunicorn's +Prometheus'):\n%s", diff)
	}

	sent += g.request(t, 300) // goes on until the new worker has served one, too
	sees("every request, those of the new worker too")
	if diff := cmp.Diff(g.workers(t), liveWorkers()); diff != "" {
		t.Errorf("workers with a live gauge in the end (-gunicorn's +Prometheus'):\n%s", diff)
	}
	if got := prom.query(t, "sum(requests_in_progress)"); len(got) != 1 || got[0].Value.value != 0 {
		t.Errorf("requests_in_progress is %v, want 0", got)
	}

	for query, want := range map[string]float64{
		"sum(resets(requests_total[5m]))":        0,
		"sum(resets(request_seconds_count[5m]))": 0,
		"sum(resets(response_bytes_bucket[5m]))": 0,
		"sum(response_bytes_count)":              float64(sent),
		`sum(response_bytes_bucket{le="+Inf"})`:  float64(sent),
		"sum(request_seconds_count)":             float64(sent),
		"min_over_time(up[5m])":                  1,
		`count(count by (pid) (requests_total))`: 1, // no pid label there
		`count(requests_total{status="404"})`:    1,
	} {
		if got := prom.query(t, query); len(got) != 1 || got[0].Value.value != want {
			t.Errorf("%s is %v, want %v", query, got, want)
		}
	}
	if got := prom.query(t, "count_over_time(up[5m])"); len(got) != 1 || got[0].Value.value < 3 {
		t.Errorf("%v scrapes: too few to have seen anything", got)
	}
	prom.neverFell(t, "sum(requests_total)", began, float64(sent))
}

// prometheus is a Prometheus server that scrapes one target.
type prometheus struct {
	*testpeer.Process
	url    string
	config string // the path of its configuration
}

func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	return startPrometheusWith(t, fmt.Sprintf(`
- job_name: promagg
  static_configs: [{targets: ['%s']}]
`, target))
}

// startPrometheusWith is startPrometheus for what can be said of a scrape.
func startPrometheusWith(t *testing.T, scrapes string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	p := &prometheus{config: filepath.Join(dir, "prometheus.yml")}
	p.configure(t, "scrape_configs:"+scrapes)
	// It does not tell which port it got if it may choose one, so it gets one that was free just now.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p.url = "http://" + address
	p.Process = testpeer.Start(t, command(testpeer.Prometheus.Path(), "--config.file", p.config,
		"--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address))
	testpeer.WaitFor(t, "Prometheus", patience, func() error {
		if ended, err := p.Exited(); ended {
			t.Fatalf("Prometheus has ended: %v", err)
		}
		_, err := fetch(p.url + "/-/ready")
		return err
	})
	return p
}

// configure writes its configuration: what is to be scraped, from scrape_configs on.
func (p *prometheus) configure(t *testing.T, scrapes string) {
	t.Helper()
	yml := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}\n%[2]s", scrapeInterval, scrapes)
	if err := os.WriteFile(p.config, []byte(yml), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reconfigure has it take up another configuration.
func (p *prometheus) reconfigure(t *testing.T, scrapes string) {
	t.Helper()
	p.configure(t, scrapes)
	testpeer.SignalPid(t, "HUP", p.Pid())
}

// promSeries is one element of a query's result.
type promSeries struct {
	Metric map[string]string `json:"metric"`
	Value  promPoint         `json:"value"`  // of an instant query
	Values []promPoint       `json:"values"` // of a range query
}

// promPoint is a JSON list of a Unix time and a number in a string.
type promPoint struct{ at, value float64 }

func (p promPoint) String() string { return fmt.Sprint(p.value) }

func (p *promPoint) UnmarshalJSON(b []byte) error {
	var parts [2]any
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	at, ok1 := parts[0].(float64)
	value, ok2 := parts[1].(string)
	if !ok1 || !ok2 {
		return fmt.Errorf("point %s: want a number and a string", b)
	}
	var err error
	p.at = at
	p.value, err = strconv.ParseFloat(value, 64)
	return err
}

// query is an instant query for now.
func (p *prometheus) query(t *testing.T, promql string) []promSeries {
	t.Helper()
	return p.api(t, "query", url.Values{"query": {promql}})
}

func (p *prometheus) api(t *testing.T, endpoint string, args url.Values) []promSeries {
	t.Helper()
	body, err := fetch(p.url + "/api/v1/" + endpoint + "?" + args.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Result []promSeries `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v in %s", args.Get("query"), err, body)
	}
	return answer.Data.Result
}

// scrapedAfter waits for a scrape that began after the given time.
func (p *prometheus) scrapedAfter(t *testing.T, after time.Time) {
	t.Helper()
	testpeer.WaitFor(t, "the next scrape", patience, func() error {
		got := p.query(t, "timestamp(up)")
		if len(got) != 1 || got[0].Value.value <= float64(after.UnixMilli())/1000 {
			return fmt.Errorf("the last scrape was at %v", got)
		}
		return nil
	})
}

// neverFell checks that a query's result has grown all the time, to last.
func (p *prometheus) neverFell(t *testing.T, promql string, since time.Time, last float64) {
	t.Helper()
	unix := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	got := p.api(t, "query_range", url.Values{
		"query": {promql}, "start": {unix(since)}, "end": {unix(time.Now())}, "step": {"0.25"},
	})
	if len(got) != 1 {
		t.Fatalf("%s over time is %v, want one series", promql, got)
	}
	was := 0.0
	for _, point := range got[0].Values {
		if point.value < was || point.value > last {
			t.Errorf("%s over time is %v, want it to grow up to %v", promql, got[0].Values, last)
			return
		}
		was = point.value
	}
}
