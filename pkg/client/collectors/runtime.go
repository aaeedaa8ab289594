package collectors

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/promagg/promagg/pkg/client"
)

// GoCollectorOption is an option of [NewGoCollector].
type GoCollectorOption func(*goOptions)

type goOptions struct{ perProcess bool }

// WithGoCollectorPerProcess tells the workers' gauges apart instead of summing
// them.
func WithGoCollectorPerProcess() GoCollectorOption {
	return func(o *goOptions) { o.perProcess = true }
}

type goCollector struct {
	goroutines, threads, lastGC metric
	gc                          *client.Desc
	info                        info
	sampled                     []sampledMetric
	names                       []string // of the samples, in the order in which sampledMetrics need them
}

// sampledMetric is the sum of a few of the runtime's own metrics.
type sampledMetric struct {
	metric
	samples []string // names in runtime/metrics
}

// NewGoCollector returns a collector of the Go runtime's goroutines, threads,
// memory and garbage collection: client_golang's families in its default
// settings. go_gc_duration_seconds has no quantiles, as those of several
// processes can't be merged.
func NewGoCollector(opts ...GoCollectorOption) client.Collector {
	var o goOptions
	for _, opt := range opts {
		opt(&o)
	}
	c := &goCollector{
		goroutines: gauge("go_goroutines", "Number of goroutines that currently exist.", client.ModeLiveSum, o.perProcess),
		threads:    gauge("go_threads", "Number of OS threads created.", client.ModeLiveSum, o.perProcess),
		lastGC:     gauge("go_memstats_last_gc_time_seconds", "Number of seconds since 1970 of last garbage collection.", client.ModeLiveMax, o.perProcess),
		gc:         client.NewDesc("go_gc_duration_seconds", "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.", nil, nil),
		info:       newInfo("go_info", "Information about the Go environment.", client.Labels{"version": runtime.Version()}),
	}
	known := make(map[string]bool)
	for _, d := range metrics.All() {
		known[d.Name] = d.Kind == metrics.KindUint64
	}
family:
	for _, f := range families {
		for _, name := range f.samples {
			if !known[name] {
				continue family // another version of Go
			}
		}
		m := counter(f.name, f.help)
		if !f.counter {
			m = gauge(f.name, f.help, f.mode, o.perProcess)
		}
		c.sampled = append(c.sampled, sampledMetric{m, f.samples})
		c.names = append(c.names, f.samples...)
	}
	return c
}

func (c *goCollector) Describe(ch chan<- *client.Desc) {
	for _, m := range []metric{c.goroutines, c.threads, c.lastGC} {
		ch <- m.desc
	}
	ch <- c.gc
	ch <- c.info.desc
	for _, m := range c.sampled {
		ch <- m.desc
	}
}

func (c *goCollector) Collect(ch chan<- client.Metric) {
	c.goroutines.send(ch, float64(runtime.NumGoroutine()))
	threads, _ := runtime.ThreadCreateProfile(nil)
	c.threads.send(ch, float64(threads))

	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	ch <- client.MustNewConstSummary(c.gc, uint64(gc.NumGC), gc.PauseTotal.Seconds(), nil)
	c.lastGC.send(ch, float64(gc.LastGC.UnixNano())/1e9)
	c.info.Collect(ch)

	// All in one read, so that they agree with one another.
	samples := make([]metrics.Sample, len(c.names))
	for i, name := range c.names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for _, m := range c.sampled {
		sum := uint64(0)
		for _, s := range samples[:len(m.samples)] {
			sum += s.Value.Uint64()
		}
		samples = samples[len(m.samples):]
		m.send(ch, float64(sum))
	}
}

const (
	allocObjects = "/gc/heap/allocs:objects"
	freeObjects  = "/gc/heap/frees:objects"
	tinyObjects  = "/gc/heap/tiny/allocs:objects" // in none of the two above
	heapObjects  = "/memory/classes/heap/objects:bytes"
	heapUnused   = "/memory/classes/heap/unused:bytes"
	heapReleased = "/memory/classes/heap/released:bytes"
	heapFree     = "/memory/classes/heap/free:bytes"
	heapStacks   = "/memory/classes/heap/stacks:bytes"
	mspanInuse   = "/memory/classes/metadata/mspan/inuse:bytes"
	mcacheInuse  = "/memory/classes/metadata/mcache/inuse:bytes"
)

