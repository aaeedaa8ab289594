package mmapfile

import (
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestSpaceOf: what stat(1) says of the filesystem. Its size does not change meanwhile.
func TestSpaceOf(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("stat", "--file-system", "--format=%S %b %c", dir).Output()
	if err != nil {
		t.Skipf("no GNU stat: %v", err)
	}
	var want [3]uint64
	for i, f := range strings.Fields(string(out)) {
		if want[i], err = strconv.ParseUint(f, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	got, err := SpaceOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Size != want[0]*want[1] || got.Files != want[2] {
		t.Errorf("got %+v, stat says %d blocks of %d bytes, %d files", got, want[1], want[0], want[2])
	}
	if got.Free > got.Size || got.FreeFiles > got.Files {
		t.Errorf("more is free than there is: %+v", got)
	}
	if _, err := SpaceOf(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a directory that is not there: %v, want fs.ErrNotExist", err)
	}
}
