package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// growth is what a scrape costs in a directory of one size.
type growth struct {
	Entries int `json:"entries"`
	Writers int `json:"writers"`
	// Times per entry, in seconds.
	Limit  float64 `json:"limit_per_entry"`
	Steady float64 `json:"steady_per_entry"`
	HTTP   float64 `json:"http_per_entry"`
	Cold   float64 `json:"cold_per_entry"`
	Memory memory  `json:"memory"` // of the daemon
}

// growthEntries is how many entries each writer has.
const growthEntries = 1000

// growthSizes are the numbers of entries that are measured.
func growthSizes(big bool) []int {
	sizes := []int{1e4, 1e5, 1e6}
	if big {
		sizes = append(sizes, 1e7)
	}
	return sizes
}

// measureGrowth measures directories that grow in writers.
func (b *bench) measureGrowth(ctx context.Context, sizes []int) (rows []growth, err error) {
	for _, n := range sizes {
		s := shape{name: "growth", about: strconv.Itoa(n) + " entries", writers: n / growthEntries, entries: growthEntries, families: counters}
		g, err := b.growthOf(ctx, s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, g)
	}
	return rows, nil
}

func (b *bench) growthOf(ctx context.Context, s shape) (g growth, err error) {
	if err := b.obtain(ctx, s); err != nil {
		return g, err
	}
	defer b.dir.remove(b.keep, b.log)
	var table []contestant
	for _, c := range contestants {
		if slices.Contains([]string{limitName, library1Name, httpName, coldName}, c.name) {
			table = append(table, c)
		}
	}
	measured, err := b.measure(ctx, table)
	if err != nil {
		return g, err
	}
	n := float64(measured.Directory.Entries)
	return growth{
		Entries: measured.Directory.Entries,
		Writers: s.writers,
		Limit:   measured.wall(limitName) / n,
		Steady:  measured.wall(library1Name) / n,
		HTTP:    measured.wall(httpName) / n,
		Cold:    measured.wall(coldName) / n,
		Memory:  *measured.row(httpName).Memory,
	}, nil
}

func writeGrowth(b *strings.Builder, rows []growth) {
	b.WriteString("growth     writers of 1000 counters each, ns per entry\n\n")
	table := [][]string{{"entries", "writers", "limit", "steady", "http", "cold", "x limit", "rss MiB", "heap", "peak", "mapped"}}
	for _, g := range rows {
		m := g.Memory
		table = append(table, []string{
			strconv.Itoa(g.Entries), strconv.Itoa(g.Writers), ns(g.Limit), ns(g.Steady), ns(g.HTTP), ns(g.Cold), ratio(g.Steady / g.Limit),
			mib(m.RSS), mib(m.Heap), mib(m.Peak), mib(m.Mapped),
		})
	}
	align(b, table)
	b.WriteString(`
limit and steady are on one core. The text of the 1000 series costs the same at all sizes, which shows at the smallest. What fits into
the caches costs less per entry, of the limit too: that a scrape is linear shows in x limit, which does not grow.
`)
}

func ns(seconds float64) string { return strconv.FormatFloat(seconds*1e9, 'f', 2, 64) }

// growthSlack is how much of a difference is taken for noise.
const growthSlack = 1.5

// judgeGrowth compares each size with the one before: a cost that is linear grows
// as the limit's does.
func judgeGrowth(rows []growth) []mark {
	if len(rows) < 2 {
		return nil
	}
	most := 0.0
	for i := range rows[1:] {
		most = max(most, (rows[i+1].Steady/rows[i+1].Limit)/(rows[i].Steady/rows[i].Limit))
	}
	what := fmt.Sprintf("growth from %d to %d entries: from one size to the next, x limit grows", rows[0].Entries, rows[len(rows)-1].Entries)
	return atMost(what, growthSlack, most, " x", true)
}
