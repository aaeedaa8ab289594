package foldtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// long reports whether the tests may take minutes.
func long() bool { return os.Getenv("PROMAGG_TEST_LONG") != "" }

// place makes a directory that is gone after the test, in memory: what matters here
// is the order of the steps, and not how long a disk takes for each.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "promagg-fold-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openDir(path string, retention time.Duration, hook func(fold.Step) error) *multiproc.Dir {
	return multiproc.Open(multiproc.Options{Path: path, Rescan: time.Hour, Logger: slog.New(slog.DiscardHandler),
		Fold: multiproc.Folding{Retention: retention, Hook: hook}})
}

// check compares what is served of a directory, by somebody who has never looked at it
// before, with the model.
func check(t testing.TB, what, path string, want totals) {
	t.Helper()
	d := openDir(path, multiproc.Forever, nil)
	defer d.Close()
	if diff := want.differ(snapshot(t, d)); diff != "" {
		t.Errorf("%s (-model +served):\n%s\nthe directory has %q", what, diff, list(t, path))
	}
}

// foldAll folds a directory to the end.
func foldAll(t testing.TB, path string, retention time.Duration) {
	t.Helper()
	d := openDir(path, retention, nil)
	defer d.Close()
	if _, err := d.FoldOnce(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// foldUntil folds a directory until a step before which the process ends, as far as
// that can be had inside this one: stop says which.
func foldUntil(path string, retention time.Duration, stop func(n int, s fold.Step) bool) (ended bool, err error) {
	n := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		d := openDir(path, retention, func(s fold.Step) error {
			if stop(n, s) {
				runtime.Goexit()
			}
			n++
			return nil
		})
		defer d.Close()
		_, err = d.FoldOnce(context.Background())
		ended = true
	}()
	<-done
	return ended, err
}

// list returns the names in a directory but that of the lock.
func list(t testing.TB, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != mmapfile.LockName {
			names = append(names, e.Name())
		}
	}
	return names
}

