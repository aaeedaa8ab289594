package merge

import (
	"maps"
	"slices"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestTable compares the table with a map, under hashes that collide a lot.
func TestTable(t *testing.T) {
	rnd := testpeer.Rand(t)
	for range 200 {
		bits := rnd.IntN(8)
		hash := func(v uint32) uint64 { return uint64(v) * 0x9e3779b97f4a7c15 >> (64 - bits) } // bits 0: all the same
		tab := table[uint32]{hash: hash}
		model := make(map[uint32]bool)
		for range 500 {
			v := uint32(1 + rnd.IntN(200))
			if got := tab.find(hash(v), func(o uint32) bool { return o == v }); (got == v) != model[v] || got != v && got != 0 {
				t.Fatalf("found %d for %d, which is there: %v", got, v, model[v])
			}
			switch n := rnd.IntN(20); {
			case n == 0:
				tab.shrink()
			case model[v]:
				tab.remove(v)
				delete(model, v)
			default:
				tab.add(v)
				model[v] = true
			}
			if tab.used != len(model) {
				t.Fatalf("%d values, want %d", tab.used, len(model))
			}
		}
		if got, want := slices.Sorted(tab.all), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
			t.Fatalf("has %v, want %v", got, want)
		}
	}
}
