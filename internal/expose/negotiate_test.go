package expose

import (
	"slices"
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name, accept string
		want         Format
	}{
		{"Prometheus 2.42", "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OpenMetrics},
		{"Prometheus 2.49", "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", OpenMetrics},
		{"Prometheus 2.49, native histograms", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", OpenMetrics},
		// The headers of Prometheus 3 are those of scrape.TestAcceptHeader in v0.316.0.
		{"Prometheus 3", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3", OpenMetrics},
		{"Prometheus 3, legacy names", "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3", OpenMetrics},
		{"Prometheus 3, protobuf first", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", OpenMetrics},
		{"Prometheus 3, OpenMetrics 2 first", "application/openmetrics-text;version=2.0.0;escaping=underscores;q=0.7,application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,*/*;q=0.5", OpenMetrics},
		{"Prometheus 3, only OpenMetrics 2", "application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", Text},
		{"Prometheus 3, scrape_protocols [PrometheusText0.0.4]", "text/plain;version=0.0.4;q=0.7,*/*;q=0.6", Text},
		{"Prometheus 3, scrape_protocols [PrometheusProto]", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,*/*;q=0.6", Text},
		{"the first OpenMetrics", "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", openMetricsBeta},

		{"curl", "*/*", Text},
		{"none", "", Text},
		{"Chrome", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7", Text},
		{"Firefox", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Text},

		{"no version", "application/openmetrics-text", OpenMetrics},
		{"charset", "application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics},
		{"unknown version", "application/openmetrics-text;version=7.0.0", Text},
		{"text preferred", "application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.5", Text},
		{"text preferred, first", "text/plain;q=0.5,application/openmetrics-text;q=0.4", Text},
		{"any text", "text/*;q=0.5,application/openmetrics-text;q=0.4", Text},
		{"OpenMetrics preferred, last", "text/plain;q=0.4,application/openmetrics-text;q=0.5", OpenMetrics},
		{"the specific before the general", "*/*,application/openmetrics-text", OpenMetrics},
		{"refused", "application/openmetrics-text;version=1.0.0;q=0,text/plain", Text},
		{"refused with zeros", "application/openmetrics-text;q=0.000", Text},
		{"refused, older allowed", "application/openmetrics-text;version=1.0.0;q=0,application/openmetrics-text;version=0.0.1", openMetricsBeta},
		{"everything refused", "*/*;q=0", Text},

		{"not a type", "openmetrics", Text},
		{"separators", ",;=/,;,/;q=,", Text},
		{"not a q", "application/openmetrics-text;q=x", Text},
		{"q of nothing", "application/openmetrics-text;q=", OpenMetrics},
		{"negative q", "application/openmetrics-text;q=-1", Text},
		{"NaN for q", "application/openmetrics-text;q=NaN", Text},
		{"NaN for q, the other has none", "text/plain;q=nan,application/openmetrics-text;q=0.1", OpenMetrics},
		{"infinite q", "application/openmetrics-text;q=1e999,text/plain", OpenMetrics},
		{"a long list", strings.Repeat("a/b;q=0.9;c=d,", 1000) + "application/openmetrics-text;q=0.1", OpenMetrics},
		{"a long list of nothing", strings.Repeat(",;q=1", 1000), Text},
		{"bytes", "\x00\xff/\xfe;q=\x80", Text},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Negotiate(c.accept); got != c.want {
				t.Errorf("Negotiate(%q) = %s, want %s", c.accept, got.ContentType(), c.want.ContentType())
			}
		})
	}
}

func TestAcceptsGzip(t *testing.T) {
	for _, c := range []struct {
		accept string
		want   bool
	}{
		{"gzip", true}, // Prometheus; also Go's own client
		{"zstd,gzip", true},
		{"gzip, deflate, br, zstd", true}, // browsers
		{"deflate, gzip;q=1.0, *;q=0.5", true},
		{"gzip;q=0.5", true},
		{"gzip; q=0.001", true},
		{"GZip", true},
		{"x-gzip", true},
		{" \tgzip\t", true},
		{"*", true},
		{"*;q=0.1", true},
		{"br, *", true},
		{"*;q=0, gzip", true},
		{"identity;q=0, gzip", true},
		{"gzip;level=9;q=0.5", true},
		{"gzip;level=9", true},
		{strings.Repeat("br;q=1,", 1000) + "gzip", true},

		{"", false},
		{"identity", false}, // Prometheus with enable_compression: false
		{"br", false},
		{"gzipped", false},
		{"not-gzip, xgzip", false},
		{"gzip;q=0", false},
		{"gzip; q=0", false},
		{"gzip ; q = 0", false},
		{"gzip;q=0.000", false},
		{"gzip;Q=0", false},
		{"GZIP;q=0", false},
		{"*;q=0", false},
		{"gzip;q=0, *", false},
		{"*, gzip;q=0", false},
		{"identity, *;q=0", false},
		{"identity;q=0", false}, // there is nothing else to send
		{"identity;q=0, *;q=0", false},
		{"gzip;level=9;q=0", false},
		{"gzip;q=NaN", false},
		{"gzip;q=-1", false},
		{"gzip;q=x", false},
		{"gzip;q=", false},
		{"gzip;q", false},
		{"*;q=nan", false},
		{strings.Repeat("br;q=1,", 1000), false},
		{",;=,", false},
	} {
		if got := acceptsGzip(c.accept); got != c.want {
			t.Errorf("acceptsGzip(%q) = %v, want %v", c.accept, got, c.want)
		}
	}
}

// FuzzNegotiate wants a format that there is, and one that the header speaks of
// unless it is the text format.
func FuzzNegotiate(f *testing.F) {
	for _, s := range []string{"", "*/*", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", ";q", "a/b/c;d=e=f,,/", "AppliCAtion/openmetriCs-tEXt", "gzip;q=0", "*/*;q=NaN", "br, gzip;level=1;q=1e-9,*;q=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got := Negotiate(header)
		if !slices.Contains([]Format{Text, OpenMetrics, openMetricsBeta}, got) {
			t.Fatalf("Negotiate(%q) = %d, which is no format", header, got)
		}
		lower := strings.ToLower(header) // media types and codings have no case (RFC 9110, 8.3.1 and 8.4.1)
		if got != Text && !strings.Contains(lower, "application/openmetrics-text") {
			t.Fatalf("Negotiate(%q) = %s, of which it does not speak", header, got.ContentType())
		}
		if acceptsGzip(header) && !strings.Contains(lower, "gzip") && !strings.Contains(lower, "*") {
			t.Fatalf("acceptsGzip(%q), which does not speak of it", header)
		}
		if acceptsGzip("gzip;q=0," + header) {
			t.Fatalf("gzip is accepted though refused before %q", header)
		}
	})
}
