package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report is the result of a run. Times are in seconds.
type report struct {
	Machine   machine         `json:"machine"`
	Directory directoryReport `json:"directory"`
	Python    string          `json:"python,omitempty"`
	Rows      []row           `json:"rows"`
}

type directoryReport struct {
	Name      string `json:"name"`
	Files     int    `json:"files"`
	Entries   int    `json:"entries,omitempty"` // 0 where it was found, not built
	Bytes     int64  `json:"bytes"`
	FS        string `json:"filesystem"`
	Generator string `json:"generator,omitempty"`
	Seed      uint64 `json:"seed,omitempty"`
	// Series and Sum are what all contestants agree on.
	Series int     `json:"series"`
	Sum    float64 `json:"sum"`
}

// row is one contestant.
type row struct {
	Name        string  `json:"name"`
	About       string  `json:"about"`
	NotMeasured string  `json:"not_measured,omitempty"` // why all below is 0
	Rounds      int     `json:"rounds"`
	Scrapes     int     `json:"scrapes"`  // in each round
	Wall        float64 `json:"wall"`     // median over the rounds
	WallMin     float64 `json:"wall_min"` // of the rounds
	WallMax     float64 `json:"wall_max"`
	CPU         float64 `json:"cpu"` // mean
	// Allocs and AllocBytes are means; absent where another process does the work.
	Allocs     *float64 `json:"allocs,omitempty"`
	AllocBytes *float64 `json:"alloc_bytes,omitempty"`
	// Limits is Wall in terms of the limit's; Pythons how often it would fit into
	// the Python collector's. 0 without that contestant.
	Limits  float64 `json:"limits,omitempty"`
	Pythons float64 `json:"pythons,omitempty"`
}

func (b *bench) report(ctx context.Context, m machine, players []*player, checked samples) (*report, error) {
	paths, size, err := b.dir.files()
	if err != nil {
		return nil, err
	}
	r := &report{Machine: m, Python: b.python.version, Directory: directoryReport{
		Name:    b.dir.name,
		Files:   len(paths),
		Entries: b.dir.truth.entries,
		Bytes:   size,
		FS:      df(ctx, "fstype", b.dir.path),
		Series:  len(checked),
		Sum:     checked.total(),
	}}
	if b.dir.built {
		r.Directory.Generator, r.Directory.Seed = b.dir.generator, b.seed
	}
	for _, p := range players {
		r.Rows = append(r.Rows, p.row())
	}
	limit, python := r.wall(limitName), r.wall(pythonName)
	for i := range r.Rows {
		w := &r.Rows[i]
		if w.Wall == 0 {
			continue
		}
		if limit > 0 {
			w.Limits = w.Wall / limit
		}
		w.Pythons = python / w.Wall
	}
	return r, nil
}

func (p *player) row() row {
	w := row{Name: p.name, About: p.about, Rounds: len(p.rounds), Scrapes: p.scrapes}
	if p.absent != nil {
		w.NotMeasured = p.absent.Error()
		return w
	}
	n := float64(p.scraped)
	w.Wall = median(p.rounds).Seconds()
	w.WallMin, w.WallMax = slices.Min(p.rounds).Seconds(), slices.Max(p.rounds).Seconds()
	w.CPU = p.used.Seconds() / n
	if _, ok := p.scraper.(interface{ here() }); ok {
		allocs, bytes := float64(p.mallocs)/n, float64(p.malloc)/n
		w.Allocs, w.AllocBytes = &allocs, &bytes
	}
	return w
}

// wall returns the median of the contestant of that name, 0 without it.
func (r *report) wall(name string) float64 {
	for _, w := range r.Rows {
		if w.Name == name {
			return w.Wall
		}
	}
	return 0
}

func (r *report) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) writeTable(out io.Writer) error {
	var b strings.Builder
	m, d := r.Machine, r.Directory
	fmt.Fprintf(&b, "machine    %s, %d cores, %s, Linux %s, load %s\n", m.CPU, m.Cores, m.Go, m.Kernel, m.Load)
	fmt.Fprintf(&b, "directory  %s: %d files", d.Name, d.Files)
	if d.Entries > 0 {
		fmt.Fprintf(&b, " x %d entries = %d", d.Entries/d.Files, d.Entries)
	}
	fmt.Fprintf(&b, ", %.0f MiB on %s", float64(d.Bytes)/(1<<20), d.FS)
	if d.Generator != "" {
		fmt.Fprintf(&b, ", written by %s, seed %d", d.Generator, d.Seed)
	}
	fmt.Fprintf(&b, "\nchecked    all read the same %d series, together %.17g\n", d.Series, d.Sum)
	if r.Python != "" {
		fmt.Fprintf(&b, "python     %s\n", r.Python)
	}
	b.WriteByte('\n')
	r.rows(&b)
	b.WriteString(`
A time is the median over the rounds of the median over a round's scrapes; min and max are of the rounds.
cpu and allocs are means per scrape, cpu of the process that does the work: of promagg http the server, without the client.
x limit: the time in terms of the limit's. python/it: how often it fits into the Python collector's.
`)
	for _, w := range r.Rows {
		fmt.Fprintf(&b, "%s: %s.\n", w.Name, w.About)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// rows appends the aligned table.
func (r *report) rows(b *strings.Builder) {
	table := [][]string{{"contestant", "rounds", "wall", "min", "max", "cpu", "allocs", "alloc KiB", "x limit", "python/it"}}
	width := make([]int, len(table[0]))
	for _, w := range r.Rows {
		cells := []string{w.Name, w.NotMeasured}
		if w.NotMeasured == "" {
			cells = []string{
				w.Name, fmt.Sprintf("%dx%d", w.Rounds, w.Scrapes),
				ms(w.Wall), ms(w.WallMin), ms(w.WallMax), ms(w.CPU),
				count(w.Allocs, 1), count(w.AllocBytes, 1<<10),
				ratio(w.Limits), ratio(w.Pythons),
			}
		}
		table = append(table, cells)
	}
	for _, cells := range table {
		if len(cells) == len(width) {
			for i, c := range cells {
				width[i] = max(width[i], utf8.RuneCountInString(c))
			}
		} else {
			width[0] = max(width[0], utf8.RuneCountInString(cells[0]))
		}
	}
	for _, cells := range table {
		fmt.Fprintf(b, "%-*s", width[0], cells[0])
		for i, c := range cells[1:] {
			if len(cells) != len(width) {
				b.WriteString("  " + c) // a reason, as long as it is
				continue
			}
			fmt.Fprintf(b, "  %*s", width[i+1], c)
		}
		b.WriteByte('\n')
	}
}

func ms(seconds float64) string {
	return strconv.FormatFloat(seconds*float64(time.Second/time.Millisecond), 'f', 2, 64) + " ms"
}

func count(v *float64, unit float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v/unit, 'f', 1, 64)
}

func ratio(v float64) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
