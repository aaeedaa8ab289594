package mmapfile

import (
	"math"
	"strconv"
	"strings"
)

// FormatBound returns a bucket's upper bound as OpenMetrics and the Python client
// write it: a number with a point or an exponent, or +Inf.
func FormatBound(bound float64) string {
	if math.IsInf(bound, 1) {
		return "+Inf"
	}
	s := strconv.FormatFloat(bound, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eI") {
		s += ".0"
	}
	return s
}
