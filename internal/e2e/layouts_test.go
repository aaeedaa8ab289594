package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestValueOnlyBesideTimestamped: what an old client left lies in one directory
// with what a new client left, as after an upgrade. Files of both layouts merge
// into what the two clients' own collectors said, taken together.
func TestValueOnlyBesideTimestamped(t *testing.T) {
	for _, archives := range [][]string{
		{"py-0.16.0", "py-0.25.0"},
		{"py-0.6.0", "py-0.20.0"},
		{"py-0.6.0", "py-0.9.0", "py-0.16.0", "py-0.25.0"}, // keys with and without help
	} {
		t.Run(strings.Join(archives, "+"), func(t *testing.T) {
			dir := t.TempDir()
			var parts [][]family
			for i, name := range archives {
				// The processes of all archives have the same few PIDs.
				prefix := strconv.Itoa(i + 1)
				parts = append(parts, withPidPrefix(unpackFixture(t, name, dir, prefix), prefix))
			}
			want := expositionOf(t, addFamilies(parts))
			for what, got := range map[string]exposition{
				"serve": serve(t, dir, "--liveness", "off").ready(t).scrape(t),
				"merge": merge(t, dir, "--liveness", "off"),
			} {
				checkSamples(t, what, got.samples, want.samples)
				if diff := cmp.Diff(want.types, got.types); diff != "" {
					t.Errorf("%s: types (-clients +promagg):\n%s", what, diff)
				}
			}
		})
	}
}

// TestValueOnlyWorkerBesideTimestamped: the same while a worker of an old client is at work.
func TestValueOnlyWorkerBesideTimestamped(t *testing.T) {
	testpeer.Require(t, testpeer.Python)
	dir := t.TempDir()
	families := unpackFixture(t, "py-0.25.0", dir, "1")
	i := slices.IndexFunc(families, func(f family) bool { return f.Name == "plain" })
	before := families[i].Samples[0].value
	p := serve(t, dir, "--liveness", "off").ready(t)
	w := startWorker(t, python(dir, "worker.py"))
	for n := 1.0; n <= 10; n++ {
		w.send(t, op{Op: "inc", Type: "counter", Name: "plain", Value: 1}.String())
		w.ask(t, op{Op: "sync"}.String())
		if got := p.scrape(t).samples[sampleKey("plain_total", nil)]; got != before+n {
			t.Fatalf("plain_total is %v, want %v of the old files and %v of the worker", got, before, n)
		}
	}
}

// unpackFixture puts the value files of an archive into dir, with the prefix in
// front of each writer's PID, and returns what the client's collector read from them.
func unpackFixture(t *testing.T, name, dir, prefix string) []family {
	t.Helper()
	files := fixture.Files(t, name)
	for path, content := range files {
		dirName, base := filepath.Split(path)
		if dirName != "db/" {
			continue
		}
		i := strings.LastIndexByte(base, '_') + 1
		if err := os.WriteFile(filepath.Join(dir, base[:i]+prefix+base[i:]), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var families []family
	if err := json.Unmarshal(files["expected.json"], &families); err != nil {
		t.Fatal(err)
	}
	if len(families) == 0 {
		t.Fatalf("archive %s has no expected.json", name)
	}
	return families
}

func withPidPrefix(families []family, prefix string) []family {
	for _, f := range families {
		for _, s := range f.Samples {
			if pid, ok := s.labels["pid"]; ok {
				s.labels["pid"] = prefix + pid
			}
		}
	}
	return families
}

// addFamilies merges what several collectors have already merged.
func addFamilies(parts [][]family) []family {
	byName := map[string]*family{}
	histograms := map[string][]cumulative{}
	sums := map[string]map[string]*sample{} // by family and sampleKey
	for _, families := range parts {
		for _, f := range families {
			if byName[f.Name] == nil {
				byName[f.Name] = &family{Name: f.Name, Type: f.Type, Help: f.Help}
				sums[f.Name] = map[string]*sample{}
			}
			if f.Type == "histogram" {
				histograms[f.Name] = append(histograms[f.Name], cumulativeOf(f)...)
			}
			for _, s := range f.Samples {
				if strings.HasSuffix(s.name, "_bucket") {
					continue
				}
				key := sampleKey(s.name, s.labels)
				if have := sums[f.Name][key]; have == nil {
					sums[f.Name][key] = &s
				} else {
					have.value = mergedGauge(mergeMode(f, s), []float64{have.value, s.value})
				}
			}
		}
	}
	var all []family
	for name, f := range byName {
		for _, s := range sums[name] {
			f.Samples = append(f.Samples, *s)
		}
		f.Samples = append(f.Samples, addBuckets(name, histograms[name])...)
		all = append(all, *f)
	}
	return all
}

// mergeMode is how two values of one series come together. The fixtures' gauges
// end their names in their modes; those with a pid label never meet, and the
// mostrecent modes are in the newest client's files only.
func mergeMode(f family, s sample) string {
	if f.Type != "gauge" {
		return "sum"
	}
	_, mode, _ := strings.Cut(strings.TrimPrefix(f.Name, "g_"), "nolabel_")
	if mode == "" {
		mode = strings.TrimPrefix(f.Name, "g_")
	}
	mode = strings.TrimPrefix(mode, "live")
	if !slices.Contains([]string{"min", "max", "sum"}, mode) {
		panic(fmt.Sprintf("the fixtures have %s%v twice", s.name, s.labels))
	}
	return mode
}

// cumulative holds the buckets of one histogram series of one part.
type cumulative struct {
	labels map[string]string // without le
	counts map[float64]float64
}

func cumulativeOf(f family) []cumulative {
	bySeries := map[string]*cumulative{}
	for _, s := range f.Samples {
		le, ok := s.labels["le"]
		if !ok {
			continue
		}
		bound, err := strconv.ParseFloat(le, 64)
		if err != nil {
			panic(err)
		}
		labels := map[string]string{}
		for k, v := range s.labels {
			if k != "le" {
				labels[k] = v
			}
		}
		key := sampleKey(f.Name, labels)
		if bySeries[key] == nil {
			bySeries[key] = &cumulative{labels: labels, counts: map[float64]float64{}}
		}
		bySeries[key].counts[bound] = s.value
	}
	var all []cumulative
	for _, c := range bySeries {
		all = append(all, *c)
	}
	return all
}

// at is the count at a bound that another part may have and this one has not.
func (c cumulative) at(bound float64) float64 {
	below := math.Inf(-1)
	for b := range c.counts {
		if b <= bound && b >= below {
			below = b
		}
	}
	return c.counts[below]
}

func addBuckets(family string, parts []cumulative) []sample {
	bySeries := map[string][]cumulative{}
	for _, c := range parts {
		key := sampleKey(family, c.labels)
		bySeries[key] = append(bySeries[key], c)
	}
	var samples []sample
	for _, parts := range bySeries {
		union := map[float64]bool{}
		for _, c := range parts {
			for bound := range c.counts {
				union[bound] = true
			}
		}
		for bound := range union {
			s := sample{name: family + "_bucket", labels: map[string]string{"le": fmt.Sprint(bound)}}
			for k, v := range parts[0].labels {
				s.labels[k] = v
			}
			for _, c := range parts {
				s.value += c.at(bound)
			}
			samples = append(samples, s)
		}
	}
	return samples
}
