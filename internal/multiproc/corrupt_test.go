package multiproc

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// damaged makes one broken file each, of which so many entries stand before the
// damage and must be served.
var damaged = []struct {
	name   string
	before int
	make   func(t *testing.T, path string, whole []byte) error
}{
	{"short header", 0, func(t *testing.T, path string, whole []byte) error { return os.WriteFile(path, whole[:5], 0o644) }},
	{"used past the end", 2, edit(func(b []byte) { binary.LittleEndian.PutUint32(b, 1<<30) })},
	{"used negative", 0, edit(func(b []byte) { binary.LittleEndian.PutUint32(b, 0xfffffff8) })},
	{"length negative", 1, edit(func(b []byte) { binary.LittleEndian.PutUint32(b[second:], 0xffffff00) })},
	{"length huge", 1, edit(func(b []byte) { binary.LittleEndian.PutUint32(b[second:], 0x7ffffff0) })},
	{"entry cut off by used", 1, edit(func(b []byte) { binary.LittleEndian.PutUint32(b, second+8) })},
	{"entry cut off by the end", 1, func(t *testing.T, path string, whole []byte) error {
		return os.WriteFile(path, whole[:second+12], 0o644)
	}},
	{"bad UTF-8", 1, edit(func(b []byte) { b[second+8] = 0xff })},
	{"bad JSON", 1, edit(func(b []byte) { b[second+9] = '"' })},
	{"wrong arity", 1, edit(func(b []byte) { copy(b[second+4:], `["b",     "b_total"    ]`) })},
	{"random bytes", 0, func(t *testing.T, path string, whole []byte) error {
		b := make([]byte, 4096)
		rnd := testpeer.Rand(t)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		b[0] |= 1 // no multiple of 8, lest all be taken for an empty file
		return os.WriteFile(path, b, 0o644)
	}},
	{"FIFO", 0, func(t *testing.T, path string, whole []byte) error { return syscall.Mkfifo(path, 0o644) }},
	{"directory", 0, func(t *testing.T, path string, whole []byte) error { return os.Mkdir(path, 0o755) }},
	{"symlink", 0, func(t *testing.T, path string, whole []byte) error {
		target := filepath.Join(t.TempDir(), "elsewhere")
		return os.Symlink(target, path)
	}},
	{"symlink to a value file", 0, func(t *testing.T, path string, whole []byte) error {
		target := filepath.Join(t.TempDir(), "counter_9.db")
		if err := os.WriteFile(target, whole, 0o644); err != nil {
			return err
		}
		return os.Symlink(target, path)
	}},
	{"device", 0, func(t *testing.T, path string, whole []byte) error {
		return syscall.Mknod(path, syscall.S_IFCHR|0o644, 1<<8|3)
	}},
}

// second is where the second entry of the whole file begins.
const second = 64

func edit(change func([]byte)) func(*testing.T, string, []byte) error {
	return func(t *testing.T, path string, whole []byte) error {
		change(whole)
		return os.WriteFile(path, whole, 0o644)
	}
}

// whole returns a sound file of two counters, a_total = 3 and b_total = 4.
func whole(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "counter_1.db")
	w, err := mmapfile.Create(path, mmapfile.ValueTimestamp, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i, key := range []string{`["a", "a_total", {}, "Help."]`, `["b", "b_total", {}, "Help."]`} {
		off, err := w.Append([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		w.SetAt(off, float64(3+i), 0)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := 8 + int(binary.LittleEndian.Uint32(b)-8)/2; got != second {
		t.Fatalf("the second entry begins at %d", got)
	}
	return b
}

// TestCorruption: a broken file costs itself alone. It is named in the log once,
// counted, and read again as soon as it is sound.
func TestCorruption(t *testing.T) {
	for _, c := range damaged {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d, log := open(t, dir, mmapfile.ProbeAuto)
			write(t, dir, "counter_1.db", "good_total", 1)
			path := filepath.Join(dir, "counter_2.db")
			if err := c.make(t, path, whole(t)); err != nil {
				t.Fatal(err)
			}
			expect := []any{"good_total", 1}
			expect = append(expect, []any{"a_total", 3, "b_total", 4}[:2*c.before]...)
			for range 3 {
				want(t, "damaged", values(t, d), expect...)
				d.Sync(true)
			}
			if n := log.count("counter_2.db", "level=WARN"); n != 1 {
				t.Errorf("named in the log %d times:\n%s", n, log)
			}
			if n := log.count("counter_1.db"); n != 0 {
				t.Errorf("the sound file is in the log:\n%s", log)
			}
			s := d.Stats()
			if s.Corrupt != 1 || s.Damages != 1 || s.Files != 2 || d.Damaged()["counter_2.db"] == "" {
				t.Errorf("stats %+v, damaged %v", s, d.Damaged())
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, whole(t), 0o644); err != nil {
				t.Fatal(err)
			}
			want(t, "sound again", values(t, d), "good_total", 1, "a_total", 3, "b_total", 4)
			if s := d.Stats(); s.Corrupt != 0 {
				t.Errorf("%d corrupt files after repair", s.Corrupt)
			}
		})
	}
}

// TestCorruptionZeroFile: a file of zeroes is one that nothing was written to yet.
func TestCorruptionZeroFile(t *testing.T) {
	dir := t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeAuto)
	for base, size := range map[string]int{"counter_2.db": 0, "counter_3.db": 4096, "counter_4.db": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, base), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "counter_1.db", "good_total", 1)
	want(t, "with empty files", values(t, d), "good_total", 1)
	if s := d.Stats(); s.Corrupt != 0 || log.count("WARN") != 0 {
		t.Errorf("%d corrupt files, log:\n%s", s.Corrupt, log)
	}
}

