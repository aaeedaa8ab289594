package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// None of these tests looks at a time: they keep the tool from rotting.

// TestMain makes the test binary the helper process that the tool starts.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		exitOn(playHelper(os.Stdin, os.Stdout))
		return
	}
	testpeer.Main(m)
}

// findShape returns a shape in a tiny size.
func findShape(t testing.TB, name string) shape {
	t.Helper()
	found, err := shapesOf(name)
	if err != nil {
		t.Fatal(err)
	}
	return found[0].sized(options{writers: 20, entries: 50})
}

func tiny(generator, dir string) options {
	return options{quick: true, generator: generator, dir: dir, runs: 1, seed: 1}
}

// build returns a run on a tiny directory that our own writer has built.
func build(t *testing.T, shape string, py peer) *bench {
	t.Helper()
	b := &bench{options: tiny("go", filepath.Join(t.TempDir(), "values")), work: t.TempDir(), python: py, log: io.Discard}
	if err := b.obtain(t.Context(), findShape(t, shape)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.dir.remove(true, io.Discard) }) // ends the writers
	return b
}

// change adds 1 to the last value of the file of a writer, one that lives if
// that makes a difference.
func change(t *testing.T, b *bench) {
	t.Helper()
	paths, _, err := b.dir.files()
	if err != nil {
		t.Fatal(err)
	}
	path := append(b.dir.live(), paths[3])[0]
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

// command runs the tool and returns its report.
func command(t *testing.T, args ...string) report {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"-json", "-runs", "1", "-seed", "7", "-wait", "100ms", "-promagg", testpeer.Promagg(t)}, args...), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Every shape is built, agreed on by all its contestants, and measured.
func TestShapes(t *testing.T) {
	testpeer.Require(t, testpeer.Python, testpeer.Ruby)
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s := findShape(t, s.name)
			r := command(t, "-shape", s.name, "-writers", fmt.Sprint(s.writers), "-entries", fmt.Sprint(s.entries), "-dir", filepath.Join(t.TempDir(), "values"))
			d, rows := r.Sections[0].Directory, r.Sections[0].Rows
			files, living := s.writers, s.writers
			if s.live > 0 {
				living = len(s.living())
			}
			if s.churn {
				files += living
			}
			if s.fold && d.Files < files {
				files = d.Files // as many as are not folded by now
			}
			keys := len(keysOf(s.families(s.entries)))
			if d.Files != files || d.Entries != living*keys || d.Samples < s.entries || d.Sum <= 0 || d.Seed != 7 {
				t.Errorf("directory: got %+v", d)
			}
			want := 0
			for _, c := range tableFor(s) {
				if !s.churn || !strings.HasPrefix(c.name, "promagg") || c.name == coldName {
					want++
				}
			}
			if s.churn {
				want += 4 // stages
			}
			if len(rows) != want {
				t.Errorf("want a row for each of %d contestants, got %d", want, len(rows))
			}
			for _, w := range rows {
				other := w.Allocs == nil
				if w.NotMeasured != "" || w.Rounds < 1 || w.Scrapes < 1 || w.Wall <= 0 || w.Limits <= 0 || w.AllLimits <= 0 || w.Pythons+w.Rubies <= 0 {
					t.Errorf("want a measured row, got %+v", w)
				}
				if other != (w.Memory != nil) || other && (w.Memory.Peak <= 0 || w.Memory.Heap <= 0) {
					t.Errorf("%s: want the memory of another process, got %+v", w.Name, w.Memory)
				}
				if strings.HasPrefix(w.Name, httpName) && w.Memory.Mapped <= 0 {
					t.Errorf("%s: want mappings, got %+v", w.Name, w.Memory)
				}
			}
			if (s.live == 0) != (r.Sections[0].Heap != nil) {
				t.Errorf("heap: got %+v", r.Sections[0].Heap)
			}
			if len(r.Marks) > 0 {
				t.Errorf("a run on directories of another size has no marks, got %v", r.Marks)
			}
		})
	}
}

func TestGrowth(t *testing.T) {
	b := &bench{options: tiny("go", ""), log: io.Discard}
	b.program = testpeer.Promagg(t)
	rows, err := b.measureGrowth(t.Context(), []int{1000, 2000})
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range rows {
		if g.Entries != (i+1)*1000 || g.Limit <= 0 || g.Steady <= 0 || g.HTTP <= 0 || g.Cold <= 0 || g.Memory.Mapped <= 0 {
			t.Errorf("got %+v", g)
		}
	}
	if marks := judgeGrowth(rows); len(marks) != 1 {
		t.Errorf("want one mark, got %v", marks)
	}
}

