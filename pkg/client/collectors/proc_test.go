package collectors

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestParseStat(t *testing.T) {
	const behind = " S 1 1 1 0 -1 4194304 98 0 0 0 250 50 0 0 20 0 1 0 12345 3133440 379 18446744073709551615\n"
	want := stat{cpu: 3, start: 123.45, virtual: 3133440, resident: 379 * 4096}
	for _, name := range []string{"(cat)", "(a b)", "(a) b 1 2)", "()"} {
		if got, err := parseStat([]byte("7 "+name+behind), 4096); err != nil || got != want {
			t.Errorf("%s: want %v, got %v, %v", name, want, got, err)
		}
	}
	for _, text := range []string{"", "7 cat S 1", "7 (cat) S 1 2", "7 (cat) S 1 1 1 0 -1 4194304 98 0 0 0 x 50 0 0 20 0 1 0 1 2 3"} {
		if got, err := parseStat([]byte(text), 4096); err == nil {
			t.Errorf("%q: want an error, got %v", text, got)
		}
	}
}

func TestParseMaxFDs(t *testing.T) {
	const head = "Limit                     Soft Limit           Hard Limit           Units     \n"
	for text, want := range map[string]float64{
		head + "Max open files            1024                 524288               files     \n":      1024,
		head + "Max open files            unlimited            unlimited            files     \nMax x": math.MaxUint64,
	} {
		if got, err := parseMaxFDs([]byte(text)); err != nil || got != want {
			t.Errorf("want %v, got %v, %v of:\n%s", want, got, err, text)
		}
	}
	for _, text := range []string{"", head, head + "Max open files\n", head + "Max open files many more files\n"} {
		if got, err := parseMaxFDs([]byte(text)); err == nil {
			t.Errorf("want an error, got %v of:\n%s", got, text)
		}
	}
}

func TestParseBootTime(t *testing.T) {
	if got, err := parseBootTime([]byte("cpu 1 2 3\nbtime 1795361375\nprocesses 1\n")); err != nil || got != 1795361375 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseBootTime([]byte("cpu 1 2 3\n")); err == nil {
		t.Errorf("want an error, got %v", got)
	}
}

// TestCountEntries: kernels before 6.2 want the descriptors counted.
func TestCountEntries(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"0", "1", "2", "3"} { // the last stands for that of the listing
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := countEntries(dir); err != nil || n != 3 {
		t.Errorf("want 3, got %d, %v", n, err)
	}
	if n, err := countEntries(filepath.Join(dir, "none")); err == nil {
		t.Errorf("want an error, got %d", n)
	}
}

// TestCPUTimeStays: a time that can't be read is the last one known, and none
// before it is known.
func TestCPUTimeStays(t *testing.T) {
	var c processCollector
	for _, step := range []struct {
		cpu   float64
		ok    bool
		want  float64
		known bool
	}{{0, false, 0, false}, {3, true, 3, true}, {0, false, 3, true}, {4, true, 4, true}} {
		if got, known := c.cpuTime(stat{cpu: step.cpu}, step.ok); got != step.want || known != step.known {
			t.Errorf("%v: got %v, %v", step, got, known)
		}
	}
}
