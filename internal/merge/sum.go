package merge

import "github.com/promagg/promagg/internal/exact"

// plus adds a value to a cell. acc has the double that is nearest to the sum, rest
// what that lacks: files come and go, freeze, change cores and are folded, and with
// that the order in which values are added.
func (w *pass) plus(cell uint32, v float64) {
	sum, lost := exact.Add(w.acc[cell], v)
	w.acc[cell] = sum
	if lost != 0 {
		w.keep(cell, lost)
	}
}

// keep keeps what a sum has lost. Most sums are of whole numbers and lose nothing, so
// there is room for it only once one does.
//
//go:noinline
func (w *pass) keep(cell uint32, lost float64) {
	if w.rest == nil {
		w.rest = make([]float64, len(w.acc))
	}
	w.rest[cell] += lost
}

// total returns a cell's value.
func (x *Index) total(cell uint32) float64 {
	if x.rest == nil {
		return x.acc[cell]
	}
	return exact.Round(x.acc[cell], x.rest[cell])
}
