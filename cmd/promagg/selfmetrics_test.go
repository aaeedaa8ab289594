package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// TestSelfMetrics: promagg's own metrics are what a registry would let pass and
// would have made of them, and named as metrics should be.
func TestSelfMetrics(t *testing.T) {
	d := multiproc.Open(multiproc.Options{Path: t.TempDir()})
	defer d.Close()
	if _, err := d.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSelf(multiproc.NewGroup(d), "app", newWebMetrics(limit.NewListener(nil, 0)), new(procMetrics))
	got := lawful(t, s)
	for _, reason := range []string{"busy", "url", "body", "query", "memory", "slow"} {
		if series := fmt.Sprintf("promagg_http_requests_refused_total{reason=%q} 0\n", reason); !strings.Contains(textOf(t, got), series) {
			t.Errorf("%s is not there from the start", series)
		}
	}
}

// lawful gathers what a registry would let pass, and promlint.
func lawful(t *testing.T, s *self) []*dto.MetricFamily {
	t.Helper()
	got, err := s.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want, err := prometheus.Gatherers{s}.Gather() // which checks and sorts
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withoutFree(textOf(t, want)), withoutFree(textOf(t, got))); diff != "" {
		t.Errorf("what is gathered (-checked and sorted +got):\n%s", diff)
	}
	problems, err := promlint.NewWithMetricFamilies(got).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	return got
}

// withoutFree leaves out what changes at any moment.
func withoutFree(text string) string {
	return regexp.MustCompile(`(?m)^promagg_filesystem_free_.*$`).ReplaceAllString(text, "")
}

func textOf(t *testing.T, families []*dto.MetricFamily) string {
	t.Helper()
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestSelfMetricsOfSeveral: of several directories each has its own series, and what is
// promagg's is there once.
func TestSelfMetricsOfSeveral(t *testing.T) {
	var dirs []*multiproc.Dir
	for _, name := range []string{"web", "jobs"} {
		d := multiproc.Open(multiproc.Options{Path: t.TempDir(), Name: name})
		defer d.Close()
		dirs = append(dirs, d)
	}
	seen := &seen{procs.View{Begun: time.Now(), Workers: []procs.Worker{{ID: "1", PID: 1, State: mmapfile.Alive, Start: 1, CPU: 1}}}}
	p := &procMetrics{mode: newWorkersChoice(workersEach), workers: []looker{seen, seen}}
	got := textOf(t, lawful(t, newSelf(multiproc.NewGroup(dirs...), "app", newWebMetrics(limit.NewListener(nil, 0)), p)))
	for series, times := range map[string]int{
		`promagg_entries{app="web"} 0`:                          1,
		`promagg_entries{app="jobs"} 0`:                         1,
		`promagg_archives{app="web"} 0`:                         1,
		`promagg_workers{app="jobs",state="alive"} 0`:           1,
		`promagg_worker_cpu_seconds_total{app="web",pid="1"} 1`: 1,
		`promagg_merge_duration_seconds_count{app="jobs"} 0`:    1,
		`promagg_http_requests_refused_total{reason="busy"} 0`:  1,
		"# TYPE promagg_entries gauge":                          1,
		"promagg_build_info":                                    3, // HELP, TYPE and it
		`promagg_filesystem_size_bytes{app="web"}`:              1,
	} {
		if n := strings.Count(got, series); n != times {
			t.Errorf("%s is there %d times, want %d", series, n, times)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// TestConflictsOfSeveral: a family that is left out because another directory has its
// name counts as one on which writers disagree, in its own directory.
func TestConflictsOfSeveral(t *testing.T) {
	var dirs []*multiproc.Dir
	for name, file := range map[string][2]string{"web": {"histogram_1.db", "foo_sum"}, "jobs": {"counter_1.db", "foo"}} {
		d := multiproc.Open(multiproc.Options{Path: t.TempDir(), Name: name})
		defer d.Close()
		w, err := mmapfile.Create(filepath.Join(d.Path(), file[0]), mmapfile.ValueTimestamp, 0)
		if err == nil {
			defer w.Close()
			_, err = w.Append(fmt.Appendf(nil, `["foo", %q, {}, "Foo."]`, file[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, d)
	}
	group := multiproc.NewGroup(dirs...)
	s := newSelf(group, "app", nil, nil)
	if got := textOf(t, lawful(t, s)); strings.Contains(got, `promagg_conflicting_families{app="jobs",kind="name"} 1`) {
		t.Errorf("before a look:\n%s", got)
	}
	if _, err := group.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := textOf(t, lawful(t, s))
	for app, n := range map[string]int{"jobs": 1, "web": 0} {
		if series := fmt.Sprintf(`promagg_conflicting_families{app=%q,kind="name"} %d`, app, n); !strings.Contains(got, series) {
			t.Errorf("no %s in:\n%s", series, got)
		}
	}
}
