package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// fleet is what a daemon costs beside many living writers with six files each:
// between scrapes, and while one of them adds series without end.
type fleet struct {
	Writers int `json:"writers"`
	Files   int `json:"files"`
	// Mapped and Read are how many of the files the daemon has mapped and how many
	// it reads at each scrape instead; Descriptors is how many it has open.
	Mapped      int     `json:"mapped"`
	Read        int     `json:"read"`
	Descriptors int     `json:"descriptors"`
	Idle        float64 `json:"idle"` // the share of one core that it uses between scrapes
	Quiet       walls   `json:"quiet"`
	// Beside is of scrapes of the other writers' families, Growing the same while
	// one more writer adds series, Grown of them at Rate a second. Absent where
	// files are read.
	Beside  *walls  `json:"beside,omitempty"`
	Growing *walls  `json:"growing,omitempty"`
	Grown   int     `json:"grown,omitempty"`
	Rate    float64 `json:"rate,omitempty"`
	Memory  memory  `json:"memory"`
}

// walls are how long scrapes took, in seconds.
type walls struct {
	Scrapes int     `json:"scrapes"`
	Least   float64 `json:"least"`
	Median  float64 `json:"median"`
	Most    float64 `json:"most"`
}

// wait is how much longer the slowest scrape took than the usual one: at most as
// long as it waited for anything, be it the daemon's work between scrapes or
// others on the machine.
func (w walls) wait() float64 { return w.Most - w.Median }

const (
	fleetWriters    = 1000
	bigFleetWriters = 20_000
	// heldWriters is how many writers a helper process plays: it needs a mapping
	// and a descriptor for each file, as they do.
	heldWriters = 1000
	fleetSize   = 4 << 10 // of a file
	// growRate is how many series the writer that grows adds in a second.
	growRate = 100_000
)

// fleetFiles are the families of a writer's files.
func fleetFiles() [][]family {
	files := [][]family{counters(20), histograms(1)}
	for _, m := range []mmapfile.Mode{mmapfile.Max, mmapfile.Min, mmapfile.Sum, mmapfile.LiveSum} {
		g := newFamily(mmapfile.Gauge, m, "pool_"+m.String(), "What is in the pool.", "pool")
		for i := range 10 {
			g.Labels = append(g.Labels, []string{strconv.Itoa(i)})
		}
		files = append(files, []family{g})
	}
	return files
}

// fleetValue is the value of a writer's k-th entry in one of its files.
func fleetValue(writer, k int) float64 { return float64((writer*31 + k*17) % 1000) }

// fleetOrder has a helper play some writers of a fleet.
type fleetOrder struct {
	Dir         string `json:"dir"`
	First, Last int    // the last one not included
}

// play writes the files, and leaves them open.
func (o *fleetOrder) play() error {
	for _, families := range fleetFiles() {
		keys := keysOf(families)
		f := families[0]
		for i := o.First; i < o.Last; i++ {
			name := mmapfile.Name{Type: f.Type, Mode: f.Mode, ID: writerID(i)}
			w, err := mmapfile.Create(filepath.Join(o.Dir, name.String()), mmapfile.ValueOnly, fleetSize)
			if err != nil {
				return err
			}
			for k, key := range keys {
				at, err := w.Append(key)
				if err != nil {
					return err
				}
				w.Set(at, fleetValue(i, k))
			}
		}
	}
	return nil
}

// fleetTruth is what a correct exposition of a fleet has.
func fleetTruth(writers int) truth {
	t := truth{known: true, names: make(map[string]tally)}
	for _, families := range fleetFiles() {
		f, keys := families[0], len(keysOf(families))
		of := newWritten(keys)
		of.Writers = []float64{0} // one line for all of them
		for k := range of.Sums {
			v := fleetValue(0, k)
			for i := 1; i < writers; i++ {
				switch f.Mode {
				case mmapfile.Max:
					v = max(v, fleetValue(i, k))
				case mmapfile.Min:
					v = min(v, fleetValue(i, k))
				default:
					v += fleetValue(i, k)
				}
			}
			of.Sums[k] = v
		}
		for name, n := range of.truth(families, nil).names {
			t.names[name] = n
		}
	}
	return t
}

// growOrder has a helper be a writer that adds series without end.
type growOrder struct {
	Path string        `json:"path"`
	Rate int           `json:"rate"` // a second
	For  time.Duration `json:"for"`
}

const grownName = "grown"

