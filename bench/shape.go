package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// shape is a kind of directory to measure.
type shape struct {
	name  string
	about string
	// bytes is how much space a directory takes, at most.
	bytes func(writers, entries int) int64
	// build fills an empty directory, with a writer of our own.
	build func(dir string, writers, entries int, seed uint64) (truth, error)
	// buildPython does the same with the Python client.
	buildPython func(ctx context.Context, py python, dir string, writers, entries int, seed uint64) (truth, error)
}

var shapes = []shape{{
	name:        "L",
	about:       "every writer has all series of one counter family with three labels",
	bytes:       counterBytes,
	build:       buildCounters,
	buildPython: buildCountersPython,
}}

// truth is what the generator wrote. All values are integers that add up to
// less than 2^53, so the totals are exact in whatever order they are summed.
type truth struct {
	known bool // false for a directory that was found, not built

	entries int     // in all files
	sum     float64 // of the entries' values
	samples int     // lines of a correct exposition
	total   float64 // of their values
}

// initialSize is what the Python client gives a new file, before it doubles it.
const initialSize = 64 << 10

// maxValue bounds values: what a worker counts in a few hours.
const maxValue = 1_000_000

const (
	counterFamily = "http_requests"
	counterHelp   = "Total number of HTTP requests served."
)

// counterLabels are the labels of the i-th series, sorted by name.
func counterLabels(i int) [3][2]string {
	methods := []string{"GET", "POST", "PUT", "DELETE"}
	statuses := []string{"200", "201", "302", "404", "500"}
	things := []string{"accounts", "orders", "products", "invoices", "sessions", "search", "carts", "reviews"}
	status := statuses[i%len(statuses)]
	i /= len(statuses)
	method := methods[i%len(methods)]
	i /= len(methods)
	path := "/api/v1/" + things[i%len(things)] + "/{id}/page/" + strconv.Itoa(i/len(things))
	return [3][2]string{{"method", method}, {"path", path}, {"status", status}}
}

// counterKey is the key of the i-th series, byte for byte as the Python client
// spells it.
func counterKey(i int) []byte {
	var labels []string
	for _, l := range counterLabels(i) {
		labels = append(labels, fmt.Sprintf("%q: %q", l[0], l[1]))
	}
	return fmt.Appendf(nil, "[%q, %q, {%s}, %q]", counterFamily, counterFamily+"_total", strings.Join(labels, ", "), counterHelp)
}

// counterWriter is the id of the i-th writer.
func counterWriter(i int) string { return strconv.Itoa(1000 + i) }

// counterBytes counts an entry as its key and 20 bytes: length, padding, value.
func counterBytes(writers, entries int) int64 {
	used := int64(0)
	for i := range entries {
		used += int64(len(counterKey(i))) + 20
	}
	size := int64(initialSize)
	for size < used {
		size *= 2
	}
	return size * int64(writers)
}

func counterTruth(writers, entries int, sum float64) truth {
	return truth{known: true, entries: writers * entries, sum: sum, samples: entries, total: sum}
}

// buildCounters writes value-only files, which the Python client in Debian reads
// as well as the newest one.
func buildCounters(dir string, writers, entries int, seed uint64) (truth, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	keys := make([][]byte, entries)
	for i := range keys {
		keys[i] = counterKey(i)
	}
	sum := 0.0
	for i := range writers {
		name := mmapfile.Name{Type: mmapfile.Counter, ID: counterWriter(i)}
		w, err := mmapfile.Create(filepath.Join(dir, name.String()), mmapfile.ValueOnly, initialSize)
		if err != nil {
			return truth{}, err
		}
		for _, key := range keys {
			at, err := w.Append(key)
			if err != nil {
				_ = w.Close() // the first error says what is wrong
				return truth{}, err
			}
			v := float64(r.IntN(maxValue))
			w.Set(at, v)
			sum += v
		}
		if err := w.Close(); err != nil {
			return truth{}, err
		}
	}
	return counterTruth(writers, entries, sum), nil
}

//go:embed generate.py
var generateScript string

// buildCountersPython has the Python client write the same keys.
func buildCountersPython(ctx context.Context, py python, dir string, writers, entries int, seed uint64) (truth, error) {
	order := struct {
		Family     string     `json:"family"`
		Help       string     `json:"help"`
		LabelNames []string   `json:"label_names"`
		Labels     [][]string `json:"labels"`
		Writers    []string   `json:"writers"`
		MaxValue   int        `json:"max_value"`
		Seed       uint64     `json:"seed"`
	}{Family: counterFamily, Help: counterHelp, MaxValue: maxValue, Seed: seed}
	for _, l := range counterLabels(0) {
		order.LabelNames = append(order.LabelNames, l[0])
	}
	for i := range entries {
		var values []string
		for _, l := range counterLabels(i) {
			values = append(values, l[1])
		}
		order.Labels = append(order.Labels, values)
	}
	for i := range writers {
		order.Writers = append(order.Writers, counterWriter(i))
	}
	text, err := json.Marshal(order)
	if err != nil {
		return truth{}, err
	}
	cmd := exec.CommandContext(ctx, py.path, "-c", generateScript)
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir)
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return truth{}, fmt.Errorf("generate.py: %w", err)
	}
	var sum float64
	if err := json.Unmarshal(out, &sum); err != nil {
		return truth{}, fmt.Errorf("generate.py: %w", err)
	}
	return counterTruth(writers, entries, sum), nil
}