// TestCorruptionUnreadable: a file without read permission, seen by a promagg
// that is not root.
func TestCorruptionUnreadable(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		for base, mode := range map[string]os.FileMode{"counter_1.db": 0o644, "counter_2.db": 0} {
			if err := os.WriteFile(filepath.Join(dir, base), whole(t), mode); err != nil {
				t.Fatal(err)
			}
		}
		openToAll(t, dir)
		testpeer.AsNobody(t, dir)
		return
	}
	d, log := open(t, ".", mmapfile.ProbeAuto)
	for range 3 {
		want(t, "unreadable", values(t, d), "a_total", 3, "b_total", 4)
		d.Sync(true)
	}
	if s := d.Stats(); s.Corrupt != 1 || log.count("counter_2.db", "permission denied") != 1 {
		t.Errorf("%d corrupt files, log:\n%s", s.Corrupt, log)
	}
	if n := log.count("can't tell whether writers are alive"); n != 1 {
		t.Errorf("that leases are refused is logged %d times:\n%s", n, log)
	}
}

// TestCorruptionTruncatedWhileMapped cuts a file off under its mapping.
func TestCorruptionTruncatedWhileMapped(t *testing.T) {
	dir := t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeAuto)
	write(t, dir, "counter_1.db", "good_total", 1)
	w, off := write(t, dir, "counter_2.db", "first_total", 2)
	for i := range 300 { // to the next page
		if off, err := w.Append([]byte(`["last", "last_total", {"a": "` + string(rune('a'+i%26)) + `"}, "Help."]`)); err != nil {
			t.Fatal(err)
		} else if i < 26 {
			w.Set(off, float64(i))
		}
	}
	w.Set(off, 2)
	if got := values(t, d); len(got) != 3 {
		t.Fatalf("at first: %v", got)
	}
	for _, size := range []int64{4096, 200, 100, 0} {
		if err := os.Truncate(filepath.Join(dir, "counter_2.db"), size); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			got := values(t, d)
			if got["good_total"] != 1 {
				t.Errorf("cut to %d: %v", size, got)
			}
			if v, ok := got["first_total"]; ok && v != 2 {
				t.Errorf("cut to %d: the first entry is %v", size, v)
			} else if !ok && size > 100 {
				t.Errorf("cut to %d: the first entry is gone", size)
			}
			d.Sync(true)
		}
		if n := d.Stats().Corrupt; n != 1 {
			t.Errorf("cut to %d: %d corrupt files", size, n)
		}
	}
	if n := log.count("counter_1.db"); n != 0 {
		t.Errorf("the sound file is in the log:\n%s", log)
	}
	if n := log.count("counter_2.db"); n == 0 || n > 8 {
		t.Errorf("the damaged file is in the log %d times:\n%s", n, log)
	}
}

