package check

import (
	"fmt"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

func bucket(le string) entry {
	return entry{key: fmt.Sprintf(`["took_seconds", "took_seconds_bucket", {"le": %q}, "Time taken."]`, le), value: 1}
}

func TestConflicts(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	held(t, dir, "counter_2.db", jobs)
	held(t, dir, "counter_3.db", entry{key: `["jobs", "jobs_total", {}, "All the jobs."]`})
	held(t, dir, "histogram_1.db", bucket("1.0"), bucket("5.0"), bucket("+Inf"))
	held(t, dir, "histogram_2.db", bucket("1.0"), bucket("2.5"), bucket("+Inf"))
	held(t, dir, "gauge_sum_1.db", entry{key: `["size_bytes", "size_bytes", {}, "Size."]`})
	held(t, dir, "gauge_max_2.db", entry{key: `["size_bytes", "size_bytes", {}, "Size."]`})
	r := lookAt(t, dir)
	tells(t, r, "PA501 error", "PA503 warning", "PA502 hint")
	contains(t, find(t, r, "PA501"), "type or mode of size_bytes", "gauge of mode max size_bytes: gauge_max_2.db", "gauge of mode sum size_bytes: gauge_sum_1.db")
	contains(t, find(t, r, "PA502"), "help text of jobs_total", `"All the jobs.": counter_3.db`, `"Jobs done.": counter_1.db, counter_2.db`)
	contains(t, find(t, r, "PA503"), "buckets of took_seconds", "1.0 5.0 +Inf: histogram_1.db", "1.0 2.5 +Inf: histogram_2.db")
}

// TestConflictOfSample: the name of one family is that of another one's sample.
func TestConflictOfSample(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "histogram_1.db", bucket("1.0"), bucket("+Inf"))
	held(t, dir, "counter_2.db", entry{key: `["took_seconds_count", "took_seconds_count", {}, "Times."]`})
	held(t, dir, "counter_3.db", jobs)
	r := lookAt(t, dir)
	tells(t, r, "PA501 error")
	text := find(t, r, "PA501")
	contains(t, text, "histogram took_seconds: histogram_1.db", "counter took_seconds_count: counter_2.db")
	if strings.Contains(text, "counter_3.db") {
		t.Errorf("it names one that has nothing to do with it: %s", text)
	}
}

func TestCardinality(t *testing.T) {
	dir := testpeer.Shm(t)
	var many []entry
	for i := range 1500 {
		many = append(many, entry{key: fmt.Sprintf(`["hits", "hits_total", {"path": "/user/%d", "status": "%d"}, "Hits."]`, i, 200+i%3), value: 1})
	}
	held(t, dir, "counter_1.db", many...)
	r := lookAt(t, dir)
	tells(t, r, "PA504 hint")
	contains(t, find(t, r, "PA504"), "hits_total has 1500 label sets, 1500 lines", `label "path" has 1500 values: "/user/0", "/user/1", "/user/10", and 1497 more`)

	var more []entry
	for i := range 10_001 {
		more = append(more, entry{key: fmt.Sprintf(`["more", "more_total", {"id": "%d"}, "More."]`, i)})
	}
	held(t, dir, "counter_2.db", more...)
	tells(t, lookAt(t, dir), "PA504 warning", "PA504 hint")
}

func TestGaugeOfAll(t *testing.T) {
	dir := testpeer.Shm(t)
	for i := range manySeries + 1 {
		left(t, dir, fmt.Sprintf("gauge_all_%d.db", i+1), entry{key: `["temperature_celsius", "temperature_celsius", {}, "Temperature."]`})
	}
	held(t, dir, "counter_1.db", jobs)
	r := lookAt(t, dir)
	tells(t, r, "PA505 hint")
	contains(t, find(t, r, "PA505"), "temperature_celsius has 1001 label sets")
}

func TestInvalid(t *testing.T) {
	dir := testpeer.Shm(t)
	negative := bucket("1.0")
	negative.value = -4
	held(t, dir, "histogram_1.db", negative, bucket("+Inf"))
	held(t, dir, "counter_1.db", jobs, entry{key: `["", "", {}, "No name."]`})
	r := lookAt(t, dir)
	tells(t, r, "PA506 warning", "PA507 warning")
	contains(t, find(t, r, "PA506"), "took_seconds")
	contains(t, find(t, r, "PA507"), "1 entry can't be served")
}

func TestLint(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs, entry{key: `["hits", "hits", {"userId": "1"}, "Hits."]`}, entry{key: `["clicks", "clicks", {}, "Clicks."]`})
	held(t, dir, "gauge_sum_1.db", entry{key: `["cache_kilobytes", "cache_kilobytes", {}]`})
	r := lookAt(t, dir)
	tells(t, r, "PA601 hint", "PA601 hint", "PA601 hint", "PA601 hint")
	contains(t, find(t, r, "PA601"), "2 metrics: counter metrics should have \"_total\" suffix\nclicks\nhits", "label names should be written in 'snake_case'",
		"no help text\ncache_kilobytes", `use base unit "bytes" instead of "kilobytes"`)
}
