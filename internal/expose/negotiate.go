package expose

import (
	"strings"

	"github.com/munnerz/goautoneg"
)

// Negotiate returns the format that an Accept header asks for: the first of
// those it prefers that promagg has, the text format if there is none.
func Negotiate(accept string) Format {
	for _, a := range goautoneg.ParseAccept(accept) {
		if a.Q <= 0 {
			continue
		}
		switch version := a.Params["version"]; a.Type + "/" + a.SubType {
		case "application/openmetrics-text":
			switch version {
			case "", "1.0.0":
				return OpenMetrics
			case "0.0.1":
				return openMetricsBeta
			}
		case "text/plain", "text/*", "*/*":
			return Text
		}
	}
	return Text
}

// acceptsGzip reports whether an Accept-Encoding header allows gzip.
func acceptsGzip(acceptEncoding string) bool {
	any := false
	for item := range strings.SplitSeq(acceptEncoding, ",") {
		coding, params, _ := strings.Cut(item, ";")
		refused := strings.Trim(strings.TrimPrefix(strings.ReplaceAll(params, " ", ""), "q="), "0.") == "" && params != ""
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return !refused
		case "*":
			any = !refused
		}
	}
	return any
}
