package mmapfile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/fixture"
)

// Both layouts byte by byte, as the format's description has them: used and
// padding; then of each entry the key's length, the key, 1 to 8 spaces, the
// value and, in the second, the timestamp.
var (
	goldenValueOnly = unhex(`
		48000000 00000000
		0f000000 5b2261222c2261222c5b5d2c5b5d5d     2020202020        000000000000f03f
		13000000 5b2262222c202262222c207b7d2c202268225d 20             00000000000004c0`)
	goldenValueTimestamp = unhex(`
		58000000 00000000
		12000000 5b2261222c202261222c207b7d2c2022225d 2020             000000000000f03f 0000000000000000
		0c000000 5b2262222c2262222c7b7d5d             2020202020202020 0000000000000040 000000c0b4c0da41`)
	goldenEntries = map[Layout][]found{
		ValueOnly:      {{`["a","a",[],[]]`, 1, 0}, {`["b", "b", {}, "h"]`, -2.5, 0}},
		ValueTimestamp: {{`["a", "a", {}, ""]`, 1, 0}, {`["b","b",{}]`, 2, 1795347200}},
	}
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// found is an entry with its values, as the tests compare it.
type found struct {
	key              string
	value, timestamp float64
}

// walkAll walks data to its end or first damage.
func walkAll(w *Walker, data []byte) (entries []found, err error) {
	err = w.Walk(data, func(e Entry) error {
		f := found{key: string(e.Key)}
		f.value = math.Float64frombits(binary.LittleEndian.Uint64(data[e.Value:]))
		if w.Layout() == ValueTimestamp {
			f.timestamp = math.Float64frombits(binary.LittleEndian.Uint64(data[e.Value+8:]))
		}
		entries = append(entries, f)
		return nil
	})
	return entries, err
}

func golden(l Layout) []byte {
	if l == ValueOnly {
		return bytes.Clone(goldenValueOnly)
	}
	return bytes.Clone(goldenValueTimestamp)
}

func TestWalkGolden(t *testing.T) {
	for l, want := range goldenEntries {
		t.Run(l.String(), func(t *testing.T) {
			data := append(golden(l), make([]byte, 4096)...) // files are longer than used
			var w Walker
			got, err := walkAll(&w, data)
			if err != nil || w.Layout() != l || !equalFound(got, want) || w.Pos() != int64(len(golden(l))) {
				t.Errorf("layout %v, entries %v, pos %d, err %v", w.Layout(), got, w.Pos(), err)
			}
			if again, err := walkAll(&w, data); err != nil || again != nil {
				t.Errorf("a second walk gives %v, %v", again, err)
			}
		})
	}
}

func equalFound(a, b []found) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].key != b[i].key || math.Float64bits(a[i].value) != math.Float64bits(b[i].value) || a[i].timestamp != b[i].timestamp {
			return false
		}
	}
	return true
}

// TestWalkIncremental raises used entry by entry: each walk sees what is new.
func TestWalkIncremental(t *testing.T) {
	for l, want := range goldenEntries {
		data := golden(l)
		ends := []uint32{uint32(headerSize), uint32(headerSize + paddedKey(int64(len(want[0].key))) + l.size()), uint32(len(data))}
		var w Walker
		for i, end := range ends {
			binary.LittleEndian.PutUint32(data, end)
			got, err := walkAll(&w, data)
			if err != nil || i == 0 && got != nil || i > 0 && !equalFound(got, want[i-1:i]) {
				t.Errorf("%v, used %d: %v, %v", l, end, got, err)
			}
			binary.LittleEndian.PutUint32(data, 0) // old Python clients store a zero before the new count
			if got, err := walkAll(&w, data); err != nil || got != nil {
				t.Errorf("%v, used 0: %v, %v", l, got, err)
			}
		}
	}
}

