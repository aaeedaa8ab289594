package mmapfile

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// detectPlainly is detect as one would write it without a thought for speed: both
// layouts are walked to their end.
func detectPlainly(data []byte, used int64) Layout {
	walk := func(l Layout, parse bool) (n int, lands bool) {
		pos := int64(headerSize)
		for pos < used {
			e, next, err := entryAt(data, used, pos, l)
			if err == nil && parse {
				_, err = ParseKey(e.Key)
			}
			if err != nil {
				return n, false
			}
			n++
			pos = next
		}
		return n, n > 0 && pos == used
	}
	n1, lands1 := walk(ValueOnly, false)
	n2, lands2 := walk(ValueTimestamp, false)
	if lands1 && lands2 {
		n1, lands1 = walk(ValueOnly, true)
		n2, lands2 = walk(ValueTimestamp, true)
	}
	switch {
	case lands1 != lands2 && lands1, lands1 == lands2 && n1 > n2:
		return ValueOnly
	case lands1 != lands2 && lands2, lands1 == lands2 && n2 > n1:
		return ValueTimestamp
	}
	return UnknownLayout
}

// TestDetect compares detect with that, on files that are sound, damaged, and made
// so that both layouts go far.
func TestDetect(t *testing.T) {
	rnd := testpeer.Rand(t)
	found := make(map[Layout]int)
	for range 200_000 {
		data := detectable(rnd)
		used := int64(binary.LittleEndian.Uint32(data))
		got, want := detect(data, used), detectPlainly(data, used)
		if got != want {
			t.Fatalf("got %v, want %v:\n%q", got, want, data)
		}
		found[got]++
	}
	if len(found) != 3 {
		t.Errorf("found %v: not all layouts", found)
	}
}

// detectable returns a small file.
func detectable(rnd *rand.Rand) []byte {
	data := make([]byte, headerSize)
	for range rnd.IntN(6) {
		key := []byte(`["f", "f", {}, ""]`)[:1+rnd.IntN(18)]
		at := len(data)
		data = append(data, make([]byte, paddedKey(int64(len(key))))...)
		putKey(data[at:], key)
		// A value, and perhaps a timestamp, that may look like the beginning of an
		// entry.
		for range 1 + rnd.IntN(2) {
			switch rnd.IntN(4) {
			case 0:
				data = binary.LittleEndian.AppendUint64(data, math.Float64bits(rnd.Float64()))
			case 1:
				data = append(data, 1, 0, 0, 0, '[', ' ', ' ', ' ')
			case 2:
				data = append(data, 3, 0, 0, 0, '[', ']', ' ', ' ')
			default:
				data = append(data, make([]byte, 8)...)
			}
		}
	}
	binary.LittleEndian.PutUint32(data, uint32(len(data)))
	if rnd.IntN(4) == 0 {
		data[rnd.IntN(len(data))] ^= byte(1 << rnd.IntN(8))
		binary.LittleEndian.PutUint32(data, uint32(max(headerSize, min(len(data), int(binary.LittleEndian.Uint32(data)))/8*8)))
	}
	return data
}
