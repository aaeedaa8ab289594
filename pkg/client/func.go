package client

// funcCollector is a metric whose value a function tells.
type funcCollector struct {
	desc *Desc
	t    ValueType
	f    func() float64
}

// CounterFunc is a counter whose value a function tells. The function is called
// at the registry's interval and at Close.
type CounterFunc interface{ Collector }

// GaugeFunc is a gauge whose value a function tells.
type GaugeFunc interface{ Collector }

// NewCounterFunc returns a counter whose value is f's, which must not fall and
// must be safe for concurrent use.
func NewCounterFunc(opts CounterOpts, f func() float64) CounterFunc {
	return &funcCollector{Opts(opts).desc(nil), CounterValue, f}
}

// NewGaugeFunc returns a gauge whose value is f's, which must be safe for
// concurrent use. ModeAll, the zero Mode, is ModeLiveAll here: what the function
// of a process that has ended said last is of no use.
func NewGaugeFunc(opts GaugeOpts, f func() float64) GaugeFunc {
	if opts.Mode == ModeAll {
		opts.Mode = ModeLiveAll
	}
	return &funcCollector{opts.named().desc(nil).WithMode(opts.Mode), GaugeValue, f}
}

// Describe implements Collector.
func (c *funcCollector) Describe(ch chan<- *Desc) { ch <- c.desc }

// Collect implements Collector.
func (c *funcCollector) Collect(ch chan<- Metric) {
	m, err := NewConstMetric(c.desc, c.t, c.f())
	if err != nil {
		m = NewInvalidMetric(c.desc, err)
	}
	ch <- m
}