// TestCorruption damages a good file in one way each. What stands before the
// damage must be found all the same.
func TestCorruption(t *testing.T) {
	second := func(l Layout) int { // where the second entry begins
		return int(headerSize + paddedKey(int64(len(goldenEntries[l][0].key))) + l.size())
	}
	put := func(at func(Layout) int, v uint32) func(Layout, []byte) []byte {
		return func(l Layout, b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at(l):], v)
			return b
		}
	}
	used := func(Layout) int { return 0 }
	keyAt := func(text string) func(Layout, []byte) []byte {
		return func(l Layout, b []byte) []byte {
			copy(b[second(l)+lengthSize:], text)
			return b
		}
	}
	for _, c := range []struct {
		name    string
		damage  func(Layout, []byte) []byte
		entries int
		want    error
	}{
		{"short header", func(_ Layout, b []byte) []byte { return b[:7] }, 0, ErrHeader},
		{"empty file", func(_ Layout, b []byte) []byte { return nil }, 0, nil},
		{"zero file", func(_ Layout, b []byte) []byte { return make([]byte, 4096) }, 0, nil},
		{"used past the end", put(used, 1<<30), 2, ErrUsed},
		{"used negative", put(used, 1<<31+8), 0, ErrUsed},
		{"used below the header", put(used, 4), 0, ErrUsed},
		{"used off the grid", put(used, 33), 0, ErrUsed},
		{"used in the middle of an entry", func(l Layout, b []byte) []byte {
			binary.LittleEndian.PutUint32(b, uint32(second(l)+16))
			return b
		}, 1, ErrEntry},
		{"length zero", put(second, 0), 1, ErrEntry},
		{"length negative", put(second, 0xffffffff), 1, ErrEntry},
		{"length huge", put(second, 0x7fffffff), 1, ErrEntry},
		{"length a little too long", put(second, 40), 1, ErrEntry},
		{"entry cut off by the end of the file", func(l Layout, b []byte) []byte { return b[:second(l)+20] }, 1, ErrUsed},
		{"length cut off by the end of the file", func(l Layout, b []byte) []byte { return b[:second(l)+2] }, 1, ErrUsed},
		{"key no list", keyAt("{"), 1, ErrEntry}, // with one entry left, both layouts are possible
		{"bad UTF-8", keyAt("[\"\xff"), 1, ErrKey},
		{"bad JSON", keyAt("[\"b,"), 1, ErrKey},
		{"wrong arity", keyAt(`["b\ubb","`), 1, ErrKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, l := range []Layout{ValueOnly, ValueTimestamp} {
				data := c.damage(l, golden(l))
				var w Walker
				var got []found
				err := w.Walk(data, func(e Entry) error {
					if _, err := ParseKey(e.Key); err != nil {
						return err
					}
					got = append(got, found{key: string(e.Key), value: math.Float64frombits(binary.LittleEndian.Uint64(data[e.Value:]))})
					return nil
				})
				if !errors.Is(err, c.want) {
					t.Errorf("%v: error %v, want %v", l, err, c.want)
				}
				if len(got) != c.entries {
					t.Errorf("%v: %d entries, want %d (%v)", l, len(got), c.entries, err)
				}
				for i, f := range got {
					if want := goldenEntries[l][i]; f.key != want.key || f.value != want.value {
						t.Errorf("%v: entry %d is %v, want %v", l, i, f, want)
					}
				}
				// Asked again, it says the same and finds nothing twice.
				if again, err := walkAll(&w, data); len(again) > 0 && c.want != ErrKey || c.want != nil && c.want != ErrKey && !errors.Is(err, c.want) {
					t.Errorf("%v: the second walk gives %v, %v", l, again, err)
				}
			}
		})
	}
}

// TestCorruptionRepaired: damage that was an entry caught half way is read once
// it is whole.
func TestCorruptionRepaired(t *testing.T) {
	for l, want := range goldenEntries {
		whole := golden(l)
		torn := golden(l)
		clear(torn[headerSize+paddedKey(int64(len(want[0].key)))+l.size():])
		var w Walker
		got, err := walkAll(&w, torn)
		if err == nil || !equalFound(got[:1], want[:1]) {
			t.Errorf("%v, torn: %v, %v", l, got, err)
		}
		if got, err = walkAll(&w, whole); err != nil || !equalFound(got, want[1:]) || w.Layout() != l {
			t.Errorf("%v, whole: %v, %v", l, got, err)
		}
	}
}

