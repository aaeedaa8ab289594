package mmapfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// openErr opens path and fails the test if that works.
func openErr(t *testing.T, path string) error {
	t.Helper()
	f, err := OpenFile(path)
	if err == nil {
		f.Close()
		t.Fatalf("%s was opened", path)
	}
	return err
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "counter_1.db")
	if err := os.WriteFile(target, goldenValueOnly, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "counter_2.db")
	for name, makeIt := range map[string]func() error{
		"directory":     func() error { return os.Mkdir(path, 0o755) },
		"FIFO":          func() error { return syscall.Mkfifo(path, 0o644) },
		"symlink":       func() error { return os.Symlink(target, path) },
		"dead symlink":  func() error { return os.Symlink("nowhere", path) },
		"socket":        func() error { return syscall.Mknod(path, syscall.S_IFSOCK|0o644, 0) },
		"looping links": func() error { return os.Symlink(path, path) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := makeIt(); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			err := openErr(t, path)
			var pathErr *fs.PathError
			if name != "socket" && !errors.Is(err, ErrNotRegular) || !errors.As(err, &pathErr) || pathErr.Path != path {
				t.Errorf("error %v, want ErrNotRegular for %s", err, path)
			}
		})
	}
	if err := openErr(t, filepath.Join(dir, "counter_3.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// TestTruncatedWhileMapped: a page that is gone is an error of Guard and of the
// next walk, never a crash, and what is left can be read.
func TestTruncatedWhileMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter_1.db")
	w := create(t, path, ValueOnly, 16<<10)
	var last uint32
	for range 300 {
		off, err := w.Append([]byte(`["f", "f_total", {"l": "v"}, "h"]`))
		if err != nil {
			t.Fatal(err)
		}
		last = off
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	walk := func() error { return f.Walk(func(Entry) error { n++; return nil }) }
	if err := walk(); err != nil || n != 300 {
		t.Fatalf("%d entries, %v", n, err)
	}
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	err = Guard(func() { f.Bytes().Float64(last) })
	if !errors.Is(err, ErrFault) {
		t.Fatalf("reading a page that is gone: %v, want ErrFault", err)
	}
	if text := f.fault(err).Error(); text != err.Error() {
		t.Errorf("a fault is told as %q, want %q", text, err)
	}
	if err := f.Resize(); err != nil {
		t.Fatal(err)
	}
	if len(f.Bytes()) != 4096 {
		t.Errorf("%d bytes mapped, want 4096", len(f.Bytes()))
	}
	if _, ok := f.Bytes().Float64(last); ok {
		t.Error("a value past the end can be read")
	}
	if err := walk(); !errors.Is(err, ErrUsed) || n != 300 {
		t.Errorf("walk of what is left: %v, %d entries", err, n)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := walk(); err == nil {
		t.Error("walk of an emptied file: no error")
	}
}

// TestGuardInRuntime: a fault inside the runtime, where it hashes or copies what
// is mapped, is caught as well.
func TestGuardInRuntime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter_1.db")
	if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	known := map[string]int{strings.Repeat("x", 100): 1}
	var copied string
	for name, read := range map[string]func(){
		"map look-up": func() { known["x"] = known[string(f.Bytes()[:100])] },
		"copy":        func() { copied = string(f.Bytes()[:100]) },
		"compare":     func() { copied = fmt.Sprint(bytes.Equal(f.Bytes()[:100], make([]byte, 100))) },
		"search":      func() { copied = fmt.Sprint(bytes.IndexByte(f.Bytes()[:100], 'x')) },
	} {
		if err := Guard(read); !errors.Is(err, ErrFault) {
			t.Errorf("%s: %v, want ErrFault (%q)", name, err, copied)
		}
	}
}

// TestGuardPassesOtherPanics: only faults of mappings are errors.
func TestGuardPassesOtherPanics(t *testing.T) {
	for name, read := range map[string]func(){
		"panic":       func() { panic("bug") },
		"nil pointer": func() { var p *int; _ = *p },
		"index":       func() { var s []int; _ = s[len(os.Args)] },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not go on")
				}
			}()
			_ = Guard(read)
		})
	}
}

func TestBytesFloat64Bounds(t *testing.T) {
	b := Bytes(make([]byte, 16))
	for off, want := range map[uint32]bool{0: true, 8: true, 4: false, 9: false, 16: false, 1<<32 - 8: false} {
		if _, ok := b.Float64(off); ok != want {
			t.Errorf("Float64(%d) of 16 bytes: %v", off, ok)
		}
	}
	if _, ok := Bytes(nil).Float64(0); ok {
		t.Error("Float64(0) of nothing")
	}
}
