// Package collectors has the collectors that most programs want: the process as
// the kernel sees it, the Go runtime, and the platform. Register them in every
// worker:
//
//	client.MustRegister(
//		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
//		collectors.NewGoCollector(),
//		collectors.NewPlatformCollector(),
//	)
//
// Families are named, typed and described as client_golang's collectors do, so
// that its dashboards and alerts go on working, but a family now speaks for all
// workers:
//
//   - What only grows (CPU time, allocations, collections) is a counter or a
//     summary, summed over all workers that ever were: recycling one is no reset.
//   - What there is a quantity of (memory, descriptors, goroutines) is a gauge of
//     mode livesum: that of the living workers together. Memory that workers
//     share is in each one's resident memory, and so in the sum more than once.
//   - What has no sensible sum is served as it is: process_start_time_seconds per
//     worker (liveall, so that counting its series counts workers); settings and
//     the time of the last collection as the greatest among the workers (livemax);
//     the infos once for each distinct set of labels (livemax, too).
//
// With the option for it, the livesum and livemax gauges, infos excepted, are
// liveall: a series per living worker, told apart by the label "pid".
//
// What a platform does not tell is left out: without /proc, as on macOS, there
// are no process metrics. Values are as old as the registry's interval.
package collectors

import "github.com/promagg/promagg/pkg/client"

// metric is a family of one series and how it is said.
type metric struct {
	desc *client.Desc
	typ  client.ValueType
}

func counter(name, help string) metric {
	return metric{client.NewDesc(name, help, nil, nil), client.CounterValue}
}

// gauge is a gauge of mode m, or a series per worker.
func gauge(name, help string, m client.Mode, perProcess bool) metric {
	if perProcess {
		m = client.ModeLiveAll
	}
	return metric{client.NewDesc(name, help, nil, nil).WithMode(m), client.GaugeValue}
}

func (m metric) send(ch chan<- client.Metric, v float64) {
	ch <- client.MustNewConstMetric(m.desc, m.typ, v)
}

// info is a constant 1, served once however many workers say it.
type info struct{ desc *client.Desc }

func newInfo(name, help string, labels client.Labels) info {
	return info{client.NewDesc(name, help, nil, labels).WithMode(client.ModeLiveMax)}
}

func (i info) Describe(ch chan<- *client.Desc) { ch <- i.desc }

func (i info) Collect(ch chan<- client.Metric) {
	ch <- client.MustNewConstMetric(i.desc, client.GaugeValue, 1)
}
