package client

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestBuckets: bounds that client_golang computes too, to the last bit.
func TestBuckets(t *testing.T) {
	for name, tt := range map[string]struct{ got, golang, want []float64 }{
		"linear":                {LinearBuckets(-15, 5, 6), prometheus.LinearBuckets(-15, 5, 6), []float64{-15, -10, -5, 0, 5, 10}},
		"linear, rounded":       {LinearBuckets(0.1, 0.1, 30), prometheus.LinearBuckets(0.1, 0.1, 30), nil},
		"linear, one":           {LinearBuckets(3, 0, 1), prometheus.LinearBuckets(3, 0, 1), []float64{3}},
		"exponential":           {ExponentialBuckets(100, 1.5, 3), prometheus.ExponentialBuckets(100, 1.5, 3), []float64{100, 150, 225}},
		"exponential, rounded":  {ExponentialBuckets(0.001, 1.1, 50), prometheus.ExponentialBuckets(0.001, 1.1, 50), nil},
		"exponential, one":      {ExponentialBuckets(2, 2, 1), prometheus.ExponentialBuckets(2, 2, 1), []float64{2}},
		"range":                 {ExponentialBucketsRange(1, 100, 10), prometheus.ExponentialBucketsRange(1, 100, 10), nil},
		"range, three":          {ExponentialBucketsRange(1, 4, 3), prometheus.ExponentialBucketsRange(1, 4, 3), []float64{1, 2, 4}},
		"range, one":            {ExponentialBucketsRange(2, 8, 1), prometheus.ExponentialBucketsRange(2, 8, 1), []float64{2}},
		"range, one and a peak": {ExponentialBucketsRange(2, 2, 1), prometheus.ExponentialBucketsRange(2, 2, 1), []float64{2}},
	} {
		if !slices.Equal(tt.got, tt.golang) || tt.want != nil && !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: want %v, client_golang has %v, got %v", name, tt.want, tt.golang, tt.got)
		}
	}
	NewHistogram(HistogramOpts{Name: "h", Help: "H.", Buckets: ExponentialBucketsRange(0.001, 60, 20)})
}

// TestBucketsPanic: what client_golang refuses, with what was wanted and got.
func TestBucketsPanic(t *testing.T) {
	for want, f := range map[string]func(){
		"LinearBuckets: want a positive count, got 0":                  func() { LinearBuckets(1, 1, 0) },
		"ExponentialBuckets: want a positive count, got -1":            func() { ExponentialBuckets(1, 2, -1) },
		"ExponentialBuckets: want a positive start, got 0":             func() { ExponentialBuckets(0, 2, 1) },
		"ExponentialBuckets: want a factor greater than 1, got 1":      func() { ExponentialBuckets(1, 1, 1) },
		"ExponentialBucketsRange: want a positive count, got 0":        func() { ExponentialBucketsRange(1, 2, 0) },
		"ExponentialBucketsRange: want a positive minBucket, got -0.5": func() { ExponentialBucketsRange(-0.5, 2, 3) },
		"ExponentialBuckets: want a positive start, got NaN":           func() { ExponentialBuckets(math.NaN(), 2, 1) },
	} {
		if got := panicked(f); !strings.Contains(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

// panicked returns what f panics with, "<nil>" if it does not.
func panicked(f func()) (with string) {
	defer func() { with = fmt.Sprint(recover()) }()
	f()
	return
}
