package duration

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 10 * time.Second, 10*time.Second + 1} {
		h.Observe(took)
	}
	want := Histogram{Sum: 20*time.Second + 2*time.Millisecond + 2}
	want.Counts[0], want.Counts[1], want.Counts[len(bounds)-1], want.Counts[len(bounds)] = 2, 1, 1, 1
	if h != want {
		t.Errorf("got %v, want %v", h, want)
	}
	for i, b := range Bounds()[1:] {
		if b <= bounds[i] {
			t.Errorf("bound %v comes after %v", b, bounds[i])
		}
	}
	if n := testing.AllocsPerRun(10, func() { h.Observe(time.Second) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
