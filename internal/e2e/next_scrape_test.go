package e2e

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// valueFile is a value file written down from the format's description: one
// counter entry, of series what{i="<i>"}, in either layout.
func valueFile(what, i string, value float64, timestamped bool) []byte {
	key := fmt.Sprintf(`["%s", "%s_total", {"i": %q}, "Written by hand."]`, what, what, i)
	b := make([]byte, 8)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, key...)
	for pad := 8 - (len(key)+4)%8; pad > 0; pad-- {
		b = append(b, ' ')
	}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(value))
	if timestamped {
		b = binary.LittleEndian.AppendUint64(b, 0)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return append(b, make([]byte, 4096-len(b))...) // files are larger than what they hold
}

// TestRaceToNextScrape: what is in the directory when a scrape starts is in
// that scrape, however short a time before it came there.
func TestRaceToNextScrape(t *testing.T) {
	const loops = 200
	for name, tc := range map[string]struct {
		prefix   []string
		liveness string
	}{
		"liveness off":    {nil, "off"},
		"liveness auto":   {nil, "auto"},
		"without inotify": {withoutInotify, "auto"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.prefix != nil {
				testpeer.Require(t, testpeer.Unshare)
			}
			dir, outside := t.TempDir(), t.TempDir()
			p := serveUnder(t, tc.prefix, dir, "--liveness", tc.liveness).ready(t)
			testpeer.WaitFor(t, "a watch, or word that there is none", patience, func() error {
				watching := strings.Contains(p.get(t, "/metrics"), "\npromagg_watching 1\n")
				refused := strings.Contains(p.Log(), "can't watch the directory")
				if watching == refused || refused != (tc.prefix != nil) {
					return fmt.Errorf("watching %v, refused %v", watching, refused)
				}
				return nil
			})

			// Other scrapes are under way the whole time. One that began before the
			// file was there must not answer for one that begins after.
			stop := make(chan struct{})
			var readers sync.WaitGroup
			for range 2 {
				readers.Go(func() { keepScraping(t, p, stop) })
			}
			defer readers.Wait()
			defer close(stop)

			for _, way := range []struct {
				name   string
				create func(path string, b []byte) error
			}{
				{"renamed", func(path string, b []byte) error {
					tmp := filepath.Join(outside, "new")
					if err := os.WriteFile(tmp, b, 0o644); err != nil {
						return err
					}
					return os.Rename(tmp, path)
				}},
				{"linked", func(path string, b []byte) error {
					tmp := filepath.Join(outside, filepath.Base(path))
					if err := os.WriteFile(tmp, b, 0o644); err != nil {
						return err
					}
					return os.Link(tmp, path)
				}},
				{"in_place", func(path string, b []byte) error { return os.WriteFile(path, b, 0o644) }},
				{"grown", func(path string, b []byte) error { // empty, then without entries, then with one
					f, err := os.Create(path)
					if err != nil {
						return err
					}
					defer f.Close()
					if err := f.Truncate(int64(len(b))); err != nil {
						return err
					}
					if _, err := f.WriteAt([]byte{8}, 0); err != nil {
						return err
					}
					if _, err := f.WriteAt(b[8:], 8); err != nil {
						return err
					}
					_, err = f.WriteAt(b[:8], 0)
					return err
				}},
			} {
				for i := range loops / 2 {
					id := strconv.Itoa(i)
					path := filepath.Join(dir, "counter_"+way.name+"-"+id+".db")
					if err := way.create(path, valueFile("made_"+way.name, id, float64(i+1), i%2 == 0)); err != nil {
						t.Fatal(err)
					}
					key := sampleKey("made_"+way.name+"_total", map[string]string{"i": id})
					if got, ok := p.scrape(t).samples[key]; !ok || got != float64(i+1) {
						t.Fatalf("file %d, %s: the next scrape has %v (there: %v), want %v", i, way.name, got, ok, i+1)
					}
				}
			}
		})
	}
}

// withoutInotify runs a program where the kernel refuses it every watch: in a
// user namespace, whose limits are its own.
var withoutInotify = []string{"unshare", "--user", "--map-root-user", "sh", "-c",
	`echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"`, "sh"}