// families are those that runtime/metrics has the values of. The help texts are
// client_golang's to the letter, since a family of two help texts, one from a
// worker with this collector and one from another, is a conflict.
var families = []struct {
	name, help string
	counter    bool
	mode       client.Mode // of a gauge
	samples    []string
}{
	{name: "go_memstats_alloc_bytes", mode: client.ModeLiveSum, samples: []string{heapObjects},
		help: "Number of bytes allocated in heap and currently in use. Equals to /memory/classes/heap/objects:bytes."},
	{name: "go_memstats_alloc_bytes_total", counter: true, samples: []string{"/gc/heap/allocs:bytes"},
		help: "Total number of bytes allocated in heap until now, even if released already. Equals to /gc/heap/allocs:bytes."},
	{name: "go_memstats_sys_bytes", mode: client.ModeLiveSum, samples: []string{"/memory/classes/total:bytes"},
		help: "Number of bytes obtained from system. Equals to /memory/classes/total:byte."},
	{name: "go_memstats_mallocs_total", counter: true, samples: []string{allocObjects, tinyObjects},
		help: "Total number of heap objects allocated, both live and gc-ed. Semantically a counter version for go_memstats_heap_objects gauge. Equals to /gc/heap/allocs:objects + /gc/heap/tiny/allocs:objects."},
	{name: "go_memstats_frees_total", counter: true, samples: []string{freeObjects, tinyObjects},
		help: "Total number of heap objects frees. Equals to /gc/heap/frees:objects + /gc/heap/tiny/allocs:objects."},
	{name: "go_memstats_heap_alloc_bytes", mode: client.ModeLiveSum, samples: []string{heapObjects},
		help: "Number of heap bytes allocated and currently in use, same as go_memstats_alloc_bytes. Equals to /memory/classes/heap/objects:bytes."},
	{name: "go_memstats_heap_sys_bytes", mode: client.ModeLiveSum, samples: []string{heapObjects, heapUnused, heapReleased, heapFree},
		help: "Number of heap bytes obtained from system. Equals to /memory/classes/heap/objects:bytes + /memory/classes/heap/unused:bytes + /memory/classes/heap/released:bytes + /memory/classes/heap/free:bytes."},
	{name: "go_memstats_heap_idle_bytes", mode: client.ModeLiveSum, samples: []string{heapReleased, heapFree},
		help: "Number of heap bytes waiting to be used. Equals to /memory/classes/heap/released:bytes + /memory/classes/heap/free:bytes."},
	{name: "go_memstats_heap_inuse_bytes", mode: client.ModeLiveSum, samples: []string{heapObjects, heapUnused},
		help: "Number of heap bytes that are in use. Equals to /memory/classes/heap/objects:bytes + /memory/classes/heap/unused:bytes"},
	{name: "go_memstats_heap_released_bytes", mode: client.ModeLiveSum, samples: []string{heapReleased},
		help: "Number of heap bytes released to OS. Equals to /memory/classes/heap/released:bytes."},
	{name: "go_memstats_heap_objects", mode: client.ModeLiveSum, samples: []string{"/gc/heap/objects:objects"},
		help: "Number of currently allocated objects. Equals to /gc/heap/objects:objects."},
	{name: "go_memstats_stack_inuse_bytes", mode: client.ModeLiveSum, samples: []string{heapStacks},
		help: "Number of bytes obtained from system for stack allocator in non-CGO environments. Equals to /memory/classes/heap/stacks:bytes."},
	{name: "go_memstats_stack_sys_bytes", mode: client.ModeLiveSum, samples: []string{heapStacks, "/memory/classes/os-stacks:bytes"},
		help: "Number of bytes obtained from system for stack allocator. Equals to /memory/classes/heap/stacks:bytes + /memory/classes/os-stacks:bytes."},
	{name: "go_memstats_mspan_inuse_bytes", mode: client.ModeLiveSum, samples: []string{mspanInuse},
		help: "Number of bytes in use by mspan structures. Equals to /memory/classes/metadata/mspan/inuse:bytes."},
	{name: "go_memstats_mspan_sys_bytes", mode: client.ModeLiveSum, samples: []string{mspanInuse, "/memory/classes/metadata/mspan/free:bytes"},
		help: "Number of bytes used for mspan structures obtained from system. Equals to /memory/classes/metadata/mspan/inuse:bytes + /memory/classes/metadata/mspan/free:bytes."},
	{name: "go_memstats_mcache_inuse_bytes", mode: client.ModeLiveSum, samples: []string{mcacheInuse},
		help: "Number of bytes in use by mcache structures. Equals to /memory/classes/metadata/mcache/inuse:bytes."},
	{name: "go_memstats_mcache_sys_bytes", mode: client.ModeLiveSum, samples: []string{mcacheInuse, "/memory/classes/metadata/mcache/free:bytes"},
		help: "Number of bytes used for mcache structures obtained from system. Equals to /memory/classes/metadata/mcache/inuse:bytes + /memory/classes/metadata/mcache/free:bytes."},
	{name: "go_memstats_buck_hash_sys_bytes", mode: client.ModeLiveSum, samples: []string{"/memory/classes/profiling/buckets:bytes"},
		help: "Number of bytes used by the profiling bucket hash table. Equals to /memory/classes/profiling/buckets:bytes."},
	{name: "go_memstats_gc_sys_bytes", mode: client.ModeLiveSum, samples: []string{"/memory/classes/metadata/other:bytes"},
		help: "Number of bytes used for garbage collection system metadata. Equals to /memory/classes/metadata/other:bytes."},
	{name: "go_memstats_other_sys_bytes", mode: client.ModeLiveSum, samples: []string{"/memory/classes/other:bytes"},
		help: "Number of bytes used for other system allocations. Equals to /memory/classes/other:bytes."},
	{name: "go_memstats_next_gc_bytes", mode: client.ModeLiveSum, samples: []string{"/gc/heap/goal:bytes"},
		help: "Number of heap bytes when next garbage collection will take place. Equals to /gc/heap/goal:bytes."},
	{name: "go_sched_gomaxprocs_threads", mode: client.ModeLiveSum, samples: []string{"/sched/gomaxprocs:threads"},
		help: "The current runtime.GOMAXPROCS setting, or the number of operating system threads that can execute user-level Go code simultaneously. Sourced from /sched/gomaxprocs:threads."},
	{name: "go_gc_gogc_percent", mode: client.ModeLiveMax, samples: []string{"/gc/gogc:percent"},
		help: "Heap size target percentage configured by the user, otherwise 100. This value is set by the GOGC environment variable, and the runtime/debug.SetGCPercent function. Sourced from /gc/gogc:percent."},
	{name: "go_gc_gomemlimit_bytes", mode: client.ModeLiveMax, samples: []string{"/gc/gomemlimit:bytes"},
		help: "Go runtime memory limit configured by the user, otherwise math.MaxInt64. This value is set by the GOMEMLIMIT environment variable, and the runtime/debug.SetMemoryLimit function. Sourced from /gc/gomemlimit:bytes."},
}
