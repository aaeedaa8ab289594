package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// The archives that a fold leaves are ordinary value files: the clients' own
// collectors read the same from a directory before and after a fold.

// foldDir runs promagg fold, which must leave no dead writer's files but those of gauges
// of mode all.
func foldDir(t *testing.T, dir string) {
	t.Helper()
	output(t, command(testpeer.Promagg(t), "fold", "--dir", dir))
	archives := 0
	for _, path := range valueFiles(t, dir) {
		base := filepath.Base(path)
		switch {
		case strings.HasSuffix(base, "_archived.db"):
			archives++
		case !strings.HasPrefix(base, "gauge_all_"):
			t.Errorf("not folded: %s", base)
		}
	}
	if archives < 3 {
		t.Errorf("%d archives", archives)
	}
}

func valueFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// pythonReads is what a script of testdata, a Python collector, reads from a directory.
func pythonReads(t *testing.T, dir, script string) exposition {
	t.Helper()
	var families []family
	if err := json.Unmarshal([]byte(output(t, python(dir, script, dir))), &families); err != nil {
		t.Fatal(err)
	}
	return expositionOf(t, families)
}

func rubyReads(t *testing.T, dir string) exposition {
	t.Helper()
	e, err := parseExposition(output(t, ruby(dir, "collect.rb", dir)))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// forget deletes the live gauges of the writers that are in a directory, as the clients
// are to be told to when a process has ended.
func forget(t *testing.T, dir string) {
	t.Helper()
	live := 0
	for _, path := range valueFiles(t, dir) {
		if strings.HasPrefix(filepath.Base(path), "gauge_live") {
			live++
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if live == 0 {
		t.Fatal("there are no live gauges")
	}
}

func TestFoldReadByPython(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	foldRead(t, foldReader{
		writer: func(dir, seed string, i int, id string) *exec.Cmd {
			return python(dir, "random_writer.py", seed, fmt.Sprint(i), id)
		},
		reads: func(t *testing.T, dir string) exposition { return pythonReads(t, dir, "collect.py") },
	})
}

func TestFoldReadByRuby(t *testing.T) {
	testpeer.Require(t, testpeer.Ruby)
	foldRead(t, foldReader{
		writer: func(dir, seed string, i int, id string) *exec.Cmd {
			return ruby(dir, "random_writer.rb", seed, fmt.Sprint(i), id)
		},
		reads: rubyReads,
	})
}

type foldReader struct {
	writer func(dir, seed string, i int, id string) *exec.Cmd
	reads  func(t *testing.T, dir string) exposition
}

// foldRead has processes of a client write the same into two directories, of which one
// is folded time and again. The client reads the same from both.
func foldRead(t *testing.T, c foldReader) {
	seed := fmt.Sprint(testpeer.Seed(t))
	folded, plain := t.TempDir(), t.TempDir()
	generation := func(n int) (writers []*worker) {
		for i := range 3 {
			for _, dir := range []string{folded, plain} {
				w := startWorker(t, c.writer(dir, seed, 10*n+i, fmt.Sprintf("g%dw%d", n, i)))
				writers = append(writers, w)
				w.send(t, "go 1500")
			}
		}
		for _, w := range writers {
			w.receive(t)
		}
		return writers
	}
	compare := func(what string) {
		t.Helper()
		want := c.reads(t, plain)
		if len(want.samples) < 300 {
			t.Fatalf("%s: %d samples only", what, len(want.samples))
		}
		got := c.reads(t, folded)
		checkSamples(t, what, got.samples, want.samples)
		if !maps.Equal(got.types, want.types) {
			t.Errorf("%s: types %v, want %v", what, got.types, want.types)
		}
		checkSamples(t, what+", by promagg", merge(t, folded, "--liveness", "off").samples, want.samples)
	}
	for n := range 3 {
		writers := generation(n)
		compare(fmt.Sprintf("generation %d at work beside what has been folded", n))
		for _, w := range writers {
			w.stdin.Close()
			if err := w.Wait(t); err != nil {
				t.Fatal(err)
			}
		}
		forget(t, plain)
		forget(t, folded) // else those of the living would be missing in the comparison only
		compare(fmt.Sprintf("generation %d has ended", n))
		foldDir(t, folded)
		compare(fmt.Sprintf("generation %d is folded", n))
	}
}

// TestFoldReadByRubyBounds: Ruby's own collector adds up buckets bound by bound, so
// where workers have different bounds it tells less than there is: who has not a bound
// is missing at it. In an archive nobody is. That is the only difference, and it never
// makes a bucket less than it was.
func TestFoldReadByRubyBounds(t *testing.T) {
	testpeer.Require(t, testpeer.Ruby)
	dir := t.TempDir()
	generation := func(values ...float64) {
		for i, bounds := range [][]float64{{1, 2, 5}, {0.5, 2, 10}} {
			w := startWorker(t, ruby(dir, "worker.rb"))
			for _, v := range values {
				w.send(t, op{Op: "observe", Type: "histogram", Name: "same_seconds", Bounds: []float64{1, 2}, Value: v}.String())
				w.send(t, op{Op: "observe", Type: "histogram", Name: "own_seconds", Bounds: bounds, Value: v + float64(i)}.String())
				w.send(t, op{Op: "inc", Type: "counter", Name: "jobs_total", Value: v}.String())
				w.send(t, op{Op: "set", Type: "gauge", Name: "level", Mode: "max", Value: v}.String())
			}
			w.ask(t, op{Op: "sync"}.String())
			w.stdin.Close()
			if err := w.Wait(t); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 3 {
		generation(0.25, 0.75, 1.5, 3, 7, 20)
		before, truth := rubyReads(t, dir), merge(t, dir)
		output(t, command(testpeer.Promagg(t), "fold", "--dir", dir))
		after := rubyReads(t, dir)
		checkSamples(t, fmt.Sprintf("promagg's reading, generation %d", n), merge(t, dir).samples, truth.samples)
		checkSamples(t, fmt.Sprintf("Ruby's reading after, generation %d", n), after.samples, truth.samples)
		for key, was := range before.samples {
			if is := after.samples[key]; is != was && (!strings.HasPrefix(key, "own_seconds_bucket") || is < was) {
				t.Errorf("generation %d: %s was %v and is %v", n, key, was, is)
			}
		}
	}
}

// TestFoldReadTimestamped: the same for files with timestamps, which the Python client
// writes from 0.18 on.
func TestFoldReadTimestamped(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	for _, name := range []string{"py-0.20.0", "py-0.25.0"} {
		dir := t.TempDir()
		families := unpackFixture(t, name, dir, "")
		all := expositionOf(t, families)
		before := pythonReads(t, dir, "collect_timestamped.py")
		checkSamples(t, name+", before", before.samples, all.samples)
		forget(t, dir)
		want := pythonReads(t, dir, "collect_timestamped.py")
		foldDir(t, dir)
		after := pythonReads(t, dir, "collect_timestamped.py")
		checkSamples(t, name+", after", after.samples, want.samples)
		if !maps.Equal(after.helps, want.helps) || !maps.Equal(after.types, want.types) {
			t.Errorf("%s: types and help texts are %v, %v; want %v, %v", name, after.types, after.helps, want.types, want.helps)
		}
		if len(want.samples) < len(all.samples)/2 {
			t.Errorf("%s: %d of %d samples are left without live gauges", name, len(want.samples), len(all.samples))
		}
	}
}

// TestFoldReadValueOnly: what that client itself, as it was before, reads from a folded
// directory of its own files.
func TestFoldReadValueOnly(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	all := expositionOf(t, unpackFixture(t, "py-0.16.0", dir, ""))
	checkSamples(t, "before", pythonReads(t, dir, "collect.py").samples, all.samples)
	forget(t, dir)
	want := pythonReads(t, dir, "collect.py")
	foldDir(t, dir)
	checkSamples(t, "after", pythonReads(t, dir, "collect.py").samples, want.samples)
}