// keepScraping scrapes over and over until stop, and looks at nothing.
func keepScraping(t *testing.T, p *promagg, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := fetch("http://" + p.address + "/metrics"); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestWorkerToNextScrape: the client makes its file and then writes through its
// mapping, of which the directory's watcher hears nothing.
func TestWorkerToNextScrape(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	p := serve(t, dir).ready(t)
	w := startWorker(t, python(dir, "worker.py"))
	want := 0.0
	for i := range 100 {
		id := strconv.Itoa(i)
		w.send(t, op{Op: "id", ID: "web-" + id}.String()) // a file of its own, and the one before is nobody's
		for _, o := range []op{
			{Op: "inc", Type: "counter", Name: "file", Value: 1},
			{Op: "inc", Type: "counter", Name: "entry", Labels: map[string]string{"i": id}, Value: 1},
		} {
			w.send(t, o.String())
			w.ask(t, op{Op: "sync"}.String())
			if o.Name == "file" {
				want++
			}
			got := p.scrape(t).samples
			if n := got[sampleKey("file_total", nil)]; n != want {
				t.Fatalf("file %d: the next scrape sums up to %v, want %v", i, n, want)
			}
			if n, ok := got[sampleKey("entry_total", o.Labels)]; o.Name == "entry" && n != 1 {
				t.Fatalf("entry %d: the next scrape has %v (there: %v), want 1", i, n, ok)
			}
		}
	}
}

// TestDirectoryComesAndGoes: the directory is not there yet, is removed, is made
// again, is replaced, and so are files in it; each time the next scrape is right.
func TestDirectoryComesAndGoes(t *testing.T) {
	t.Run("with inotify", func(t *testing.T) { comeAndGo(t, nil) })
	t.Run("without inotify", func(t *testing.T) {
		testpeer.Require(t, testpeer.Unshare)
		comeAndGo(t, withoutInotify)
	})
}

func comeAndGo(t *testing.T, prefix []string) {
	parent := filepath.Join(t.TempDir(), "not", "there", "yet")
	dir := filepath.Join(parent, "metrics")
	p := serveUnder(t, prefix, dir)

	write := func(dir, id string, value float64) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "counter_"+id+".db"), valueFile("here", id, value, true), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want map[string]float64) {
		t.Helper()
		samples := map[string]float64{}
		for id, v := range want {
			samples[sampleKey("here_total", map[string]string{"i": id})] = v
		}
		checkSamples(t, what, p.scrape(t).samples, samples)
		if t.Failed() {
			t.FailNow()
		}
	}

	check("no directory yet", nil)
	do(os.MkdirAll(parent, 0o755))
	check("its parent is there", nil)
	for i := range 20 {
		v := float64(i)
		round := fmt.Sprintf("round %d: ", i)
		do(os.Mkdir(dir, 0o755))
		write(dir, "1", v)
		check(round+"made, with a file", map[string]float64{"1": v})
		write(dir, "2", v)
		check(round+"a second file", map[string]float64{"1": v, "2": v})
		do(os.Remove(filepath.Join(dir, "counter_1.db")))
		check(round+"a file removed", map[string]float64{"2": v})

		next := filepath.Join(parent, "next.db")
		do(os.WriteFile(next, valueFile("here", "2", v+0.5, false), 0o644))
		do(os.Rename(next, filepath.Join(dir, "counter_2.db")))
		check(round+"a file replaced", map[string]float64{"2": v + 0.5})

		do(os.RemoveAll(dir))
		check(round+"removed", nil)
		do(os.Mkdir(dir, 0o755))
		check(round+"made again", nil)
		write(dir, "2", v+1)
		check(round+"a file in the one made again", map[string]float64{"2": v + 1})

		replacement := filepath.Join(parent, "replacement")
		do(os.Mkdir(replacement, 0o755))
		write(replacement, "2", v+2)
		write(replacement, "3", v+2)
		do(os.Rename(dir, filepath.Join(parent, "old"+strconv.Itoa(i))))
		do(os.Rename(replacement, dir))
		check(round+"replaced by a rename", map[string]float64{"2": v + 2, "3": v + 2})
		write(dir, "4", v+3)
		check(round+"a file in the replacement", map[string]float64{"2": v + 2, "3": v + 2, "4": v + 3})
		// What is moved away is watched no more.
		write(filepath.Join(parent, "old"+strconv.Itoa(i)), "5", v)
		check(round+"a file in the one moved away", map[string]float64{"2": v + 2, "3": v + 2, "4": v + 3})
		do(os.RemoveAll(dir))
	}
	p.ready(t)
}

// TestFewDescriptors: a directory of more files than promagg may have open is
// served whole, and promagg still answers.
func TestFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	want := map[string]float64{}
	for i := range 300 {
		id := strconv.Itoa(i)
		if err := os.WriteFile(filepath.Join(dir, "counter_"+id+".db"), valueFile("here", id, 1, true), 0o644); err != nil {
			t.Fatal(err)
		}
		want[sampleKey("here_total", map[string]string{"i": id})] = 1
	}
	p := serveUnder(t, []string{"sh", "-c", `ulimit -n 100 && exec "$@"`, "sh"}, dir).ready(t)
	for range 3 {
		checkSamples(t, "300 files, 100 descriptors", p.scrape(t).samples, want)
	}
}
