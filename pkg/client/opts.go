package client

import (
	"fmt"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Opts are what all metrics are named by. The name of a metric is Namespace,
// Subsystem, Name and Unit, joined by "_"; Name must be set, and Unit is not
// added twice.
type Opts struct {
	Namespace string
	Subsystem string
	Name      string
	Unit      string // such as "seconds" or "bytes"
	Help      string
	// ConstLabels are the same for all series of the metric, in all processes.
	ConstLabels Labels
}

func (o Opts) desc(labelNames []string) *Desc {
	name := BuildFQName(o.Namespace, o.Subsystem, o.Name)
	if base, total := strings.CutSuffix(name, "_total"); o.Unit != "" && name != "" && !strings.HasSuffix(base, "_"+o.Unit) {
		if name = base + "_" + o.Unit; total {
			name += "_total"
		}
	}
	return NewDesc(name, o.Help, labelNames, o.ConstLabels)
}

// CounterOpts are the options of a counter.
type CounterOpts Opts

// SummaryOpts are the options of a summary.
type SummaryOpts Opts

// GaugeOpts are the options of a gauge.
type GaugeOpts struct {
	Namespace   string
	Subsystem   string
	Name        string
	Unit        string
	Help        string
	ConstLabels Labels
	// Mode says how the values of several processes become one. The zero Mode is
	// ModeAll: a series per process, told apart by the label "pid".
	Mode Mode
}

func (o GaugeOpts) named() Opts {
	return Opts{o.Namespace, o.Subsystem, o.Name, o.Unit, o.Help, o.ConstLabels}
}

// HistogramOpts are the options of a histogram.
type HistogramOpts struct {
	Namespace   string
	Subsystem   string
	Name        string
	Unit        string
	Help        string
	ConstLabels Labels
	// Buckets are the upper bounds, inclusive, in increasing order; +Inf may be
	// left out. The default is DefBuckets.
	Buckets []float64
}

// Mode says how the values that several processes have for a gauge become one.
// The live modes count living processes only.
type Mode uint8

// The modes of gauges.
const (
	ModeAll Mode = iota // a series per process that ever was, label "pid"
	ModeLiveAll
	ModeMin
	ModeLiveMin
	ModeMax
	ModeLiveMax
	ModeSum
	ModeLiveSum
	ModeMostRecent // the value that was set last
	ModeLiveMostRecent
)

// String returns the mode as the value file has it: "all", "livesum".
func (m Mode) String() string { return m.file().String() }

func (m Mode) file() mmapfile.Mode {
	modes := mmapfile.Modes()
	if int(m) >= len(modes) {
		panic(fmt.Sprintf("client: gauge mode %d is none of the %d there are", m, len(modes)))
	}
	return modes[m]
}
