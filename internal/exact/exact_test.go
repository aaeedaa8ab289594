package exact

import (
	"math"
	"math/big"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// exactly is the sum of doubles without any rounding.
func exactly(values []float64) *big.Float {
	sum := new(big.Float).SetPrec(4096)
	for _, v := range values {
		sum.Add(sum, new(big.Float).SetFloat64(v))
	}
	return sum
}

// TestAdd: in whatever order, the sum is the double that is nearest to the exact one,
// and the rounded up one is the next that is not below it.
func TestAdd(t *testing.T) {
	rnd := testpeer.Rand(t)
	for range 2000 {
		values := make([]float64, 1+rnd.IntN(300))
		for i := range values {
			values[i] = rnd.Float64() * math.Pow(10, float64(rnd.IntN(8)))
			if rnd.IntN(4) == 0 {
				values[i] = math.Trunc(values[i])
			}
		}
		sum := exactly(values)
		near, _ := sum.Float64()
		up := near
		if new(big.Float).SetFloat64(near).Cmp(sum) < 0 {
			up = math.Nextafter(near, math.Inf(1))
		}
		for range 5 {
			rnd.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
			hi, rest := 0.0, 0.0
			for _, v := range values {
				var lost float64
				hi, lost = Add(hi, v)
				rest += lost
			}
			if got := Round(hi, rest); got != near {
				t.Fatalf("%v: the sum is %v, want %v", values, got, near)
			}
			if got := RoundUp(hi, rest); got != up {
				t.Fatalf("%v: rounded up the sum is %v, want %v", values, got, up)
			}
		}
	}
}

func TestNoNumbers(t *testing.T) {
	inf := math.Inf(1)
	for _, tc := range []struct{ a, v, want float64 }{{1, inf, inf}, {inf, 1, inf}, {1, -inf, -inf}, {math.MaxFloat64, math.MaxFloat64, inf}, {inf, -inf, math.NaN()}, {math.NaN(), 1, math.NaN()}} {
		sum, lost := Add(tc.a, tc.v)
		for _, got := range []float64{Round(sum, lost), RoundUp(sum, lost)} {
			if got != tc.want && !(got != got && tc.want != tc.want) {
				t.Errorf("%v + %v = %v, want %v", tc.a, tc.v, got, tc.want)
			}
		}
	}
}