func TestWalkReset(t *testing.T) {
	data := golden(ValueOnly)
	var w Walker
	if _, err := walkAll(&w, data); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(data, headerSize)
	if _, err := walkAll(&w, data); !errors.Is(err, ErrReset) {
		t.Errorf("used fell: %v, want ErrReset", err)
	}
	if _, err := walkAll(&w, nil); !errors.Is(err, ErrHeader) && !errors.Is(err, ErrUsed) {
		t.Errorf("file emptied: %v", err)
	}
}

// TestWalkFixtures walks all files of all fixtures, whole and in two parts.
func TestWalkFixtures(t *testing.T) {
	for _, name := range fixture.Names() {
		want := ValueOnly
		if name == "py-0.20.0" || name == "py-0.25.0" {
			want = ValueTimestamp
		}
		for base, data := range fixture.ValueFiles(t, name) {
			var w Walker
			all, err := walkAll(&w, data)
			if err != nil || len(all) == 0 || w.Layout() != want {
				t.Fatalf("%s/%s: layout %v, %d entries, %v", name, base, w.Layout(), len(all), err)
			}
		}
	}
}

// cut returns the first n entries of a file as a file of its own. The fuzzer is
// slow on large inputs and learns nothing from more of the same.
func cut(data []byte, n int) []byte {
	var w, layout Walker
	_, _ = walkAll(&layout, data)
	used := usedOf(data)
	_ = w.Walk(data, func(e Entry) error {
		if n--; n == 0 {
			used = int64(e.Value) + layout.Layout().size()
		}
		return nil
	})
	small := bytes.Clone(data[:used])
	binary.LittleEndian.PutUint32(small, uint32(used))
	return small
}

func FuzzWalk(f *testing.F) {
	for _, name := range fixture.Names() {
		for _, data := range fixture.ValueFiles(f, name) {
			f.Add(cut(data, 8), uint32(128))
		}
	}
	f.Add(goldenValueOnly, uint32(48))
	f.Add(goldenValueTimestamp, uint32(56))
	f.Fuzz(func(t *testing.T, data []byte, early uint32) {
		check := func(w *Walker, data []byte) ([]Entry, error) {
			var entries []Entry
			last := w.Pos()
			err := w.Walk(data, func(e Entry) error {
				start := int64(e.Value) - paddedKey(int64(len(e.Key)))
				if start < headerSize || start < last || e.Value%8 != 0 || int64(e.Value)+valueSize > min(usedOf(data), int64(len(data))) {
					t.Fatalf("entry with key %q at %d, after %d, used %d, file %d", e.Key, e.Value, last, usedOf(data), len(data))
				}
				last = int64(e.Value) + valueSize
				entries = append(entries, e)
				return nil
			})
			if w.Pos() > max(usedOf(data), headerSize) {
				t.Fatalf("pos %d is past used, %d", w.Pos(), usedOf(data))
			}
			return entries, err
		}
		var whole Walker
		all, err := check(&whole, data)
		if err == nil && usedOf(data) > headerSize && whole.Pos() != usedOf(data) {
			t.Fatalf("no error, and the walk ended at %d of %d", whole.Pos(), usedOf(data))
		}
		if again, err2 := check(&whole, data); len(again) > 0 || err == nil && err2 != nil {
			t.Fatalf("a second walk finds %d entries, %v", len(again), err2)
		}
		if len(data) < headerSize || err != nil {
			return
		}
		// What is found in two steps is what is found in one, if the first step
		// ended between two entries.
		part := bytes.Clone(data)
		binary.LittleEndian.PutUint32(part, early)
		var steps Walker
		first, err := check(&steps, part)
		if err != nil || steps.Layout() != UnknownLayout && steps.Layout() != whole.Layout() {
			return
		}
		second, err := check(&steps, data)
		if err == nil && len(first)+len(second) != len(all) {
			t.Fatalf("%d and %d entries in two steps, %d in one", len(first), len(second), len(all))
		}
	})
}
