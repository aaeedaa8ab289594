package mmapfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/testpeer"
)

func create(t *testing.T, path string, l Layout, size int64) *Writer {
	t.Helper()
	w, err := Create(path, l, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWriterGolden(t *testing.T) {
	for l, entries := range goldenEntries {
		t.Run(l.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "counter_1.db")
			w := create(t, path, l, 100)
			for _, e := range entries {
				off, err := w.Append([]byte(e.key))
				if err != nil {
					t.Fatal(err)
				}
				if l == ValueTimestamp {
					w.SetAt(off, e.value, e.timestamp)
				} else {
					w.Set(off, e.value)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := append(golden(l), make([]byte, len(got)-len(golden(l)))...)
			if !bytes.Equal(got, want) || len(got) != os.Getpagesize() {
				t.Errorf("the file is\n%x\nwant\n%x", got[:128], want[:128])
			}
		})
	}
}

// TestWriterGrows appends beyond several doublings while a reader follows.
func TestWriterGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter_1.db")
	w := create(t, path, ValueTimestamp, 1)
	r, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var offsets []uint32
	var found []Entry
	for i := range 3000 {
		off, err := w.Append(fmt.Appendf(nil, `["f", "f_total", {"i": "%d"}, "h"]`, i))
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, off)
		w.Set(off, float64(i))
		w.Set(offsets[0], float64(i)) // through the mapping of before or after growth
		if i%7 == 0 {
			if err := r.Walk(func(e Entry) error { e.Key = nil; found = append(found, e); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Walk(func(e Entry) error { found = append(found, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(found) != len(offsets) {
		t.Fatalf("%d entries found, %d written", len(found), len(offsets))
	}
	for i, e := range found {
		want := float64(i)
		if i == 0 {
			want = 2999
		}
		if v, ok := r.Bytes().Float64(e.Value); !ok || e.Value != offsets[i] || v != want {
			t.Fatalf("entry %d at %d is %v, want %v at %d", i, e.Value, v, want, offsets[i])
		}
	}
}

// TestWriterContinues takes up files of other clients and of its own.
func TestWriterContinues(t *testing.T) {
	for name, l := range map[string]Layout{"py-0.16.0": ValueOnly, "py-0.25.0": ValueTimestamp} {
		dir := t.TempDir()
		fixture.Unpack(t, name, dir)
		path := filepath.Join(dir, "counter_11.db")
		count := func() int {
			r, err := OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			n := 0
			if err := r.Walk(func(Entry) error { n++; return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := count()
		w := create(t, path, l, 0)
		if _, err := w.Append([]byte(`["new", "new_total", {}, ""]`)); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != before+1 {
			t.Errorf("%s: %d entries, want %d and one more", name, got, before)
		}
		if _, err := Create(path, ValueOnly+ValueTimestamp-l, 0); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: taken up in the other layout: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "counter_1.db")
	if err := os.WriteFile(path, []byte("\x20\x00\x00\x00\x00\x00\x00\x00garbage garbage garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	if _, err := Create(path, ValueOnly, 0); !errors.As(err, &corrupt) {
		t.Errorf("a damaged file was taken up: %v", err)
	}
}

// TestWriterRoundTrip writes random keys and reads them back.
func TestWriterRoundTrip(t *testing.T) {
	rnd := testpeer.Rand(t)
	for _, l := range []Layout{ValueOnly, ValueTimestamp} {
		path := filepath.Join(t.TempDir(), "counter_1.db")
		w := create(t, path, l, 64)
		var keys []string
		for i := range 500 {
			key := fmt.Sprintf(`["f%d", "s", {"l": "%s"}]`, i, bytes.Repeat([]byte("x"), rnd.IntN(40)))
			if _, err := w.Append([]byte(key)); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		r, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		i := 0
		err = r.Walk(func(e Entry) error {
			if string(e.Key) != keys[i] {
				t.Fatalf("key %d is %s, want %s", i, e.Key, keys[i])
			}
			i++
			return nil
		})
		if err != nil || i != len(keys) {
			t.Errorf("%d of %d keys, %v", i, len(keys), err)
		}
	}
}
