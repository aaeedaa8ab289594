package expose

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promagg/promagg/internal/merge"
)

// wide is 50000 counters of 100 families, with the values of 64 workers that
// have been up for some hours.
func wide() valueFile {
	f := valueFile{name: "counter_1.db", plain: true}
	for family := range 100 {
		for i := range 500 {
			f.entries = append(f.entries, entry{
				key: fmt.Sprintf(`["http_requests_%02d", "http_requests_%02d_total", {"method": "GET", "path": "/api/v1/orders/{id}/page/%d", "status": "200"}, "Total number of HTTP requests served."]`,
					family, family, i),
				value: float64((family*500+i)*7919%1_000_000) * 64,
			})
		}
	}
	return f
}

// BenchmarkText50k encodes 50000 series. bare is what it can't do without: the
// text before each value, copied from where it is cached, and the value by
// strconv.AppendFloat. The header lines are in the cached text.
func BenchmarkText50k(b *testing.B) {
	s := merged(b, wide())
	want := Append(nil, Text, s, nil)
	b.Run("promagg", func(b *testing.B) {
		buf := make([]byte, 0, len(want))
		b.SetBytes(int64(len(want)))
		b.ReportAllocs()
		for b.Loop() {
			buf = Append(buf[:0], Text, s, nil)
		}
	})
	b.Run("bare", func(b *testing.B) {
		prefixes, values := linesOf(b, want)
		buf := make([]byte, 0, 2*len(want))
		b.SetBytes(int64(len(want)))
		b.ReportAllocs()
		for b.Loop() {
			buf = buf[:0]
			for i, v := range values {
				buf = append(buf, prefixes[i]...)
				buf = strconv.AppendFloat(buf, v, 'g', -1, 64)
				buf = append(buf, '\n')
			}
		}
		// strconv and promagg may write one value in two ways, but of one length
		// or so: else one of the two does less.
		if len(buf) < len(want)*99/100 || len(buf) > len(want)*11/10 {
			b.Fatalf("want about %d bytes, got %d", len(want), len(buf))
		}
	})
}

// linesOf splits an exposition into the text before each value, in one piece of
// memory as a cache would have it, and the values.
func linesOf(b *testing.B, text []byte) (prefixes [][]byte, values []float64) {
	start := 0
	for at := 0; at < len(text); {
		end := at + bytes.IndexByte(text[at:], '\n')
		if text[at] != '#' {
			value := bytes.LastIndexByte(text[:end], ' ') + 1
			v, err := strconv.ParseFloat(string(text[value:end]), 64)
			if err != nil {
				b.Fatal(err)
			}
			prefixes, values = append(prefixes, text[start:value]), append(values, v)
			start = end + 1
		}
		at = end + 1
	}
	return prefixes, values
}

// BenchmarkOpenMetrics50k encodes the same in OpenMetrics.
func BenchmarkOpenMetrics50k(b *testing.B) {
	s := merged(b, wide())
	buf := Append(nil, OpenMetrics, s, nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], OpenMetrics, s, nil)
	}
}

// BenchmarkNames50k encodes one of its 100 families.
func BenchmarkNames50k(b *testing.B) {
	s := merged(b, wide())
	var buf []byte
	for _, names := range []Filter{nil, {"http_requests_50_total"}} {
		b.Run(fmt.Sprintf("names=%d", len(names)), func(b *testing.B) {
			for b.Loop() {
				buf = Append(buf[:0], Text, s, names)
			}
		})
	}
}

// BenchmarkGzip50k compresses the same bytes as promagg does and as promhttp
// does, and at each level of promagg's compressor. ratio is how many bytes
// become one.
func BenchmarkGzip50k(b *testing.B) {
	text := Append(nil, Text, merged(b, wide()), nil)
	run := func(name string, compress func(io.Writer) error) {
		b.Run(name, func(b *testing.B) {
			var out bytes.Buffer
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				if err := compress(&out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(text))/float64(out.Len()), "ratio")
		})
	}
	z := new(zipped)
	run("promagg", func(w io.Writer) error {
		z.compress(text)
		_, err := w.Write(z.Bytes())
		return err
	})
	std := stdgzip.NewWriter(nil) // promhttp keeps them in a pool, with the default level
	run("promhttp", func(w io.Writer) error {
		std.Reset(w)
		if _, err := std.Write(text); err != nil {
			return err
		}
		return std.Close()
	})
	for level := gzip.BestSpeed; level <= gzip.BestCompression; level++ {
		z, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			b.Fatal(err)
		}
		run(fmt.Sprintf("level=%d", level), func(w io.Writer) error {
			z.Reset(w)
			if _, err := z.Write(text); err != nil {
				return err
			}
			return z.Close()
		})
	}
}

// BenchmarkHandler50k answers whole requests for the same families: promagg from
// a snapshot, promhttp from families that are gathered already.
func BenchmarkHandler50k(b *testing.B) {
	s := merged(b, wide())
	gathered := familiesOf(b, s)
	handlers := []struct {
		name string
		h    http.Handler
	}{
		{"promagg", NewHandler(source{s: s}, nil)},
		{"promhttp", promhttp.HandlerFor(gathered, promhttp.HandlerOpts{})},
	}
	for _, encoding := range []string{"identity", "gzip"} {
		for _, c := range handlers {
			b.Run("encoding="+encoding+"/"+c.name, func(b *testing.B) {
				w := &discard{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
					r.Header.Set("Accept-Encoding", encoding)
					w.written = 0
					clear(w.header)
					c.h.ServeHTTP(w, r)
				}
				if got := w.header.Get("Content-Encoding"); got != encoding && (got != "" || encoding == "gzip") {
					b.Fatalf("want encoding %s, got %q", encoding, got)
				}
				b.ReportMetric(float64(w.written), "B/response")
			})
		}
	}
}

// familiesOf reads a snapshot's exposition back as what client_golang gathers.
func familiesOf(b *testing.B, s *merge.Snapshot) prometheus.Gatherer {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(Append(nil, Text, s, nil)))
	if err != nil {
		b.Fatal(err)
	}
	var gathered []*dto.MetricFamily
	for i := range s.Families {
		gathered = append(gathered, families[s.Families[i].Name])
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return gathered, nil })
}

// discard is a response that nobody reads.
type discard struct {
	header  http.Header
	written int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(b []byte) (int, error) {
	d.written += len(b)
	return len(b), nil
}