// A fleet is served right, and while one more writer adds series, too.
func TestFleet(t *testing.T) {
	r := command(t, "-fleet", "-writers", "30")
	f := r.Fleets[0]
	if f.Writers != 30 || f.Files != 180 || f.Mapped != 180 || f.Read != 0 || f.Descriptors < 180 || f.Quiet.Scrapes == 0 || f.Memory.RSS <= 0 {
		t.Errorf("got %+v", f)
	}
	if f.Beside == nil || f.Growing == nil || f.Growing.Scrapes == 0 || f.Grown != int(growRate*(100*time.Millisecond/3).Seconds()) || f.Rate <= 0 {
		t.Errorf("beside one that grows: got %+v", f)
	}
	if len(r.Marks) != 0 {
		t.Errorf("a fleet of another size has no marks, got %v", r.Marks)
	}
	f.Writers = fleetWriters
	r = report{Fleets: []fleet{f}}
	r.judge()
	if len(r.Marks) != 2 {
		t.Errorf("want two marks, got %v", r.Marks)
	}
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil || !strings.Contains(out.String(), "while one more writer added") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A fleet that is served wrong ends the run.
func TestFleetNotices(t *testing.T) {
	right := fleetTruth(3)
	dir := t.TempDir()
	if err := (&fleetOrder{Dir: dir, First: 0, Last: 3}).play(); err != nil {
		t.Fatal(err)
	}
	check := func() error {
		b := &bench{dir: directory{path: dir, shape: shape{live: everyone}}}
		text, err := b.exposition(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = right.check("promagg", answer{text: text})
		return err
	}
	if err := check(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "gauge_max_1002.db")); err != nil {
		t.Fatal(err)
	}
	if err := check(); !errors.Is(err, errDisagree) {
		t.Errorf("without a file: got %v", err)
	}
}

// The Python client gives a file of the same entries the same name, size and keys.
func TestGeneratorsAgree(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	for _, name := range []string{"L", "W", "P", "H"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := findShape(t, name)
			s.writers, s.entries = 3, 700 // more than fits into the initial size
			var keys, sizes [2]strings.Builder
			for i, generator := range []string{"go", "python"} {
				b := &bench{options: tiny(generator, filepath.Join(t.TempDir(), "values")), python: findPython(t.Context(), pythons), log: io.Discard}
				if err := b.obtain(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				defer b.dir.remove(false, io.Discard)
				paths, size, err := b.dir.files()
				if err != nil {
					t.Fatal(err)
				}
				if most := s.bytes(); size > most {
					t.Errorf("%s: want at most %d bytes, got %d", generator, most, size)
				}
				for _, path := range paths {
					f, err := mmapfile.OpenFile(path)
					if err != nil {
						t.Fatal(err)
					}
					err = f.Walk(func(e mmapfile.Entry) error {
						fmt.Fprintf(&keys[i], "%s\n", e.Key)
						return nil
					})
					if err != nil || f.Layout() != mmapfile.ValueOnly {
						t.Errorf("%s: want the value-only layout, got %s, %v", path, f.Layout(), err)
					}
					fmt.Fprintln(&sizes[i], filepath.Base(path), len(f.Bytes()))
					f.Close()
				}
			}
			if a, b := sizes[0].String(), sizes[1].String(); a != b {
				t.Errorf("files: go has\n%spython has\n%s", a, b)
			}
			if a, b := keys[0].String(), keys[1].String(); a != b {
				t.Errorf("keys: go has\n%.300s\npython has\n%.300s", a, b)
			}
		})
	}
}