// TestCorruptionWrittenAnew: a file that is emptied and filled again, in place,
// by something that is no client. Its new entries are served.
func TestCorruptionWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	path := filepath.Join(dir, "counter_1.db")
	if err := os.WriteFile(path, whole(t), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, "at first", values(t, d), "a_total", 3, "b_total", 4)
	short := whole(t)[:second]
	binary.LittleEndian.PutUint32(short, second)
	binary.LittleEndian.PutUint32(short[second-16:], 0) // value 3 is 0x4008…: clear it
	binary.LittleEndian.PutUint32(short[second-12:], 0)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(short, 0); err != nil {
		t.Fatal(err)
	}
	want(t, "written anew", values(t, d), "a_total", 0)
}

// TestRandomDamage flips random bytes of a live directory between snapshots.
// Nothing may panic, and the sound file's values must be there each time.
func TestRandomDamage(t *testing.T) {
	rnd := testpeer.Rand(t)
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	write(t, dir, "counter_1.db", "good_total", 1)
	for range 300 {
		base := []string{"counter_2.db", "gauge_all_2.db", "histogram_2-0.db", "summary_2.db", "gauge_mostrecent_3.db"}[rnd.IntN(5)]
		path := filepath.Join(dir, base)
		b := whole(t)
		for range rnd.IntN(4) {
			b[rnd.IntN(2*second)] = byte(rnd.Uint32())
		}
		switch rnd.IntN(3) {
		case 0: // in place, under the mapping
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
				_, err = f.WriteAt(b[:rnd.IntN(len(b))], 0)
				f.Close()
				if err != nil {
					t.Fatal(err)
				}
			}
		case 1: // another file under the name
			if err := os.WriteFile(path+"x", b[:rnd.IntN(len(b))], 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+"x", path); err != nil {
				t.Fatal(err)
			}
		case 2: // shorter or longer
			if err := os.Truncate(path, int64(rnd.IntN(8192))); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if got := values(t, d); got["good_total"] != 1 {
			t.Fatalf("the sound file's value is %v", got)
		}
		if rnd.IntN(5) == 0 {
			d.Sync(true)
		}
	}
}

// TestCorruptionSameSize: a file is overwritten in place by another with the same
// used count, or emptied and extended. The next rescan sees that.
func TestCorruptionSameSize(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	path := filepath.Join(dir, "counter_1.db")
	overwrite := func(b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			_, err = f.WriteAt(b, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		d.Sync(true)
	}
	overwrite(whole(t))
	want(t, "at first", values(t, d), "a_total", 3, "b_total", 4)
	overwrite(bytes.ReplaceAll(bytes.ReplaceAll(whole(t), []byte(`"a`), []byte(`"x`)), []byte(`"b`), []byte(`"y`)))
	want(t, "overwritten", values(t, d), "x_total", 3, "y_total", 4)
	for _, size := range []int64{0, 4096} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	d.Sync(true)
	want(t, "emptied", values(t, d))
	overwrite(whole(t))
	want(t, "written again", values(t, d), "a_total", 3, "b_total", 4)
}

// TestCorruptionPermissionComesBack: a file that may be read at last is in the
// next snapshot, though nothing in the directory has changed.
func TestCorruptionPermissionComesBack(t *testing.T) {
	if !testpeer.IsNobody() {
		dir := t.TempDir()
		openToAll(t, dir)
		own := filepath.Join(dir, "own")
		if err := os.Mkdir(own, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(own, 0o777); err != nil {
			t.Fatal(err)
		}
		testpeer.AsNobody(t, dir)
		return
	}
	d, _ := open(t, "own", mmapfile.ProbeOff)
	path := filepath.Join("own", "counter_1.db")
	if err := os.WriteFile(path, whole(t), 0); err != nil {
		t.Fatal(err)
	}
	want(t, "closed", values(t, d))
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "opened", values(t, d), "a_total", 3, "b_total", 4)
}

// TestHugeKey: a sparse file that claims a key of two gigabytes costs nothing.
func TestHugeKey(t *testing.T) {
	dir := t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeAuto)
	write(t, dir, "counter_1.db", "good_total", 1)
	b := append(binary.LittleEndian.AppendUint32(nil, 1<<31-16), make([]byte, 4)...)
	b = append(binary.LittleEndian.AppendUint32(b, 1<<31-64), `["`...)
	path := filepath.Join(dir, "counter_2.db")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<31-1); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	want(t, "with a huge key", values(t, d), "good_total", 1)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 10<<20 || log.count("counter_2.db") != 1 {
		t.Errorf("%d bytes allocated, log:\n%s", n, log)
	}
}
