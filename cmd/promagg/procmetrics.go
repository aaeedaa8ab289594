package main

import (
	"context"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// procMetrics are the metrics that come from /proc: those of the workers' processes,
// and those of promagg's own. They are read in the background, and a scrape has what
// was read last, for to read them takes longer than all else that a scrape does.
type procMetrics struct {
	mode    choice
	workers []looker // of each directory; nil for none
	own     atomic.Pointer[[]*dto.MetricFamily]
}

// looker is a [procs.Watch].
type looker interface {
	Run(context.Context)
	Last() *procs.View
}

func (p *procMetrics) addFlags(cmd *cobra.Command) {
	cmd.Flags().Var(&p.mode, "worker-metrics", "CPU time, memory and so on of the workers' processes, from /proc: sum, per-process (with a label pid) or off")
}

// watch looks at the processes of the directories' workers from the next run on.
func (p *procMetrics) watch(dirs *multiproc.Group) {
	p.workers = nil
	for _, dir := range dirs.Dirs() {
		if p.mode.word != workersOff {
			p.workers = append(p.workers, procs.New(dir))
		}
	}
}

// run reads what there is until ctx ends.
func (p *procMetrics) run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for _, w := range p.workers {
		workers.Go(func() { w.Run(ctx) })
	}
	tick := time.NewTicker(ownEvery)
	defer tick.Stop()
	registry := newOwnProcess()
	for {
		if families, err := registry.Gather(); err == nil { // else what was read last remains
			p.own.Store(&families)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ownEvery is how often promagg reads what its own process takes.
const ownEvery = 5 * time.Second

// newOwnProcess has the metrics of promagg's own process, which every Go program has
// under the names process_* and go_*. Those are for the application: a Go server that
// forks workers may have its own in its value files.
func newOwnProcess() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	prometheus.WrapRegistererWithPrefix("promagg_", registry).MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		// A few of the runtime's, which do not come and go with Go's versions.
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled(),
			collectors.WithoutGoCollectorRuntimeMetrics(regexp.MustCompile(".*")),
			collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile("^/memory/classes/heap/objects:bytes$")})),
	)
	return registry
}

// gather adds what was read last of promagg's own process.
func (p *procMetrics) gather(g *gathered) {
	if p == nil {
		return
	}
	if own := p.own.Load(); own != nil {
		g.families = append(g.families, *own...)
	}
}

// gatherWorkers adds what was read last of the workers of the n-th directory.
func (p *procMetrics) gatherWorkers(g *gathered, n int) {
	if p == nil || n >= len(p.workers) {
		return
	}
	view := p.workers[n].Last()
	if view == nil {
		return
	}
	unseen, blind := g.gauge("workers_unseen", "Workers that are not known to be dead and of which /proc tells nothing, by reason: "+
		"their id is no PID (id), no process of that PID has their files (hidden), this user may not look (denied)."), len(view.Workers) == 0
	for _, r := range procs.Reasons() {
		unseen.add(float64(view.Unseen[r]), "reason", r.String())
	}
	g.gauge("worker_look_timestamp_seconds", "When the look at the workers' processes began whose results are served.").add(float64(view.Begun.UnixNano()) / 1e9)
	if blind && view.Unseen != (procs.View{}).Unseen {
		// A sum of nobody is no 0. Only the CPU time of those that were seen stands.
		if view.Ever && p.mode.word == workersSummed {
			g.counter("worker_cpu_seconds_total", cpuHelp).add(view.CPU)
		}
		return
	}
	if p.mode.word == workersEach {
		g.each(view)
	} else {
		g.summed(view)
	}
}

const (
	cpuHelp         = "CPU time, user and system, that the workers' processes have used; if summed, with those that have ended since promagg was started."
	residentHelp    = "Resident memory of the workers' processes; what they share counts once for each."
	descriptorsHelp = "Open file descriptors of the workers' processes."
	threadsHelp     = "Threads of the workers' processes."
	startHelp       = "When the workers' processes were started, in Unix time; if summed, of the one that runs the longest (oldest) and of the one that came last (newest)."
)

// summed adds what the workers come to.
func (g *gathered) summed(view *procs.View) {
	var resident int64
	var threads, descriptors int
	var oldest, newest float64
	for _, w := range view.Workers {
		resident += w.Resident
		threads += w.Threads
		descriptors += max(0, w.Descriptors)
		if w.Start > 0 && (oldest == 0 || w.Start < oldest) {
			oldest = w.Start
		}
		newest = max(newest, w.Start)
	}
	g.counter("worker_cpu_seconds_total", cpuHelp).add(view.CPU)
	g.gauge("worker_resident_memory_bytes", residentHelp).add(float64(resident))
	g.gauge("worker_open_fds", descriptorsHelp).add(float64(descriptors))
	g.gauge("worker_threads", threadsHelp).add(float64(threads))
	if newest > 0 { // there is no time at which nobody was started
		start := g.gauge("worker_start_time_seconds", startHelp)
		start.add(oldest, "worker", "oldest")
		start.add(newest, "worker", "newest")
	}
}

// each adds what each worker takes.
func (g *gathered) each(view *procs.View) {
	if len(view.Workers) == 0 {
		return // a family without samples says nothing
	}
	cpu := g.counter("worker_cpu_seconds_total", cpuHelp)
	resident := g.gauge("worker_resident_memory_bytes", residentHelp)
	threads := g.gauge("worker_threads", threadsHelp)
	var descriptors, start samples
	for _, w := range view.Workers {
		cpu.add(w.CPU, "pid", w.ID)
		resident.add(float64(w.Resident), "pid", w.ID)
		threads.add(float64(w.Threads), "pid", w.ID)
		if w.Descriptors >= 0 {
			if descriptors.of == nil {
				descriptors = g.gauge("worker_open_fds", descriptorsHelp)
			}
			descriptors.add(float64(w.Descriptors), "pid", w.ID)
		}
		if w.Start > 0 {
			if start.of == nil {
				start = g.gauge("worker_start_time_seconds", startHelp)
			}
			start.add(w.Start, "pid", w.ID)
		}
	}
}

// Which metrics there are of workers' processes.
const (
	workersOff    = "off"
	workersSummed = "sum"
	workersEach   = "per-process"
)

func newWorkersChoice(word string) choice {
	return choice{word, []string{workersOff, workersSummed, workersEach}}
}
