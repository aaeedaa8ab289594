package client

import (
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Gauge is a value that goes up and down. Its mode says what is served where
// several processes have one. It is safe for concurrent use; each method is one
// atomic operation, or two in the mostrecent modes, which note the time as well.
type Gauge interface {
	Metric
	Collector
	placed
	Set(v float64)
	Inc()
	Dec()
	Add(v float64)
	Sub(v float64)
	// SetToCurrentTime sets the gauge to the time in Unix seconds.
	SetToCurrentTime()
}

// GaugeVec is a family of gauges.
type GaugeVec = MetricVec[Gauge]

type gauge struct {
	cell
	*family[Gauge]
}

// recentGauge is a gauge of which the process that set it last is served.
type recentGauge struct {
	gauge
	stamp cell
}

// NewGauge returns a gauge. Register it before use.
func NewGauge(opts GaugeOpts) Gauge {
	return NewGaugeVec(opts, nil).WithLabelValues()
}

// NewGaugeVec returns a family of gauges with these labels.
func NewGaugeVec(opts GaugeOpts, labelNames []string) *GaugeVec {
	mode := opts.Mode.file()
	desc := opts.named().desc(labelNames)
	if desc.err == nil {
		desc.err = desc.checkPID()
	}
	var f *family[Gauge]
	f = newFamily(desc, kind{mmapfile.Gauge, mode}, false, func([]string) Gauge {
		if mode.Base() == mmapfile.MostRecent {
			g := &recentGauge{gauge: gauge{family: f}}
			g.init()
			g.stamp.init()
			return g
		}
		g := &gauge{family: f}
		g.init()
		return g
	})
	return &GaugeVec{family: f}
}

func (g *gauge) Set(v float64) {
	at := g.at.Load()
	at.Set(v)
	if g.at.Load() != at {
		g.set(&g.cell, at, v)
	}
}

func (g *gauge) Inc()              { g.at.Load().Add(1) }
func (g *gauge) Dec()              { g.at.Load().Add(-1) }
func (g *gauge) Add(v float64)     { g.at.Load().Add(v) }
func (g *gauge) Sub(v float64)     { g.at.Load().Add(-v) }
func (g *gauge) SetToCurrentTime() { g.Set(unixSeconds(time.Now())) }
func (g *gauge) places() []place   { return []place{{cell: &g.cell}} }

func (g *gauge) holds(one *cell) bool { return one == &g.cell }

func (g *recentGauge) Set(v float64) {
	g.gauge.Set(v)
	g.touch()
}

func (g *recentGauge) Add(v float64) {
	g.gauge.Add(v)
	g.touch()
}

func (g *recentGauge) touch()            { g.stamp.at.Load().Set(unixSeconds(time.Now())) }
func (g *recentGauge) Inc()              { g.Add(1) }
func (g *recentGauge) Dec()              { g.Add(-1) }
func (g *recentGauge) Sub(v float64)     { g.Add(-v) }
func (g *recentGauge) SetToCurrentTime() { g.Set(unixSeconds(time.Now())) }
func (g *recentGauge) places() []place   { return []place{{cell: &g.cell, stamp: &g.stamp}} }

func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
