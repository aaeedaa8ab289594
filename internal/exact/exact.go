// Package exact adds doubles so that the order makes no difference: a sum is kept as
// the double that is nearest to it and another one for what that lacks. To a reader
// of counters a sum that fell by its last digit, because files were added up in
// another order, would be a reset.
package exact

import "math"

// Add returns the double nearest to a+v, and what that lacks: together they are the
// sum to the last bit. Where the sum is infinite or not a number, so is what it
// lacks, or nothing. See Knuth, The Art of Computer Programming, vol. 2, 4.2.2,
// theorem B.
func Add(a, v float64) (sum, lost float64) {
	sum = a + v
	b := sum - a
	return sum, (a - (sum - b)) + (v - b)
}

// Round returns the double nearest to a sum, of which rest has been lost on the way.
func Round(sum, rest float64) float64 {
	if rest == 0 || math.IsInf(sum, 0) || math.IsNaN(sum) {
		return sum // NaNs remain what they are, bit for bit
	}
	return sum + rest
}

// RoundUp returns the least double that is not below a sum, of which rest has been lost
// on the way. Who adds it to others gets no less than who added all there was in it.
func RoundUp(sum, rest float64) float64 {
	near := Round(sum, rest)
	if rest == 0 || math.IsInf(near, 0) || math.IsNaN(near) {
		return near
	}
	if (sum-near)+rest > 0 {
		return math.Nextafter(near, math.Inf(1))
	}
	return near
}
