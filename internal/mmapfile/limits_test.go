package mmapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestLongKey: a key that is far longer than any should be is reported like the
// others, so that it can be left out, and costs those behind it nothing.
func TestLongKey(t *testing.T) {
	for _, l := range []Layout{ValueOnly, ValueTimestamp} {
		im := NewImage(l)
		long := fmt.Appendf(nil, `["l", "l_total", {"l": "%s"}]`, bytes.Repeat([]byte("x"), 1<<20))
		keys := [][]byte{[]byte(`["a", "a_total", {}]`), long, []byte(`["b", "b_total", {}]`)}
		var at int
		for i, key := range keys {
			if i == 1 {
				at = len(im.Bytes())
			}
			im.Append(key, float64(i), 0)
		}
		data := bytes.Clone(im.Bytes())
		var w Walker
		got, err := walkAll(&w, data)
		if err != nil || len(got) != 3 || w.Layout() != l {
			t.Fatalf("%v: %d entries, layout %v, %v", l, len(got), w.Layout(), err)
		}
		for i, f := range got {
			if f.key != string(keys[i]) || f.value != float64(i) {
				t.Errorf("%v: entry %d is %.50q, %v", l, i, f.key, f.value)
			}
		}
		// What does not look like a key at its end is no entry, and what stands
		// behind it is not believed.
		end := at + lengthSize + len(long)
		for name, damage := range map[string]func(b []byte){
			"end of the key":    func(b []byte) { b[end-1] = 'x' },
			"padding":           func(b []byte) { b[end] = 0 },
			"length":            func(b []byte) { b[at+2]++ },
			"length, past used": func(b []byte) { b[at+3] = 0x7f },
		} {
			damaged := bytes.Clone(data)
			damage(damaged)
			var w Walker
			got, err := walkAll(&w, damaged)
			if len(got) != 1 || got[0].key != string(keys[0]) || !errors.Is(err, ErrEntry) {
				t.Errorf("%v, %s: %d entries, %v", l, name, len(got), err)
			}
		}
	}
}

// sparse makes a file of that size that says it is full, of which only the first
// entries are there.
func sparse(t *testing.T, path string, first []byte, size int64) {
	t.Helper()
	first = bytes.Clone(first)
	binary.LittleEndian.PutUint32(first, uint32(size)&^7)
	if err := os.WriteFile(path, first, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestOpenUpTo: of a file that is larger than the limit everything before that is
// read, mapped or not, and the rest is an error that says so.
func TestOpenUpTo(t *testing.T) {
	const entries, limit = 1000, 20_000
	path := filepath.Join(t.TempDir(), "counter_1.db")
	im := NewImage(ValueTimestamp)
	before := 0
	for i := range entries {
		im.Append(fmt.Appendf(nil, `["c", "c_total", {"i": "%d"}]`, i), float64(i), 0)
		if len(im.Bytes()) <= limit {
			before++
		}
	}
	if before == 0 || before == entries {
		t.Fatalf("%d entries before the limit", before)
	}
	if err := os.WriteFile(path, im.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, budget := range map[string]*Budget{"mapped": NewBudget(10, 10), "read": NewBudget(0, 0)} {
		t.Run(name, func(t *testing.T) {
			f, err := budget.OpenUpTo(path, limit)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			n := 0
			for range 3 { // and it remains so
				if err := f.Walk(func(Entry) error { n++; return nil }); !errors.Is(err, ErrSize) || errors.Is(err, ErrUsed) {
					t.Errorf("walk: %v, want ErrSize", err)
				}
				if err := f.Resize(); err != nil {
					t.Error(err)
				}
				if err := f.Verify(); err != nil {
					t.Error(err)
				}
			}
			if n != before || f.Layout() != ValueTimestamp {
				t.Errorf("%d entries, want %d; layout %v", n, before, f.Layout())
			}
			if len(f.Bytes()) > limit {
				t.Errorf("%d bytes are mapped", len(f.Bytes()))
			}
			if f.Mapped() != (name == "mapped") {
				t.Errorf("mapped: %v", f.Mapped())
			}
			if !f.Mapped() {
				var scratch []byte
				content, err := f.ReadWalked(&scratch)
				if err != nil || int64(len(content)) != f.Walked() || !bytes.Equal(content, im.Bytes()[:len(content)]) {
					t.Errorf("%d bytes are read of the %d that were walked, %v", len(content), f.Walked(), err)
				}
			}
			// Without the limit all is there.
			whole, err := budget.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer whole.Close()
			n = 0
			if err := whole.Walk(func(Entry) error { n++; return nil }); err != nil || n != entries {
				t.Errorf("without the limit: %d entries, %v", n, err)
			}
		})
	}
}

// TestLargeUnmapped: where mappings are scarce, a file that claims to be large is not
// read into memory for that, and one that is gets a mapping all the same.
func TestLargeUnmapped(t *testing.T) {
	dir := t.TempDir()
	claims, is := filepath.Join(dir, "counter_1.db"), filepath.Join(dir, "counter_2.db")
	sparse(t, claims, goldenValueTimestamp, 1<<31-1)
	im := NewImage(ValueOnly)
	key := fmt.Appendf(nil, `["c", "c_total", {"l": "%s"}]`, bytes.Repeat([]byte("x"), 60_000))
	for len(im.Bytes()) <= maxScratch {
		im.Append(key, 1, 0)
	}
	if err := os.WriteFile(is, im.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	budget := NewBudget(10, 0)
	walk := func(path string, entries int, want error) *File {
		t.Helper()
		f, err := budget.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := 0
		for range 3 {
			if err := f.Walk(func(Entry) error { n++; return nil }); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
		}
		runtime.ReadMemStats(&after)
		if n != entries {
			t.Errorf("%s: %d entries, want %d", path, n, entries)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes are allocated", path, n)
		}
		return f
	}
	f := walk(claims, 2, ErrEntry)
	if f.Mapped() || budget.Mapped() != 0 {
		t.Errorf("mapped: %v, %d in all", f.Mapped(), budget.Mapped())
	}
	var scratch []byte
	if content, err := f.ReadWalked(&scratch); err != nil || len(content) != len(goldenValueTimestamp) || cap(scratch) > 4096 {
		t.Errorf("%d bytes are read, with room for %d, %v", len(content), cap(scratch), err)
	}
	f.Close()
	f = walk(is, (len(im.Bytes())-headerSize)/(int(paddedKey(int64(len(key))))+valueSize), nil)
	if err := f.Resize(); err != nil || !f.Mapped() || budget.Mapped() != 1 {
		t.Errorf("mapped: %v, %d in all, %v", f.Mapped(), budget.Mapped(), err)
	}
	f.Close()
	if n := budget.Mapped(); n != 0 {
		t.Errorf("%d are mapped in the end", n)
	}
}
