// Package client is how a Go program that runs as several processes keeps
// metrics that promagg, or any reader of the Python client's multiprocess
// format, serves as one. Who knows client_golang knows it: the metrics, option
// structs and vectors have the same names.
//
//	var requests = client.NewCounterVec(
//		client.CounterOpts{Name: "http_requests_total", Help: "Requests served."},
//		[]string{"path", "code"})
//
//	func main() {
//		client.MustRegister(requests)
//		defer client.Close()
//		…
//		requests.WithLabelValues("/", "200").Inc()
//	}
//
// With PROMETHEUS_MULTIPROC_DIR set, each process writes its values to its own
// memory-mapped files there. Without, the same code keeps them in the process.
//
// # What an update costs, and what a crash loses
//
// Inc, Add, Set and Observe are one atomic operation each in memory that the
// kernel keeps when the process is gone (Observe two, one for the bucket and one
// for the sum): no lock, no allocation, no system call. An update that has
// returned is never lost, whatever kills the process; only the machine's own end
// loses what a file system in memory loses. A look-up by label values takes no
// lock and allocates nothing either.
//
// # Gauges
//
// The processes' values of a gauge become one by its Mode: all of them told
// apart by a label "pid", or their sum, least, greatest or latest. The live modes
// leave out processes that have ended. ModeLiveSum suits what is in progress,
// ModeLiveAll the state of each process, ModeMostRecent what all of them learn
// from elsewhere, such as a configuration's version.
//
// # Processes
//
// A process is named by its PID, or by PROMAGG_PROCESS_ID or [Options], as pods
// that share a volume need. It locks its files. If a living process has its name,
// it takes the next free one ("7.1"); where a dead one left files under it,
// counters, histograms and summaries go on from there and gauges begin anew. A name
// that no file can have, or that is promagg's own, is a fault like those below.
//
// # Faults
//
// A full disk, a directory that is missing, read-only or deleted never stops the
// program: what has no place in a file is kept in the process, [Err] says why,
// and one line is logged. Space is reserved before it is mapped, so a full disk
// is an error when a series is made, never a SIGBUS later.
//
// # Values that something else knows
//
// No scrape reaches a worker, so a [Collector] of one's own, a [CounterFunc] or
// [GaugeFunc] is asked at an interval, 5 s by default, and at Close.
package client
