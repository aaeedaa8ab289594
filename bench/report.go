package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// report is the result of a run. Times are in seconds, sizes in bytes.
type report struct {
	Machine  machine    `json:"machine"`
	Python   string     `json:"python,omitempty"`
	Ruby     string     `json:"ruby,omitempty"`
	Sections []*section `json:"directories"`
	Growth   []growth   `json:"growth,omitempty"`
	Fleets   []fleet    `json:"fleets,omitempty"`
	Marks    []mark     `json:"marks"`
}

// section is what was measured on one directory.
type section struct {
	Directory directoryReport `json:"directory"`
	Rows      []row           `json:"rows"`
	Heap      *heap           `json:"heap,omitempty"` // of the library between scrapes; nil where it can't be told
}

type directoryReport struct {
	Name        string `json:"name"`
	About       string `json:"about"`
	NotMeasured string `json:"not_measured,omitempty"` // why all below is 0
	Files       int    `json:"files"`
	Entries     int    `json:"entries,omitempty"` // of live writers; 0 where it was found, not built
	Bytes       int64  `json:"bytes"`
	FS          string `json:"filesystem"`
	Generator   string `json:"generator,omitempty"`
	Seed        uint64 `json:"seed,omitempty"`
	Live        int    `json:"live,omitempty"` // writers; 0: liveness is off
	// Samples and Sum are what all contestants agree on.
	Samples int     `json:"samples"`
	Sum     float64 `json:"sum"`
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
	// Memory is absent where it is the benchmark's own process that does the work.
	Memory *memory `json:"memory,omitempty"`
	// Limits and AllLimits are Wall in terms of the limit's on one core and on all;
	// Pythons how often it would fit into the Python collector's, Rubies the same.
	// 0 without that contestant.
	Limits    float64 `json:"limits,omitempty"`
	AllLimits float64 `json:"all_limits,omitempty"`
	Pythons   float64 `json:"pythons,omitempty"`
	Rubies    float64 `json:"rubies,omitempty"`
}

// section sums up what the players did on the directory.
func (b *bench) section(ctx context.Context, players []*player, checked samples) (*section, error) {
	paths, size, err := b.dir.files()
	if err != nil {
		return nil, err
	}
	s := &section{Directory: directoryReport{
		Name:    b.dir.shape.name,
		About:   b.dir.shape.about,
		Files:   len(paths),
		Entries: b.dir.truth.entries,
		Bytes:   size,
		FS:      df(ctx, "fstype", b.dir.path),
		Live:    len(b.dir.live()),
		Samples: len(checked),
		Sum:     checked.total(),
	}}
	if b.dir.built {
		s.Directory.Generator, s.Directory.Seed = b.dir.generator, b.seed
	}
	for _, p := range players {
		w, err := p.row(b.dir.path)
		if err != nil {
			return nil, err
		}
		s.Rows = append(s.Rows, w)
	}
	s.compare()
	return s, nil
}

// compare works out the ratios between the rows.
func (s *section) compare() {
	limit, all, python, ruby := s.wall(limitName), s.wall(limitAllName), s.wall(pythonName), s.wall(rubyName)
	for i := range s.Rows {
		w := &s.Rows[i]
		w.Limits, w.AllLimits = over(w.Wall, limit), over(w.Wall, all)
		w.Pythons, w.Rubies = over(python, w.Wall), over(ruby, w.Wall)
	}
}

// over divides, and is 0 where there is nothing to divide by.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// row sums up a player. It asks for the memory of a process that is still there.
func (p *player) row(dir string) (row, error) {
	w := row{Name: p.name, About: p.about, Rounds: len(p.rounds), Scrapes: p.scrapes}
	if p.absent != nil {
		w.NotMeasured = p.absent.Error()
		return w, nil
	}
	if len(p.rounds) == 0 {
		return w, errors.New(p.name + " had no turn")
	}
	n := float64(p.scraped)
	w.Wall = median(p.rounds).Seconds()
	w.WallMin, w.WallMax = slices.Min(p.rounds).Seconds(), slices.Max(p.rounds).Seconds()
	w.CPU = p.used.Seconds() / n
	if _, ok := p.scraper.(interface{ here() }); ok {
		allocs, bytes := float64(p.mallocs)/n, float64(p.malloc)/n
		w.Allocs, w.AllocBytes = &allocs, &bytes
	}
	if other, ok := p.scraper.(interface{ pid() int }); ok {
		m, err := memoryOf(other.pid(), dir)
		if err != nil {
			return w, err
		}
		w.Memory = &m
	}
	return w, nil
}

// row returns the contestant of that name that was measured, nil without it.
func (s *section) row(name string) *row {
	if s == nil {
		return nil
	}
	for i := range s.Rows {
		if w := &s.Rows[i]; w.Name == name && w.NotMeasured == "" {
			return w
		}
	}
	return nil
}

// wall returns the median of the contestant of that name, 0 without it.
func (s *section) wall(name string) float64 {
	if w := s.row(name); w != nil {
		return w.Wall
	}
	return 0
}

// section returns the directory of that name that was measured, nil without it.
func (r *report) section(name string) *section {
	for _, s := range r.Sections {
		if s.Directory.Name == name && s.Directory.NotMeasured == "" {
			return s
		}
	}
	return nil
}

func (r *report) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
