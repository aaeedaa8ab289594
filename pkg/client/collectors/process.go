package collectors

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"

	"github.com/promagg/promagg/pkg/client"
)

// ProcessCollectorOpts are the options of [NewProcessCollector].
type ProcessCollectorOpts struct {
	// Namespace, if not empty, goes before all names, with "_".
	Namespace string
	// PerProcess tells the workers' memory and descriptors apart instead of
	// summing them.
	PerProcess bool
}

type processCollector struct {
	cpu, openFDs, maxFDs, virtual, resident, start metric

	mu       sync.Mutex // protects what follows
	lastCPU  float64
	haveCPU  bool
	bootTime float64 // of the machine, Unix seconds; 0 until it is known
}

// NewProcessCollector returns a collector of the process's CPU time, descriptors,
// memory and start time. Of client_golang's families it lacks those that can't
// be summed over workers: the network counters, which are those of the network
// namespace, not of the process, and the limit of virtual memory.
func NewProcessCollector(opts ProcessCollectorOpts) client.Collector {
	name := func(name string) string { return client.BuildFQName(opts.Namespace, "process", name) }
	sum := func(base, help string) metric { return gauge(name(base), help, client.ModeLiveSum, opts.PerProcess) }
	return &processCollector{
		cpu:      counter(name("cpu_seconds_total"), "Total user and system CPU time spent in seconds."),
		openFDs:  sum("open_fds", "Number of open file descriptors."),
		maxFDs:   sum("max_fds", "Maximum number of open file descriptors."),
		virtual:  sum("virtual_memory_bytes", "Virtual memory size in bytes."),
		resident: sum("resident_memory_bytes", "Resident memory size in bytes."),
		start:    gauge(name("start_time_seconds"), "Start time of the process since unix epoch in seconds.", client.ModeLiveAll, true),
	}
}

func (c *processCollector) Describe(ch chan<- *client.Desc) {
	for _, m := range []metric{c.cpu, c.openFDs, c.maxFDs, c.virtual, c.resident, c.start} {
		ch <- m.desc
	}
}

func (c *processCollector) Collect(ch chan<- client.Metric) {
	stat, err := readStat("/proc/self/stat")
	// A process that is out of descriptors can't read its CPU time. A counter that
	// is left out is deleted, and the sum of all workers would fall by it; so
	// it stays where it was.
	if cpu, ok := c.cpuTime(stat, err == nil); ok {
		c.cpu.send(ch, cpu)
	}
	if err == nil {
		c.virtual.send(ch, stat.virtual)
		c.resident.send(ch, stat.resident)
		if boot := c.boot(); boot > 0 {
			c.start.send(ch, boot+stat.start)
		}
	}
	if n, err := countFDs("/proc/self/fd"); err == nil {
		c.openFDs.send(ch, float64(n))
	}
	if limits, err := os.ReadFile("/proc/self/limits"); err == nil {
		if n, err := parseMaxFDs(limits); err == nil {
			c.maxFDs.send(ch, n)
		}
	}
}

// cpuTime returns the CPU time, or the last one known.
func (c *processCollector) cpuTime(s stat, ok bool) (seconds float64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.lastCPU, c.haveCPU = s.cpu, true
	}
	return c.lastCPU, c.haveCPU
}

// boot returns when the machine was started. It is read once: the kernel takes
// long to make up /proc/stat on a machine with many processors, and derives the
// time from the clock, so that it may change with that.
func (c *processCollector) boot() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bootTime == 0 {
		if text, err := os.ReadFile("/proc/stat"); err == nil {
			c.bootTime, _ = parseBootTime(text)
		}
	}
	return c.bootTime
}

// stat is what /proc/<pid>/stat tells.
type stat struct {
	cpu      float64 // seconds
	start    float64 // seconds since the machine's
	virtual  float64 // bytes
	resident float64 // bytes
}

// userHZ is the unit of times in /proc: 1/100 s on all platforms that Go knows.
const userHZ = 100

func readStat(path string) (stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	s, err := parseStat(text, os.Getpagesize())
	if err != nil {
		return stat{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func parseStat(text []byte, pageSize int) (s stat, err error) {
	// The second field is the program's name in parentheses; it may hold spaces
	// and parentheses itself, the fields behind it can't.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return s, fmt.Errorf("want the program's name in parentheses, got %q", text)
	}
	fields := bytes.Fields(text[end+1:])
	field := func(n int) float64 { // as proc(5) numbers them
		if n -= 3; err != nil || n >= len(fields) {
			if err == nil {
				err = fmt.Errorf("want at least %d fields behind the program's name, got %d", n+1, len(fields))
			}
			return 0
		}
		var v uint64
		v, err = strconv.ParseUint(string(fields[n]), 10, 64)
		return float64(v)
	}
	s.cpu = (field(14) + field(15)) / userHZ
	s.start = field(22) / userHZ
	s.virtual = field(23)
	s.resident = field(24) * float64(pageSize)
	return s, err
}

func parseBootTime(text []byte) (float64, error) {
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(line, []byte("btime ")); ok {
			return strconv.ParseFloat(string(bytes.TrimSpace(v)), 64)
		}
	}
	return 0, fmt.Errorf("want a line btime in %d bytes, got none", len(text))
}

// parseMaxFDs returns the soft limit.
func parseMaxFDs(limits []byte) (float64, error) {
	for line := range bytes.Lines(limits) {
		rest, ok := bytes.CutPrefix(line, []byte("Max open files"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			break
		}
		if string(fields[0]) == "unlimited" {
			return math.MaxUint64, nil // client_golang's word for it
		}
		return strconv.ParseFloat(string(fields[0]), 64)
	}
	return 0, fmt.Errorf("want a line %q, got %q", "Max open files", limits)
}

// countFDs counts the descriptors that dir lists.
func countFDs(dir string) (int64, error) {
	// Since Linux 6.2 the number is the directory's size, which takes no
	// descriptor to find out.
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 {
		return info.Size(), nil
	}
	return countEntries(dir)
}

// countEntries counts the descriptors that dir lists, but the one that it takes
// to do so.
func countEntries(dir string) (int64, error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return int64(len(names)) - 1, err
}
