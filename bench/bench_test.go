package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// None of these tests looks at a time: they keep the tool from rotting.

func tiny(generator, dir string) options {
	return options{quick: true, generator: generator, dir: dir, writers: 8, entries: 50, runs: 1, seed: 1}
}

// build returns a run on a tiny directory that our own writer has built.
func build(t *testing.T, py python) *bench {
	t.Helper()
	o := tiny("go", filepath.Join(t.TempDir(), "values"))
	dir, err := obtain(t.Context(), o, shapes[0], py, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{options: o, dir: dir, work: t.TempDir(), python: py, log: io.Discard}
}

// change adds 1 to one value of one file.
func change(t *testing.T, b *bench) {
	t.Helper()
	path := filepath.Join(b.dir.path, mmapfile.Name{Type: mmapfile.Counter, ID: counterWriter(3)}.String())
	f, err := mmapfile.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var at uint32 // of the last value
	err = f.Walk(func(e mmapfile.Entry) error {
		at = e.Value
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w, err := mmapfile.Create(path, mmapfile.ValueOnly, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	v, _ := f.Bytes().Float64(at)
	w.Set(at, v+1)
}

func TestQuick(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	for _, generator := range []string{"go", "python"} {
		t.Run(generator, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			args := []string{"-quick", "-json", "-writers", "8", "-entries", "50", "-runs", "1", "-seed", "7",
				"-generator", generator, "-dir", filepath.Join(t.TempDir(), "values")}
			if err := run(t.Context(), args, &out, io.Discard); err != nil {
				t.Fatal(err)
			}
			var r report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if d := r.Directory; d.Files != 8 || d.Entries != 400 || d.Series != 50 || d.Sum <= 0 || d.Bytes != 8*initialSize || d.Seed != 7 {
				t.Errorf("directory: got %+v", d)
			}
			if len(r.Rows) != len(contestants) {
				t.Fatalf("want a row for each of %d contestants, got %d", len(contestants), len(r.Rows))
			}
			for _, w := range r.Rows {
				if w.NotMeasured != "" || w.Rounds != 1 || w.Scrapes < 1 || w.Wall <= 0 || w.Limits <= 0 || w.Pythons <= 0 {
					t.Errorf("want a measured row, got %+v", w)
				}
			}
		})
	}
}

// The Python client gives a file of the same entries the same size and keys.
func TestGeneratorsAgree(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	var keys, sizes [2]string
	for i, generator := range []string{"go", "python"} {
		o := tiny(generator, filepath.Join(t.TempDir(), "values"))
		o.entries = 700 // more than fits into the initial size
		dir, err := obtain(t.Context(), o, shapes[0], findPython(t.Context(), pythons), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		paths, size, err := dir.files()
		if err != nil {
			t.Fatal(err)
		}
		if want := counterBytes(o.writers, o.entries); size != want {
			t.Errorf("%s: want %d bytes, got %d", generator, want, size)
		}
		for _, path := range paths {
			f, err := mmapfile.OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			err = f.Walk(func(e mmapfile.Entry) error {
				keys[i] += string(e.Key) + "\n"
				return nil
			})
			if err != nil || f.Layout() != mmapfile.ValueOnly {
				t.Errorf("%s: want the value-only layout, got %s, %v", path, f.Layout(), err)
			}
			sizes[i] += filepath.Base(path) + "\n"
			f.Close()
		}
	}
	if sizes[0] != sizes[1] {
		t.Errorf("files: go has\n%spython has\n%s", sizes[0], sizes[1])
	}
	if keys[0] != keys[1] {
		t.Errorf("keys: go has\n%.300s\npython has\n%.300s", keys[0], keys[1])
	}
}

// A directory that does not hold what was generated is not measured.
func TestAgreementFailsOnChangedValue(t *testing.T) {
	t.Setenv("CI", "")
	b := build(t, python{missing: errors.New("none")})
	change(t, b)
	for _, c := range contestants {
		if c.name == pythonName || c.name == "promagg http" {
			continue // the same check, and slow to start
		}
		_, err := b.measure(t.Context(), []contestant{c})
		if !errors.Is(err, errDisagree) {
			t.Errorf("%s: want errDisagree, got %v", c.name, err)
		}
	}
}

// liar is a contestant that reads one value wrong.
type liar struct{ scraper }

func (l liar) scrape() (answer, error) {
	a, err := l.scraper.scrape()
	a.text = bytes.Replace(a.text, []byte("} "), []byte("} 1"), 1)
	return a, err
}

// Where the truth is not known, contestants are still compared with each other.
func TestAgreementFailsBetweenContestants(t *testing.T) {
	b := build(t, python{})
	b.dir.truth = truth{}
	library := contestant{name: "library", scrapes: 1, start: startLibrary}
	lying := contestant{name: "liar", scrapes: 1, start: func(ctx context.Context, b *bench) (scraper, error) {
		s, err := startLibrary(ctx, b)
		return liar{s}, err
	}}
	if _, err := b.measure(t.Context(), []contestant{library, library}); err != nil {
		t.Errorf("want agreement, got %v", err)
	}
	_, err := b.measure(t.Context(), []contestant{library, lying})
	if !errors.Is(err, errDisagree) || !strings.Contains(err.Error(), "http_requests_total{") {
		t.Errorf("want errDisagree that names the series, got %v", err)
	}
}

func TestSame(t *testing.T) {
	a := samples{"a": 1, "b": 2}
	for _, b := range []samples{{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2.1}} {
		if err := same("a", a, "b", b); !errors.Is(err, errDisagree) {
			t.Errorf("%v and %v: want errDisagree, got %v", a, b, err)
		}
	}
	if err := same("a", a, "b", samples{"b": 2 + 1e-15, "a": 1}); err != nil {
		t.Errorf("want agreement, got %v", err)
	}
}

func TestWithoutPython(t *testing.T) {
	table := []contestant{
		{name: limitName, scrapes: 1, start: startTouch},
		{name: pythonName, scrapes: 1, start: startPython},
	}
	b := build(t, findPython(t.Context(), []string{"/nonexistent/python3"}))

	t.Setenv("CI", "")
	r, err := b.measure(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\npython      not measured: no Python with prometheus_client") {
		t.Errorf("want a row that says why Python was not measured, got\n%s", out.String())
	}

	t.Setenv("CI", "true")
	if _, err := b.measure(t.Context(), table); !errors.As(err, new(notMeasured)) {
		t.Errorf("CI=true: want an error, got %v", err)
	}
}

// What was built is removed; what was found is measured and left alone.
func TestDirectories(t *testing.T) {
	b := build(t, python{})
	found, err := obtain(t.Context(), b.options, shapes[0], python{}, io.Discard)
	if err != nil || found.built || found.truth.known {
		t.Fatalf("want a directory that was found, got %+v, %v", found, err)
	}
	found.remove(false, io.Discard)
	b.dir.remove(true, io.Discard)
	if paths, _, err := b.dir.files(); err != nil || len(paths) != 8 {
		t.Errorf("want 8 files, got %d, %v", len(paths), err)
	}
	b.dir.remove(false, io.Discard)
	if _, err := os.Stat(b.dir.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want the directory gone, got %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"-runs", "0"}, {"-writers", "-1"}, {"-generator", "perl"}, {"extra"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: want an error", args)
		}
	}
	o, err := parseOptions([]string{"-quick", "-entries", "9"}, io.Discard)
	if err != nil || o.writers != 200 || o.entries != 9 || o.seed == 0 {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := cpuTime("self")
	if err != nil {
		t.Fatal(err)
	}
	for {
		now, err := cpuTime("self")
		if err != nil {
			t.Fatal(err)
		}
		if now > before {
			break // the clock runs, so the right fields are read
		}
	}
	if _, err := cpuTime("none"); err == nil {
		t.Error("want an error for a process that is not there")
	}
}

// BenchmarkScrape has the contestants that work in this process one by one, at
// full size, for a look at where the time goes:
//
//	go test -run '^$' -bench Scrape/library -cpuprofile /tmp/cpu ./bench
func BenchmarkScrape(b *testing.B) {
	o := options{generator: "go", writers: 1000, entries: 1000, seed: 1}
	dir, err := obtain(b.Context(), o, shapes[0], python{}, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.remove(false, io.Discard)
	run := bench{options: o, dir: dir, log: io.Discard}
	if err := run.settle(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, c := range []contestant{{name: "limit", start: startTouch}, {name: "library", start: startLibrary}, {name: "cold", start: startCold}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := c.start(b.Context(), &run)
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.scrape(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
