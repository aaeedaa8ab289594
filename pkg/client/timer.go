package client

import "time"

// Timer measures a time. Make it with [NewTimer].
type Timer struct {
	begin time.Time
	o     Observer
}

// NewTimer starts a timer that will tell o, which may be nil. Typically:
//
//	defer client.NewTimer(duration).ObserveDuration()
func NewTimer(o Observer) *Timer { return &Timer{time.Now(), o} }

// ObserveDuration observes the seconds since the timer was made, and returns
// them.
func (t *Timer) ObserveDuration() time.Duration {
	d := time.Since(t.begin)
	if t.o != nil {
		t.o.Observe(d.Seconds())
	}
	return d
}

// ObserverFunc is a function as an Observer, such as a gauge's Set.
type ObserverFunc func(float64)

// Observe calls the function.
func (f ObserverFunc) Observe(v float64) { f(v) }

// Time runs f and observes how many seconds it took, whatever way it ended.
func Time(o Observer, f func()) {
	defer NewTimer(o).ObserveDuration()
	f()
}

// InProgress runs f with the gauge one higher.
func InProgress(g Gauge, f func()) {
	g.Inc()
	defer g.Dec()
	f()
}

// CountErrors runs f, counts it if it returned an error or panicked, and returns
// its error.
func CountErrors(c Counter, f func() error) (err error) {
	failed := true
	defer func() {
		if failed {
			c.Inc()
		}
	}()
	err = f()
	failed = err != nil
	return err
}
