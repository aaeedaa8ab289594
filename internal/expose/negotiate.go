package expose

import (
	"cmp"
	"slices"
	"strconv"
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
		if !(a.Q > 0) { // nor is NaN
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

// acceptsGzip reports whether an Accept-Encoding header allows gzip. What it says
// of identity does not matter: who refuses that and gzip gets it all the same, for
// there is no third one.
func acceptsGzip(acceptEncoding string) bool {
	any := false
	for item := range strings.SplitSeq(strings.ToLower(acceptEncoding), ",") {
		coding, params, _ := strings.Cut(item, ";")
		switch strings.TrimSpace(coding) {
		case "gzip", "x-gzip":
			return !refused(params)
		case "*":
			any = !refused(params)
		}
	}
	return any
}

// refused reports whether the parameters of a coding have a q that is not more
// than 0, or no number.
func refused(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.TrimSpace(name) == "q" {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return err != nil || !(q > 0)
		}
	}
	return false
}
