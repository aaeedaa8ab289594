package main

import (
	"fmt"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// goroutines is how many goroutines of a worker make updates.
const goroutines = 3

// kind is what decides which file of a worker an entry is in.
type kind struct {
	typ  mmapfile.Type
	mode mmapfile.Mode
}

func (k kind) file(id string) string {
	return mmapfile.Name{Type: k.typ, Mode: k.mode, ID: id}.String()
}

// entry is an entry of a worker's files that only grows.
type entry struct {
	kind
	key string
	// after is what n updates of goroutine g add up to.
	after func(g, n int) float64
}

// totals are values of all entries.
type totals [len(entries)]float64

func (t *totals) add(o *totals) {
	for i := range t {
		t[i] += o[i]
	}
}

// sample is a line of the exposition and the entries that it is the sum of.
type sample struct {
	line string
	of   []int
}

var (
	counter   = kind{typ: mmapfile.Counter}
	histogram = kind{typ: mmapfile.Histogram}
	summary   = kind{typ: mmapfile.Summary}
	sumGauge  = kind{mmapfile.Gauge, mmapfile.Sum}
	maxGauge  = kind{mmapfile.Gauge, mmapfile.Max}
	latest    = kind{mmapfile.Gauge, mmapfile.MostRecent}
	liveAll   = kind{mmapfile.Gauge, mmapfile.LiveAll}
	liveSum   = kind{mmapfile.Gauge, mmapfile.LiveSum}

	// kinds are the files that a worker has, in the order in which it opens them.
	kinds = []kind{counter, histogram, summary, sumGauge, maxGauge, latest, liveAll, liveSum}
)

// longHelp makes a file of counters grow past its first page.
var longHelp = strings.Repeat("Long. ", 250)

var entries = [...]entry{
	{counter, key("chaos_ops", "chaos_ops_total", "", longHelp), every},
	{counter, key("chaos_shard", "chaos_shard_total", `"shard": "0"`, longHelp), only(0)},
	{counter, key("chaos_shard", "chaos_shard_total", `"shard": "1"`, longHelp), only(1)},
	{counter, key("chaos_shard", "chaos_shard_total", `"shard": "2"`, longHelp), only(2)},
	{histogram, key("chaos_seen", "chaos_seen_bucket", `"le": "0.5"`, "Seen."), third(0)},
	{histogram, key("chaos_seen", "chaos_seen_bucket", `"le": "1.5"`, "Seen."), third(1)},
	{histogram, key("chaos_seen", "chaos_seen_bucket", `"le": "+Inf"`, "Seen."), third(2)},
	{histogram, key("chaos_seen", "chaos_seen_sum", "", "Seen."), func(g, n int) float64 { return third(1)(g, n) + 2*third(2)(g, n) }},
	{summary, key("chaos_took", "chaos_took_count", "", "Took."), every},
	{summary, key("chaos_took", "chaos_took_sum", "", "Took."), func(_, n int) float64 { return 2 * float64(n) }},
	{sumGauge, key("chaos_held", "chaos_held", "", "Held."), every},
}

var samples = []sample{
	{"chaos_ops_total", []int{0}},
	{`chaos_shard_total{shard="0"}`, []int{1}},
	{`chaos_shard_total{shard="1"}`, []int{2}},
	{`chaos_shard_total{shard="2"}`, []int{3}},
	{`chaos_seen_bucket{le="0.5"}`, []int{4}},
	{`chaos_seen_bucket{le="1.5"}`, []int{4, 5}},
	{`chaos_seen_bucket{le="+Inf"}`, []int{4, 5, 6}},
	{"chaos_seen_count", []int{4, 5, 6}},
	{"chaos_seen_sum", []int{7}},
	{"chaos_took_count", []int{8}},
	{"chaos_took_sum", []int{9}},
	{"chaos_held", []int{10}},
}

// value is what a sample is, of entries with these values.
func (s sample) value(t *totals) (v float64) {
	for _, i := range s.of {
		v += t[i]
	}
	return v
}

// The gauges that do not only grow, of which a worker has one entry each.
var (
	maxKey     = key("chaos_newest", "chaos_newest", "", "The newest time of all.")
	latestKey  = key("chaos_latest", "chaos_latest", "", "The time set last.")
	liveAllKey = key("chaos_serial", "chaos_serial", "", "Each living worker's number.")
	liveSumKey = key("chaos_living", "chaos_living", "", "How many workers live.")
)

func key(family, sample, labels, help string) string {
	return fmt.Sprintf(`["%s", "%s", {%s}, "%s"]`, family, sample, labels, help)
}

func every(_, n int) float64 { return float64(n) }

// only counts the updates of one goroutine.
func only(shard int) func(g, n int) float64 {
	return func(g, n int) float64 {
		if g != shard {
			return 0
		}
		return float64(n)
	}
}

// third counts every third update, from which on.
func third(which int) func(g, n int) float64 {
	return func(_, n int) float64 { return float64((n + 2 - which) / 3) }
}
