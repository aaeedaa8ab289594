package testpeer

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// WaitFor returns once cond returns nil. It fails the test, with what cond said
// last, if that takes longer than timeout.
func WaitFor(t testing.TB, what string, timeout time.Duration, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", timeout, what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Seed is the seed of a random test: PROMAGG_TEST_SEED if set, else one from the
// clock. It is logged either way.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1e9 // short enough to retype
	if s := os.Getenv("PROMAGG_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("PROMAGG_TEST_SEED: %v", err)
		}
	}
	t.Logf("seed=%d (PROMAGG_TEST_SEED=%d repeats this run)", seed, seed)
	return seed
}

// Rand is a random source from Seed.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 0))
}
