package client

import (
	"fmt"
	"math"
)

// The bounds are computed in the steps in which client_golang computes them: a
// bound is the value of the label le, so it must be the same to the last bit
// where a program has changed from one to the other.

// LinearBuckets returns count bounds for [HistogramOpts].Buckets: start, and each
// further one width above the one before. It panics if count is not positive.
func LinearBuckets(start, width float64, count int) []float64 {
	mustBeSome("LinearBuckets", count)
	bounds := []float64{start}
	for len(bounds) < count {
		bounds = append(bounds, bounds[len(bounds)-1]+width)
	}
	return bounds
}

// ExponentialBuckets returns count bounds for [HistogramOpts].Buckets: start, and
// each further one factor times the one before. It panics if count or start is
// not positive, or factor not greater than 1.
func ExponentialBuckets(start, factor float64, count int) []float64 {
	mustBeSome("ExponentialBuckets", count)
	mustBePositive("ExponentialBuckets", "start", start)
	if !(factor > 1) {
		panic(fmt.Errorf("ExponentialBuckets: want a factor greater than 1, got %v", factor))
	}
	bounds := []float64{start}
	for len(bounds) < count {
		bounds = append(bounds, bounds[len(bounds)-1]*factor)
	}
	return bounds
}

// ExponentialBucketsRange returns count bounds for [HistogramOpts].Buckets from
// minBucket to maxBucket, each the same multiple of the one before. It panics if
// count or minBucket is not positive.
func ExponentialBucketsRange(minBucket, maxBucket float64, count int) []float64 {
	mustBeSome("ExponentialBucketsRange", count)
	mustBePositive("ExponentialBucketsRange", "minBucket", minBucket)
	bounds := []float64{minBucket}
	factor := math.Pow(maxBucket/minBucket, 1/float64(count-1))
	for i := 1; i < count; i++ {
		bounds = append(bounds, minBucket*math.Pow(factor, float64(i)))
	}
	return bounds
}

func mustBeSome(function string, count int) {
	if count < 1 {
		panic(fmt.Errorf("%s: want a positive count, got %d", function, count))
	}
}

func mustBePositive(function, name string, v float64) {
	if !(v > 0) {
		panic(fmt.Errorf("%s: want a positive %s, got %v", function, name, v))
	}
}
