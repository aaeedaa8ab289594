package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestGunicornRecycles: workers that end after 50 requests each, of an application that
// knows nothing of promagg. Every request is in the total, no counter ever falls, be it
// for Prometheus or for somebody who scrapes all the time, and no more files are left
// than the living have. PROMAGG_TEST_REQUESTS=200000 is the full size.
func TestGunicornRecycles(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn, testpeer.Prometheus)
	const workers, each, clients = 4, 50, 8
	n := 3000
	if s := os.Getenv("PROMAGG_TEST_REQUESTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < workers*each {
			t.Fatalf("PROMAGG_TEST_REQUESTS: want a number of at least %d, got %q", workers*each, s)
		}
	}
	dir := t.TempDir()
	p := serve(t, dir, "--fold.interval", "1s").ready(t)
	g := startGunicorn(t, dir, workers, "--max-requests", strconv.Itoa(each), "--timeout", "600")
	// On a busy machine it takes a while until one of the workers is there again.
	g.client = &http.Client{Timeout: 10 * time.Minute}
	prom := startPrometheus(t, p.address)
	began := time.Now()

	stop := make(chan struct{})
	var scraping sync.WaitGroup
	scrapes, most := 0, 0
	scraping.Go(func() { scrapes, most = keepCounting(t, p, dir, stop) })
	stopScraping := sync.OnceFunc(func() { close(stop); scraping.Wait() })
	t.Cleanup(stopScraping)

	var mu sync.Mutex // protects served
	served := make(map[string]int)
	var left atomic.Int64
	left.Store(int64(n))
	var loading sync.WaitGroup
	for range clients {
		loading.Go(func() {
			for i := left.Add(-1); i >= 0 && !t.Failed(); i = left.Add(-1) {
				pid, err := g.page([]string{"a", "b", "missing"}[i%3])
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				served[pid]++
				mu.Unlock()
			}
		})
	}
	loading.Wait()
	took := time.Since(began)
	if t.Failed() {
		return
	}
	lives := 0 // one PID may have been that of several workers
	for _, n := range served {
		lives += (n + each - 1) / each
	}

	testpeer.WaitFor(t, "Prometheus to see every request", patience, func() error {
		got := prom.query(t, "sum(requests_total)")
		if len(got) != 1 || got[0].Value.value != float64(n) {
			return fmt.Errorf("sum(requests_total) is %v, want %d", got, n)
		}
		return nil
	})
	stopScraping()
	window := fmt.Sprintf("[%ds]", int(time.Since(began).Seconds())+60)
	for query, want := range map[string]float64{
		"sum(resets(requests_total" + window + "))":        0,
		"sum(resets(request_seconds_count" + window + "))": 0,
		"sum(resets(request_seconds_sum" + window + "))":   0,
		"sum(resets(response_bytes_bucket" + window + "))": 0,
		"sum(resets(response_bytes_count" + window + "))":  0,
		"sum(requests_total)":                              float64(n),
		"sum(request_seconds_count)":                       float64(n),
		`sum(response_bytes_bucket{le="+Inf"})`:            float64(n),
		`count(count by (pid) (requests_total))`:           1,
		"sum(requests_in_progress)":                        0,
	} {
		if got := prom.query(t, query); len(got) != 1 || got[0].Value.value != want {
			t.Errorf("%s is %v, want %v", query, got, want)
		}
	}
	prom.neverFell(t, "sum(requests_total)", began, float64(n))

	// The files that are left are those of the workers that there are.
	var ids map[string]bool
	testpeer.WaitFor(t, "as many writers' files as there are workers", patience, func() error {
		ids = writersOf(t, dir)
		if !maps.Equal(ids, g.workers(t)) {
			return fmt.Errorf("files of %v, workers %v", slices.Sorted(maps.Keys(ids)), slices.Sorted(maps.Keys(g.workers(t))))
		}
		return nil
	})
	files := valueFiles(t, dir)
	own := p.get(t, "/metrics")
	deaths := lives - workers
	t.Logf("%d requests in %v, %d deaths of workers", n, took.Round(time.Second), deaths)
	up := prom.query(t, "count_over_time(up"+window+")")
	t.Logf("%d scrapes by the test, %v by Prometheus; resets seen: 0", scrapes, up)
	t.Logf("%d value files in the end of %d workers, at most %d at any time", len(files), len(ids), most)
	for line := range strings.Lines(own) {
		if strings.HasPrefix(line, "promagg_fold") || strings.HasPrefix(line, "promagg_archive") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if deaths < n/each-2*workers {
		t.Errorf("%d workers have died, want some %d", deaths, n/each)
	}
	if scrapes < 10 {
		t.Errorf("%d scrapes: too few to have seen anything", scrapes)
	}
	const kinds = 5 // of files that each worker has
	if most > lives*kinds/2 {
		t.Errorf("there were %d value files at a time, of some %d that have ever been", most, lives*kinds)
	}
}

// keepCounting scrapes until stop. Nothing that only grows may fall. It returns the
// number of scrapes, and the most value files that were in the directory at one.
func keepCounting(t *testing.T, p *promagg, dir string, stop <-chan struct{}) (scrapes, most int) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	before := exposition{}
	for {
		select {
		case <-stop:
			return scrapes, most
		case <-tick.C:
		}
		text, err := fetch("http://" + p.address + "/metrics")
		if err != nil {
			t.Error(err)
			return scrapes, most
		}
		e, err := parseExposition(text)
		if err == nil {
			err = mustNotFall(e, before)
		}
		if err != nil {
			t.Errorf("scrape %d: %v", scrapes, err)
			return scrapes, most
		}
		before = e
		scrapes++
		most = max(most, len(valueFiles(t, dir)))
	}
}

// writersOf are the writers that have files in a directory.
func writersOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	ids := make(map[string]bool)
	for _, path := range valueFiles(t, dir) {
		name, ok := mmapfile.ParseName(path[len(dir)+1:])
		if !ok {
			t.Fatalf("%s is no value file", path)
		}
		if !name.IsArchive() {
			ids[name.ID] = true
		}
	}
	return ids
}