// play adds the series and returns how many.
func (o *growOrder) play() (n int, err error) {
	w, err := mmapfile.Create(o.Path, mmapfile.ValueOnly, initialSize)
	if err != nil {
		return 0, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; <-tick.C {
		lived := min(time.Since(begun), o.For)
		for due := int(lived.Seconds() * float64(o.Rate)); n < due; n++ {
			at, err := w.Append(fmt.Appendf(nil, `["%s", "%s_total", {"path": "/api/v1/orders/%d"}, "What it is about."]`, grownName, grownName, n))
			if err != nil {
				return n, err
			}
			w.Set(at, 1)
		}
		if lived == o.For {
			return n, nil
		}
	}
}

// measureFleets measures fleets of several sizes.
func (b *bench) measureFleets(ctx context.Context) (fleets []fleet, err error) {
	sizes := []int{fleetWriters}
	switch {
	case b.writers > 0:
		sizes = []int{b.writers}
	case b.big:
		sizes = append(sizes, bigFleetWriters)
	}
	for _, n := range sizes {
		f, err := b.measureFleet(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("fleet of %d: %w", n, err)
		}
		fleets = append(fleets, f)
	}
	return fleets, nil
}

func (b *bench) measureFleet(ctx context.Context, writers int) (f fleet, err error) {
	f = fleet{Writers: writers, Files: writers * len(fleetFiles())}
	dir, err := os.MkdirTemp(roomFor(ctx, int64(f.Files)*fleetSize), "promagg-bench-")
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	b.dir = directory{path: dir, shape: shape{name: "fleet", live: everyone}, truth: fleetTruth(writers)}
	fmt.Fprintf(b.log, "bench: fleet: starting %d writers in %s\n", writers, dir)
	for first := 0; first < writers; first += heldWriters {
		h, err := startHelper(ctx, order{Fleet: &fleetOrder{Dir: dir, First: first, Last: min(writers, first+heldWriters)}})
		if err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, h.stop()) }()
		if err := h.ready(); err != nil {
			return f, err
		}
	}
	if err := b.settle(ctx); err != nil {
		return f, err
	}
	d, err := startDaemon(ctx, b)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	err = b.watchFleet(ctx, d, &f)
	return f, err
}

// watchFleet measures a daemon that has just started.
func (b *bench) watchFleet(ctx context.Context, d *daemon, f *fleet) (err error) {
	all := newClient(d.url, identity)
	defer all.http.CloseIdleConnections()
	if err := all.get(); err != nil {
		return err
	}
	if err := b.steady(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "bench: fleet: nobody scrapes for %s\n", 3*b.wait)
	begun := time.Now()
	before, err := d.cpu()
	if err != nil {
		return err
	}
	for range 3 {
		if err := b.steady(ctx); err != nil {
			return err
		}
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	f.Idle = (after - before).Seconds() / time.Since(begun).Seconds()

	f.Quiet, err = b.scrapeNowAndThen(ctx, time.After(b.wait), func() (time.Duration, error) {
		begun := time.Now()
		if err := all.get(); err != nil {
			return 0, err
		}
		took := time.Since(begun)
		_, err := b.dir.truth.check("promagg", answer{text: all.body.Bytes(), own: ownPrefix})
		return took, err
	})
	if err != nil {
		return err
	}
	if m := unmapped.FindSubmatch(all.body.Bytes()); m != nil {
		f.Read, err = strconv.Atoi(string(m[1]))
	} else {
		err = errors.New("promagg does not say how many files it reads")
	}
	if err != nil {
		return err
	}
	if f.Mapped, f.Descriptors, err = held(d.pid(), b.dir.path); err != nil {
		return err
	}
	if f.Memory, err = memoryOf(d.pid(), b.dir.path); err != nil {
		return err
	}
	if f.Read > 0 {
		return nil // a scrape takes too long for it
	}
	return b.growBeside(ctx, d, f)
}

var unmapped = regexp.MustCompile(`(?m)^promagg_unmapped_files (\d+)$`)

// scrapeNowAndThen scrapes at random moments until the end.
func (b *bench) scrapeNowAndThen(ctx context.Context, end <-chan time.Time, scrape func() (time.Duration, error)) (w walls, err error) {
	rand := rand.New(rand.NewPCG(b.seed, 0))
	var took []time.Duration
	for {
		t, err := scrape()
		if err != nil {
			return w, err
		}
		took = append(took, t)
		select {
		case <-ctx.Done():
			return w, ctx.Err()
		case <-end:
			return walls{len(took), slices.Min(took).Seconds(), median(took).Seconds(), slices.Max(took).Seconds()}, nil
		case <-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond)))):
		}
	}
}

