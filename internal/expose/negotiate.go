package expose

import (
	"cmp"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"
)

// Negotiate returns the format that an Accept header asks for: the first of
// those it prefers that promagg has, the text format if there is none.
func Negotiate(accept string) Format {
	clauses := goautoneg.ParseAccept(strings.ToLower(accept))
	// Its own order lets a named type go before a wildcard of any q.
	slices.SortStableFunc(clauses, func(a, b goautoneg.Accept) int { return cmp.Compare(b.Q, a.Q) })
	for _, a := range clauses {
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
	for item := range strings.SplitSeq(strings.ToLower(acceptEncoding), ",") {
		coding, params, _ := strings.Cut(item, ";")
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		refused := ok && strings.Trim(q, "0.") == ""
		switch strings.TrimSpace(coding) {
		case "gzip", "x-gzip":
			return !refused
		case "*":
			any = !refused
		}
	}
	return any
}
