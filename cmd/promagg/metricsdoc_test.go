package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/promagg/promagg/internal/limit"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// seen is a look that has found a worker.
type seen struct{ view procs.View }

func (s *seen) Run(context.Context) {}
func (s *seen) Last() *procs.View   { return &s.view }

// allFamilies are all families that promagg can have of itself, with each way of
// serving workers' processes, by name; the metrics of all ways together.
func allFamilies(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: t.TempDir()})
	defer d.Close()
	if _, err := d.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*dto.MetricFamily)
	for _, mode := range []string{workersSummed, workersEach} {
		p := &procMetrics{mode: newWorkersChoice(mode), workers: []looker{&seen{procs.View{Begun: time.Now(), CPU: 1, Ever: true,
			Workers: []procs.Worker{{ID: "1", PID: 1, State: mmapfile.Alive, Start: 1, CPU: 1, Resident: 1, Threads: 1, Descriptors: 1}}}}}}
		own, err := newOwnProcess().Gather()
		if err != nil {
			t.Fatal(err)
		}
		p.own.Store(&own)
		got := lawful(t, newSelf(multiproc.NewGroup(d), "app", newWebMetrics(limit.NewListener(nil, 0)), p))
		for _, f := range got {
			if before := all[f.GetName()]; before != nil {
				f.Metric = append(slices.Clip(f.Metric), before.Metric...)
			}
			all[f.GetName()] = f
		}
	}
	return all
}

// labelsOf names the labels of a family, with their values where these are known beforehand.
func labelsOf(f *dto.MetricFamily) string {
	values := make(map[string][]string)
	for _, m := range f.Metric {
		for _, l := range m.Label {
			if !slices.Contains(values[l.GetName()], l.GetValue()) {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		slices.Sort(values[name])
		text := "`" + name + "`"
		if name != "pid" && !strings.HasSuffix(f.GetName(), "_info") {
			text += ": " + strings.Join(values[name], ", ")
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// TestMetricsDoc: docs/metrics.md has all metrics of promagg, and no others. With
// -update it is written anew from the code.
func TestMetricsDoc(t *testing.T) {
	const path, begin, end = "../../docs/metrics.md", "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", path, begin, end)
	}
	all := allFamilies(t)
	var b strings.Builder
	fmt.Fprint(&b, "\n| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		if strings.Contains(f.GetHelp(), "|") {
			t.Errorf("%s: a | in its help would end the column", name)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), labelsOf(f), f.GetHelp())
	}
	fmt.Fprintln(&b)
	if b.String() == got {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code has; make docs-metrics writes it anew (-doc +code):\n%s", path, cmp.Diff(got, b.String()))
	}
	if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestUnseenWorkers: a sum of workers that nobody can see is left out, and is not 0.
func TestUnseenWorkers(t *testing.T) {
	var unseen procs.View
	unseen.Unseen[procs.Denied] = 3
	ever := unseen
	ever.CPU, ever.Ever = 7, true
	for _, c := range []struct {
		what string
		view procs.View
		want []string
	}{
		{"nobody there", procs.View{}, []string{"promagg_worker_cpu_seconds_total 0", "promagg_worker_resident_memory_bytes 0", "promagg_worker_threads 0", "promagg_worker_open_fds 0"}},
		{"unseen", unseen, nil},
		{"some seen before", ever, []string{"promagg_worker_cpu_seconds_total 7"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			g := gathered{}
			(&procMetrics{mode: newWorkersChoice(workersSummed), workers: []looker{&seen{c.view}}}).gatherWorkers(&g, 0)
			text := textOf(t, g.families)
			if want := fmt.Sprintf("promagg_workers_unseen{reason=\"denied\"} %d\n", c.view.Unseen[procs.Denied]); !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
			for _, name := range []string{"cpu_seconds_total", "resident_memory_bytes", "open_fds", "threads", "start_time_seconds"} {
				i := slices.IndexFunc(c.want, func(line string) bool { return strings.HasPrefix(line, "promagg_worker_"+name+" ") })
				if i >= 0 && !strings.Contains(text, "\n"+c.want[i]+"\n") {
					t.Errorf("no %q in\n%s", c.want[i], text)
				}
				if i < 0 && strings.Contains(text, "promagg_worker_"+name) {
					t.Errorf("there is %s in\n%s", name, text)
				}
			}
		})
	}
}