// A directory that does not hold what was generated is not measured.
func TestAgreementFailsOnChangedValue(t *testing.T) {
	for _, s := range shapes {
		if s.ruby || s.churn {
			continue // the same checks
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			b := build(t, s.name, peer{missing: errors.New("none")})
			if b.dir.shape.live > 0 {
				b.dir.shape.live = 1 // of the held ones; nothing is measured here
			}
			change(t, b)
			for _, c := range contestants {
				if c.name != limitName && c.name != limitAllName && c.name != libraryName && c.name != coldName {
					continue // the same check, and slow to start
				}
				_, err := b.measure(t.Context(), []contestant{c})
				if !errors.Is(err, errDisagree) {
					t.Errorf("%s: want errDisagree, got %v", c.name, err)
				}
			}
		})
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
	b := build(t, "L", peer{})
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

// forgetful is a scraper that has less each time.
type forgetful struct {
	inProcess
	left int
}

func (f *forgetful) scrape() (answer, error) {
	f.left--
	return answer{took: 1, text: fmt.Appendf(nil, "a %d\n", f.left)}, nil
}

func (f *forgetful) close() error { return nil }

// While writers come and go, counters must not fall.
func TestChurnNoticesFall(t *testing.T) {
	b := build(t, "C", peer{})
	p := &player{scraper: &forgetful{left: 1000}}
	if err := b.comeAndGo(t.Context(), p, 16, 1000); !errors.Is(err, errDisagree) {
		t.Errorf("want errDisagree, got %v", err)
	}
}

// What is held lives, what is not is dead, and what came and went is dead too.
func TestLiveness(t *testing.T) {
	b := build(t, "C", peer{})
	if err := b.comeAndGo(t.Context(), &player{scraper: &forgetful{left: 1}}, 16, 18); err != nil && !errors.Is(err, errDisagree) {
		t.Fatal(err)
	}
	paths, _, err := b.dir.files()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := mmapfile.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := mmapfile.Dead
		if slices.Contains(b.dir.live(), path) {
			want = mmapfile.Alive
		}
		if v := f.Probe(mmapfile.ProbeAuto); v.State != want {
			t.Errorf("%s: want %s, got %+v", filepath.Base(path), want, v)
		}
		f.Close()
	}
	if len(b.dir.live()) != 16 || len(paths) < 17 {
		t.Errorf("want 16 live files and some others, got %d of %d", len(b.dir.live()), len(paths))
	}
}

func TestWithoutPeers(t *testing.T) {
	table := []contestant{
		{name: limitName, scrapes: 1, start: startTouch},
		{name: pythonName, scrapes: 1, start: startPython},
	}
	b := build(t, "L", findPython(t.Context(), []string{"/nonexistent/python3"}))

	t.Setenv("CI", "")
	s, err := b.measure(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&report{Sections: []*section{s}}).writeTable(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\npython      not measured: no Python with prometheus_client") {
		t.Errorf("want a row that says why Python was not measured, got\n%s", out.String())
	}

	// A shape that can't be built at all.
	without := &bench{options: tiny("go", ""), ruby: findRuby(t.Context(), []string{"/nonexistent/ruby"}), log: io.Discard}
	without.shape, without.writers, without.entries = "L-ruby", 2, 2
	sections, err := without.measureShapes(t.Context())
	if err != nil || !strings.Contains(sections[0].Directory.NotMeasured, "no Ruby with prometheus-client-mmap") {
		t.Errorf("want a directory that says why it was not measured, got %v, %v", sections, err)
	}

	t.Setenv("CI", "true")
	if _, err := b.measure(t.Context(), table); !errors.As(err, new(notMeasured)) {
		t.Errorf("CI=true: want an error, got %v", err)
	}
	if _, err := without.measureShapes(t.Context()); !errors.As(err, new(notMeasured)) {
		t.Errorf("CI=true: want an error, got %v", err)
	}
}

// What was built is removed; what was found is measured and left alone.
func TestDirectories(t *testing.T) {
	b := build(t, "L", peer{})
	again := &bench{options: b.options, log: io.Discard}
	if err := again.obtain(t.Context(), b.dir.shape); err != nil || again.dir.built || again.dir.truth.known {
		t.Fatalf("want a directory that was found, got %+v, %v", again.dir, err)
	}
	again.dir.remove(false, io.Discard)
	b.dir.remove(true, io.Discard)
	if paths, _, err := b.dir.files(); err != nil || len(paths) != 20 {
		t.Errorf("want 20 files, got %d, %v", len(paths), err)
	}
	b.dir.remove(false, io.Discard)
	if _, err := os.Stat(b.dir.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want the directory gone, got %v", err)
	}
}

// fakeReport is a run in which every contestant of each shape took as long as
// there.
func fakeReport(walls map[string]map[string]float64) *report {
	r := &report{}
	for name, contestants := range walls {
		s := &section{Directory: directoryReport{Name: name, Entries: 1000}}
		for contestant, wall := range contestants {
			s.Rows = append(s.Rows, row{Name: contestant, Wall: wall, CPU: wall})
		}
		r.Sections = append(r.Sections, s)
	}
	return r
}