// growBeside scrapes what all but one writer have, before that one comes and while
// it adds series. One value changes before each scrape, which has to have it.
func (b *bench) growBeside(ctx context.Context, d *daemon, f *fleet) error {
	w, err := mmapfile.Create(filepath.Join(b.dir.path, "counter_tick.db"), mmapfile.ValueOnly, fleetSize)
	if err != nil {
		return err
	}
	defer w.Close()
	at, err := w.Append([]byte(`["tick", "tick_total", {}, "Scrapes."]`))
	if err != nil {
		return err
	}
	if err := b.steady(ctx); err != nil { // until the directory counts as unchanged
		return err
	}
	query := "?name[]=tick_total"
	for name := range b.dir.truth.names {
		query += "&name[]=" + name
	}
	c := newClient(d.url+query, identity)
	defer c.http.CloseIdleConnections()
	ticks := 0.0
	scrape := func() (time.Duration, error) {
		ticks++
		w.Set(at, ticks)
		begun := time.Now()
		if err := c.get(); err != nil {
			return 0, err
		}
		took := time.Since(begun)
		t := b.dir.truth
		t.names = map[string]tally{"tick_total": {1, ticks}}
		for name, n := range b.dir.truth.names {
			t.names[name] = n
		}
		_, err := t.check("promagg", answer{text: c.body.Bytes()})
		return took, err
	}
	beside, err := b.scrapeNowAndThen(ctx, time.After(b.wait/3), scrape)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "bench: fleet: one more writer adds series\n")
	begun := time.Now()
	h, err := startHelper(ctx, order{Grow: &growOrder{Path: filepath.Join(b.dir.path, "counter_grows.db"), Rate: growRate, For: b.wait / 3}})
	if err != nil {
		return err
	}
	end := make(chan time.Time)
	var notPlayed error
	go func() {
		defer close(end)
		notPlayed = json.NewDecoder(h.out).Decode(&f.Grown)
		f.Rate = float64(f.Grown) / time.Since(begun).Seconds()
	}()
	growing, err := b.scrapeNowAndThen(ctx, end, scrape)
	if err == nil {
		err = notPlayed
	}
	if err == nil {
		err = b.countGrown(d, f.Grown)
	}
	f.Beside, f.Growing = &beside, &growing
	return errors.Join(err, h.stop())
}

// countGrown checks that all is served that the writer has added.
func (b *bench) countGrown(d *daemon, want int) error {
	c := newClient(d.url+nameQuery(grownName), identity)
	defer c.http.CloseIdleConnections()
	if err := c.get(); err != nil {
		return err
	}
	t := truth{known: true, names: map[string]tally{grownName + "_total": {want, float64(want)}}}
	_, err := t.check("promagg", answer{text: c.body.Bytes()})
	return err
}

// held returns how many files of dir a process has mapped, and how many
// descriptors it has.
func held(pid int, dir string) (maps, descriptors int, err error) {
	text, err := os.ReadFile(procPath(pid, "maps"))
	if err != nil {
		return 0, 0, err
	}
	open, err := os.ReadDir(procPath(pid, "fd"))
	return strings.Count(string(text), dir+"/"), len(open), err
}

func writeFleets(b *strings.Builder, fleets []fleet) {
	b.WriteString("fleet      living writers of six files each\n\n")
	table := [][]string{{"writers", "files", "mapped", "read", "descriptors", "idle", "scrapes", "least", "median", "most", "rss MiB", "heap", "peak"}}
	for _, f := range fleets {
		table = append(table, []string{
			strconv.Itoa(f.Writers), strconv.Itoa(f.Files), strconv.Itoa(f.Mapped), strconv.Itoa(f.Read), strconv.Itoa(f.Descriptors), percent(f.Idle),
			strconv.Itoa(f.Quiet.Scrapes), ms(f.Quiet.Least), ms(f.Quiet.Median), ms(f.Quiet.Most), mib(f.Memory.RSS), mib(f.Memory.Heap), mib(f.Memory.Peak),
		})
	}
	align(b, table)
	for _, f := range fleets {
		if f.Growing != nil {
			fmt.Fprintf(b, "%d writers: scrapes of their families took %s (at most %s); while one more writer added %.0f series a second, %d in all, %s (at most %s)\n",
				f.Writers, ms(f.Beside.Median), ms(f.Beside.Most), f.Rate, f.Grown, ms(f.Growing.Median), ms(f.Growing.Most))
		}
	}
	b.WriteString(`
idle is the share of one core that the daemon uses while nobody scrapes. The scrapes come at random moments, and each is checked. What the slowest took
longer than the median it may have waited for the daemon's work between scrapes, or for others on the machine.
`)
}

func percent(v float64) string { return strconv.FormatFloat(v*100, 'f', 2, 64) + " %" }

// judgeFleets is about the fleet that the marks speak of.
func judgeFleets(fleets []fleet) (marks []mark) {
	for _, f := range fleets {
		if f.Writers == fleetWriters {
			marks = append(marks, atMost("6000 files of 1000 live writers, idle, share of a core", 0.5, f.Idle*100, " %", true)...)
			marks = append(marks, atMost("the same, what the slowest of the scrapes waited", 5, f.Quiet.wait()*1e3, " ms", true)...)
		}
	}
	return marks
}
