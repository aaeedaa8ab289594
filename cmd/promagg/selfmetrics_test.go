package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/multiproc"
)

// TestSelfMetrics: promagg's own metrics are what a registry would let pass and
// would have made of them, and named as metrics should be.
func TestSelfMetrics(t *testing.T) {
	d := multiproc.Open(multiproc.Options{Path: t.TempDir()})
	defer d.Close()
	if _, err := d.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSelf(d, newWebMetrics(limit.NewListener(nil, 0)), new(procMetrics))
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
	if diff := cmp.Diff(textOf(t, want), textOf(t, got)); diff != "" {
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