func TestMarks(t *testing.T) {
	r := fakeReport(map[string]map[string]float64{
		"L":      {limitName: 1, library1Name: 1.5, httpName: 2, pythonName: 300, herdName: 7, coldName: 1e-4},
		"L-dead": {httpName: 0.1},
		"W":      {httpName: 1, namedName: 0.03},
	})
	r.section("W").Heap = &heap{Series: 201}
	r.judge()
	var got []string
	for _, m := range r.Marks {
		got = append(got, fmt.Sprint(m.Met, ": ", m.What))
	}
	want := []string{
		"true: L, steady scrape on one core, in terms of the limit",
		"false: L, whole scrape over HTTP, faster than Python",
		"true: L-dead, whole scrape over HTTP, in terms of L's",
		"true: L, cold start per entry",
		"false: W, heap per series beyond the text of its labels",
		"false: W, ?name[]= of one family, in terms of the full scrape",
		"false: L, CPU of 200 scrapes at once, in terms of one",
	}
	if !slices.Equal(got, want) {
		t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil || strings.Count(out.String(), "\nNOT MET  ") != 4 {
		t.Errorf("want 4 marks that are not met, got %v\n%s", err, out.String())
	}
	empty := &report{}
	if empty.judge(); len(empty.Marks) != 0 {
		t.Errorf("want no marks of nothing, got %v", empty.Marks)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{
		{"-runs", "0"}, {"-writers", "-1"}, {"-generator", "perl"}, {"extra"}, {"-shape", "X"}, {"-shape", "L,"}, {"-shape", ""},
		{"-dir", "/tmp/x"}, {"-shape", "S,L", "-dir", "/tmp/x"}, {"-big"}, {"-growth", "-shape", "L"},
		{"-fleet", "-growth"}, {"-fleet", "-entries", "5"},
	} {
		o, err := parseOptions(args, io.Discard)
		if err == nil && slices.Equal(args, []string{"-shape", ""}) {
			continue // the default
		}
		if err == nil {
			t.Errorf("%q: want an error, got %+v", args, o)
		}
	}
	o, err := parseOptions([]string{"-quick", "-entries", "9"}, io.Discard)
	if err != nil || o.seed == 0 {
		t.Errorf("got %+v, %v", o, err)
	}
	chosen, err := o.shapes()
	if err != nil || len(chosen) != 3 || chosen[2].name != "L" {
		t.Errorf("-quick: want S, M and L, got %v, %v", chosen, err)
	}
	if s := chosen[2].sized(o); s.writers != 1000 || s.entries != 9 {
		t.Errorf("-entries 9: got %d writers of %d", s.writers, s.entries)
	}
	if chosen, err := (options{shape: "all"}).shapes(); err != nil || len(chosen) != len(shapes) {
		t.Errorf("all: got %d shapes, %v", len(chosen), err)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for {
		now, err := cpuTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now > before {
			break // the clock runs, so the right fields are read
		}
	}
	fine, ok := scheduled(os.Getpid())
	coarse, err := ticked(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if ok && (fine < coarse/2-time.Second || fine > 2*coarse+time.Second) {
		t.Errorf("%s by the scheduler, %s by the clock", fine, coarse)
	}
	if _, err := cpuTime(-1); err == nil {
		t.Error("want an error for a process that is not there")
	}
}

func TestMemory(t *testing.T) {
	b := build(t, "S", peer{})
	paths, size, err := b.dir.files()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := mmapfile.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	m, err := memoryOf(os.Getpid(), b.dir.path)
	if err != nil {
		t.Fatal(err)
	}
	if m.Mapped != size {
		t.Errorf("mapped: want %d, got %d", size, m.Mapped)
	}
	if m.RSS <= 0 || m.Peak < m.RSS || m.Heap+m.File > m.RSS+1<<20 || m.Heap <= 0 || m.File <= 0 {
		t.Errorf("got %+v", m)
	}
	if _, err := memoryOf(-1, b.dir.path); err == nil {
		t.Error("want an error for a process that is not there")
	}
}

// A median is the middle one, of the times of an even number the upper.
func TestMedian(t *testing.T) {
	if got := median([]time.Duration{5, 1, 9}); got != 5 {
		t.Errorf("want 5, got %d", got)
	}
	if got := median([]time.Duration{5, 1, 9, 7}); got != 7 {
		t.Errorf("want 7, got %d", got)
	}
}

// BenchmarkScrape has the contestants that work in this process one by one, at
// full size, for a look at where the time goes:
//
//	go test -run '^$' -bench 'Scrape/shape=L/library' -cpuprofile /tmp/cpu ./bench
func BenchmarkScrape(b *testing.B) {
	for _, s := range shapes {
		if s.ruby || s.churn {
			continue
		}
		b.Run("shape="+s.name, func(b *testing.B) {
			run := bench{options: options{generator: "go", seed: 1}, log: io.Discard}
			if err := run.obtain(b.Context(), s); err != nil {
				b.Fatal(err)
			}
			defer run.dir.remove(false, io.Discard)
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
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*run.dir.truth.entries), "ns/entry")
				})
			}
		})
	}
}
