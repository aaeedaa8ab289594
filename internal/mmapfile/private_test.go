package mmapfile

import (
	"io"
	"os"
	"strings"
	"testing"
)

func TestPrivate(t *testing.T) {
	long := strings.Repeat("the first content\n", 1000)
	p, err := NewPrivate([]byte(long))
	if err != nil {
		t.Fatal(err)
	}
	path := p.Path()
	read := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%.40q, %v: want %.40q", got, err, want)
		}
	}
	read(long)
	read(long) // from the beginning each time
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := p.Replace([]byte("short")); err != nil {
		t.Fatal(err)
	}
	read("short")
	if p.Path() != path {
		t.Errorf("%s is %s now", path, p.Path())
	}
	if got, err := io.ReadAll(open); err != nil || string(got) != long {
		t.Errorf("who had it open reads %.40q, %v", got, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err == nil && string(got) == "short" {
		t.Error("it is still there")
	}
}