// leftovers returns what is in a directory that a fold which has come to its end
// leaves nothing of.
func leftovers(t testing.TB, path string, writers []*writer, retention bool) (left []string) {
	t.Helper()
	for _, base := range list(t, path) {
		name, ok := mmapfile.ParseName(base)
		i := slices.IndexFunc(writers, func(w *writer) bool { return w.name == name })
		switch {
		case ok && name.IsArchive(), i >= 0 && writers[i].alive:
		case i >= 0 && name.Mode == mmapfile.All && retention:
		default:
			left = append(left, base)
		}
	}
	return left
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := place(t)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// random makes writers up.
type random struct {
	*rand.Rand
	pid int
}

func pick[T any](r *random, from ...T) T { return from[r.IntN(len(from))] }

// kinds are all types, with all modes.
func kinds() []mmapfile.Name {
	all := []mmapfile.Name{{Type: mmapfile.Counter}, {Type: mmapfile.Histogram}, {Type: mmapfile.Summary}}
	for _, m := range mmapfile.Modes() {
		all = append(all, mmapfile.Name{Type: mmapfile.Gauge, Mode: m})
	}
	return all
}

// many makes n writers of each kind.
func (r *random) many(n int, alive bool, kinds ...mmapfile.Name) (writers []*writer) {
	for _, kind := range kinds {
		for range n {
			writers = append(writers, r.writer(kind, alive))
		}
	}
	return writers
}

// writer makes a writer of a kind. Its values are multiples of a fourth, which add up
// without rounding in any order.
func (r *random) writer(kind mmapfile.Name, alive bool) *writer {
	r.pid++
	w := &writer{name: kind, alive: alive, layout: pick(r, mmapfile.ValueOnly, mmapfile.ValueTimestamp), ruby: r.IntN(3) == 0}
	w.name.ID = fmt.Sprint(r.pid)
	if r.IntN(4) == 0 {
		w.name.ID = fmt.Sprintf("web_%d", r.pid)
	}
	if w.ruby {
		w.layout = mmapfile.ValueOnly
		w.name.ID += "-0"
	}
	for _, labels := range []map[string]string{nil, {"l": "x"}, {"l": "y z", "m": `q"`}} {
		if len(w.entries) == 0 || r.IntN(2) == 0 {
			r.series(w, labels)
		}
	}
	if w.layout == mmapfile.ValueOnly {
		for i := range w.entries {
			w.entries[i].stamp = 0
		}
	}
	return w
}

// series gives a writer the entries of one series.
func (r *random) series(w *writer, labels map[string]string) {
	add := func(family, sample string, v float64, more ...string) {
		all := maps.Clone(labels)
		if len(more) > 0 {
			if all == nil {
				all = make(map[string]string)
			}
			all[more[0]] = more[1]
		}
		stamp := float64(r.IntN(4))
		if r.IntN(20) == 0 {
			stamp = pick(r, math.NaN(), -1, math.Inf(1)) // what no client writes
		}
		w.entries = append(w.entries, entry{family, sample, all, v, stamp})
	}
	value := func() float64 { return float64(r.IntN(4000)) / 4 }
	from := len(w.entries)
	switch w.name.Type {
	case mmapfile.Counter:
		if family := "c"; w.ruby {
			add("c_total", "c_total", value())
		} else {
			add(family, "c_total", value())
		}
	case mmapfile.Summary:
		add("s", "s_count", float64(r.IntN(100)))
		add("s", "s_sum", value())
	case mmapfile.Histogram:
		bounds := []string{"0.5", "1.0", "2.5"}
		bounds = append(slices.Delete(bounds, 0, r.IntN(3)), "+Inf")
		total := 0
		for _, le := range bounds {
			n := r.IntN(20)
			if total += n; w.ruby {
				n = total
			}
			add("h", "h_bucket", float64(n), "le", le)
		}
		if w.ruby {
			add("h", "h_count", float64(total+r.IntN(2)))
			// Its writer dies between two buckets of an observation.
			w.entries[len(w.entries)-2-r.IntN(len(bounds))].value += float64(r.IntN(2))
		}
		add("h", "h_sum", value())
		if r.IntN(6) == 0 { // it dies before it has them all
			rest := w.entries[from:]
			r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
			w.entries = w.entries[:from+1+r.IntN(len(rest))]
		}
	case mmapfile.Gauge:
		family := "g_" + w.name.Mode.String()
		v := value() - 500
		switch r.IntN(12) {
		case 0:
			v = pick(r, math.NaN(), math.Inf(1), math.Inf(-1))
		case 1:
			v = math.Float64frombits(mmapfile.StaleBits)
		}
		add(family, family, v)
	}
}

// taken is a file that a writer process has open.
type taken struct {
	w     *mmapfile.Writer
	value map[string]*mmapfile.Value // by key
}

// take opens a file as its writer does, and goes on with what an earlier one has left in
// it.
func take(path string, layout mmapfile.Layout, keys ...string) (*taken, error) {
	at := make(map[string]uint32)
	w, err := mmapfile.Claim(path, layout, 0, func(key []byte, value uint32) { at[string(key)] = value })
	if err != nil {
		return nil, err
	}
	f := &taken{w, make(map[string]*mmapfile.Value)}
	for _, key := range keys {
		if at[key] == 0 {
			if at[key], err = w.Append([]byte(key)); err != nil {
				return nil, errors.Join(err, w.Close())
			}
		}
		f.value[key] = w.Value(at[key])
	}
	return f, nil
}

// bumper is a new writer process that takes up names of dead ones.
type bumper struct {
	dir   string
	names []string // of counters' files
	stay  bool     // it lives on, with all the files that it has taken up
	held  map[string]*taken
	n     int // times that it has added 1
}

// bumped is the model's writer that has what a bumper has added.
func bumped(n int) *writer {
	return &writer{name: mmapfile.Name{ID: "bumped"}, entries: []entry{{"c", "c_total", map[string]string{"by": "bumper"}, float64(n), 0}}}
}

// bump adds 1 to one of the files.
func (b *bumper) bump() error {
	base, key := b.names[b.n%len(b.names)], (&writer{}).key(bumped(0).entries[0])
	if b.held[base] == nil {
		f, err := take(filepath.Join(b.dir, base), mmapfile.ValueTimestamp, key)
		if err != nil {
			return err
		}
		if b.held == nil {
			b.held = make(map[string]*taken)
		}
		b.held[base] = f
	}
	b.held[base].value[key].Add(1)
	b.n++
	if !b.stay {
		return b.close()
	}
	return nil
}

// late adds 1 to a file that is claimed already, as a writer does that was about to
// open it when it was.
func (b *bumper) late() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := mmapfile.ParseName(e.Name())
		if ok && name.IsClaim() && slices.Contains(b.names, name.Unclaimed().String()) {
			b.names = []string{e.Name()}
			return b.bump()
		}
	}
	return fmt.Errorf("none of %q is claimed", b.names)
}

func (b *bumper) close() (err error) {
	for base, f := range b.held {
		err = errors.Join(err, f.w.Close())
		delete(b.held, base)
	}
	return err
}

// deadCounters returns the names of files that a bumper can take up.
func deadCounters(writers []*writer) (names []string) {
	for _, w := range writers {
		if w.name.Type == mmapfile.Counter && !w.alive && w.layout == mmapfile.ValueTimestamp {
			names = append(names, w.name.String())
		}
	}
	return names
}

// describe is a step in a line.
func describe(s fold.Step) string {
	return strings.TrimSpace(strings.Join([]string{s.Op, s.From, s.To}, " "))
}
