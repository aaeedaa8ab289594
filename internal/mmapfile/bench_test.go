package mmapfile

import (
	"bytes"
	"fmt"
	"testing"
)

// requestKey is the i-th of many keys as each client spells it.
func requestKey(i int, ruby bool) []byte {
	if ruby {
		return fmt.Appendf(nil, `["http_requests_total","http_requests_total",["method","path","status"],["GET","/api/v1/orders/%d","200"]]`, i)
	}
	return fmt.Appendf(nil, `["http_requests", "http_requests_total", {"method": "GET", "path": "/api/v1/orders/%d", "status": "200"}, "Total number of HTTP requests served."]`, i)
}

// BenchmarkWalk walks a file of 1000 entries: from the start, as when it is
// found, and when there is no news in it, as at each scrape.
func BenchmarkWalk(b *testing.B) {
	const entries = 1000
	for _, l := range []Layout{ValueOnly, ValueTimestamp} {
		im := NewImage(l)
		for i := range entries {
			im.Append(requestKey(i, false), float64(i), 1)
		}
		data := im.Bytes()
		walk := func(b *testing.B, w *Walker) (n int) {
			if err := w.Walk(data, func(Entry) error { n++; return nil }); err != nil {
				b.Fatal(err)
			}
			return n
		}
		b.Run("layout="+l.String()+"/new", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var w Walker
				if n := walk(b, &w); n != entries {
					b.Fatalf("want %d entries, got %d", entries, n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
		})
		b.Run("layout="+l.String()+"/no-news", func(b *testing.B) {
			var w Walker
			walk(b, &w)
			b.ReportAllocs()
			for b.Loop() {
				if n := walk(b, &w); n != 0 {
					b.Fatalf("want no entries, got %d", n)
				}
			}
		})
	}
}

// BenchmarkParseKey parses the keys that the clients write most.
func BenchmarkParseKey(b *testing.B) {
	for _, c := range []struct {
		name string
		key  []byte
	}{
		{"client=python", requestKey(4711, false)},
		{"client=ruby", requestKey(4711, true)},
		{"client=python-bucket", []byte(`["http_request_duration_seconds", "http_request_duration_seconds_bucket", {"handler": "/api/v1/orders", "le": "0.075"}, "Time that HTTP requests took."]`)},
		{"client=python-escaped", bytes.Replace(requestKey(4711, false), []byte("orders"), []byte(`bestellungen-f\u00fcr`), 1)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.key)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseKey(c.key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
