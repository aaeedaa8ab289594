package mmapfile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestList: all names, long ones too, each with its inode.
func TestList(t *testing.T) {
	path := t.TempDir()
	want := make(map[string]bool)
	for i := range 3000 { // more than one call of the kernel returns
		name := fmt.Sprint(i, strings.Repeat("x", i%240))
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want[name] = true
	}
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	got := make(map[string]bool)
	err = List(dir, func(name string, ino uint64) error {
		info, err := os.Lstat(filepath.Join(path, name))
		if err == nil && !ID(info).HasInode(ino) {
			t.Errorf("%s: inode %d is another's", name, ino)
		}
		got[name] = true
		return err
	})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%d names, %v; want %d", len(got), err, len(want))
	}
	if _, err := dir.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := List(dir, func(string, uint64) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("an error of the function: %v", err)
	}
	dir.Close()
	if err := List(dir, func(string, uint64) error { return nil }); err == nil {
		t.Error("a closed directory was listed")
	}
}
