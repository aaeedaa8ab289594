package client

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promagg/promagg/internal/mmapfile"
)

func withRegistry[C Collector](b testing.TB, c C) C {
	b.Helper()
	r := NewRegistry(Options{Dir: b.TempDir()})
	b.Cleanup(func() { r.Close() }) // else it looks for its deleted files while others are timed
	r.MustRegister(c)
	if err := r.Err(); err != nil {
		b.Fatal(err)
	}
	return c
}

func bareValue(b *testing.B) *mmapfile.Value {
	b.Helper()
	w, err := mmapfile.Create(b.TempDir()+"/counter_1.db", mmapfile.ValueTimestamp, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Close() })
	off, err := w.Append([]byte(`["f", "f", {}, ""]`))
	if err != nil {
		b.Fatal(err)
	}
	return w.Value(off)
}

func BenchmarkInc(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		v := bareValue(b)
		b.ReportAllocs()
		for b.Loop() {
			v.Add(1)
		}
	})
	b.Run("promagg", func(b *testing.B) {
		c := withRegistry(b, NewCounter(CounterOpts{Name: "c_total", Help: "h"}))
		b.ReportAllocs()
		for b.Loop() {
			c.Inc()
		}
	})
	b.Run("client_golang", func(b *testing.B) {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "h"})
		b.ReportAllocs()
		for b.Loop() {
			c.Inc()
		}
	})
}

func BenchmarkIncContended(b *testing.B) {
	b.Run("bare", func(b *testing.B) { // what a counter without more entries does
		v := bareValue(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				v.Add(1)
			}
		})
	})
	b.Run("promagg in process", func(b *testing.B) {
		c := NewCounter(CounterOpts{Name: "c_total", Help: "h"})
		r := NewRegistry(Options{})
		b.Cleanup(func() { r.Close() })
		r.MustRegister(c)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Inc()
			}
		})
	})
	b.Run("promagg", func(b *testing.B) {
		c := withRegistry(b, NewCounter(CounterOpts{Name: "c_total", Help: "h"}))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Inc()
			}
		})
	})
	b.Run("client_golang", func(b *testing.B) {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "h"})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Inc()
			}
		})
	})
}

func BenchmarkSet(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		v := bareValue(b)
		for b.Loop() {
			v.Set(1)
		}
	})
	b.Run("promagg", func(b *testing.B) {
		g := withRegistry(b, NewGauge(GaugeOpts{Name: "g", Help: "h"}))
		for b.Loop() {
			g.Set(1)
		}
	})
	b.Run("client_golang", func(b *testing.B) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g", Help: "h"})
		for b.Loop() {
			g.Set(1)
		}
	})
}

func BenchmarkWithLabelValuesInc(b *testing.B) {
	labels := []string{"method", "path", "code"}
	b.Run("promagg", func(b *testing.B) {
		c := withRegistry(b, NewCounterVec(CounterOpts{Name: "c_total", Help: "h"}, labels))
		b.ReportAllocs()
		for b.Loop() {
			c.WithLabelValues("GET", "/items/{id}", "200").Inc()
		}
	})
	b.Run("client_golang", func(b *testing.B) {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "h"}, labels)
		b.ReportAllocs()
		for b.Loop() {
			c.WithLabelValues("GET", "/items/{id}", "200").Inc()
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	b.Run("promagg", func(b *testing.B) {
		h := withRegistry(b, NewHistogram(HistogramOpts{Name: "h", Help: "h"}))
		b.ReportAllocs()
		for b.Loop() {
			h.Observe(0.3)
		}
	})
	b.Run("client_golang", func(b *testing.B) {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "h"})
		b.ReportAllocs()
		for b.Loop() {
			h.Observe(0.3)
		}
	})
}
