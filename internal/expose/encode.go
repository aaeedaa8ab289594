package expose

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/merge"
)

// Format is an exposition format.
type Format uint8

// The formats.
const (
	Text            Format = iota // Prometheus text format 0.0.4
	OpenMetrics                   // OpenMetrics 1.0.0
	openMetricsBeta               // OpenMetrics 0.0.1, which differs in name only
)

var contentTypes = [...]string{
	Text:            "text/plain; version=0.0.4; charset=utf-8",
	OpenMetrics:     "application/openmetrics-text; version=1.0.0; charset=utf-8",
	openMetricsBeta: "application/openmetrics-text; version=0.0.1; charset=utf-8",
}

// ContentType returns the format's HTTP content type.
func (f Format) ContentType() string { return contentTypes[f] }

// defaultHelp is what the Python and Ruby clients serve for a family whose
// writers gave no help text.
const defaultHelp = "Multiprocess metric"

// Append appends the families that pass the filter, in format f, to dst and
// returns the longer slice. It ends OpenMetrics with its # EOF.
func Append(dst []byte, f Format, s *merge.Snapshot, filter Filter) []byte {
	return appendWith(dst, f, s, filter, nil)
}

// appendWith is Append with families that are encoded already, sorted by name.
func appendWith(dst []byte, f Format, s *merge.Snapshot, filter Filter, own []ownFamily) []byte {
	e := encoder{dst: dst, om: f != Text, own: own, next: own}
	if filter.all() {
		for i := range s.Families {
			e.family(s, &s.Families[i], nil)
		}
	} else {
		for _, p := range filter.picks(s.Find) {
			e.family(s, p.family, p.samples)
		}
	}
	for _, o := range e.next {
		e.dst = append(e.dst, o.text...)
	}
	if e.om {
		e.dst = append(e.dst, "# EOF\n"...)
	}
	return e.dst
}

// encoder appends families to dst.
type encoder struct {
	dst  []byte
	om   bool
	own  []ownFamily
	next []ownFamily // those of own that are not appended yet
}

// family appends a family, or only its samples of the names given.
func (e *encoder) family(s *merge.Snapshot, f *merge.Family, only []string) {
	for len(e.next) > 0 && e.next[0].name < f.Name {
		e.dst = append(e.dst, e.next[0].text...)
		e.next = e.next[1:]
	}
	if slices.ContainsFunc(e.own, func(o ownFamily) bool { return base(o.name) == base(f.Name) }) {
		return
	}
	start := len(e.dst)
	e.header(s, f)
	lines := len(e.dst)
	values := s.Values(f)
	switch f.Type {
	case merge.Histogram:
		e.histogram(f, values, only)
	case merge.Summary:
		e.summary(f, values, only)
	default:
		for i, s := range f.Series {
			e.sample(f.Name, s.Labels, values[i])
		}
	}
	if len(e.dst) == lines {
		e.dst = e.dst[:start] // nothing of it is left: no header either
	}
}

// header appends the lines that introduce a family.
func (e *encoder) header(s *merge.Snapshot, f *merge.Family) {
	name, typ := f.Name, f.Type.String()
	if e.om && f.Type == merge.Counter {
		// OpenMetrics knows counters by a name to which their samples add _total.
		// One that has no such suffix, or leaves a name that another family has,
		// is served under its own name, as of unknown type.
		base, ok := strings.CutSuffix(name, "_total")
		if ok && base != "" && !s.Has(base) {
			name = base
		} else {
			typ = "unknown"
		}
	}
	help := f.Help
	if help == "" {
		help = defaultHelp
	}
	b := append(e.dst, "# HELP "...)
	b = append(b, name...)
	b = append(b, ' ')
	b = appendHelp(b, help, e.om)
	b = append(b, "\n# TYPE "...)
	b = append(b, name...)
	b = append(b, ' ')
	b = append(b, typ...)
	e.dst = append(b, '\n')
}

// appendHelp escapes a help text: backslash and newline, in OpenMetrics quotes too.
func appendHelp(b []byte, help string, quotes bool) []byte {
	for i := range len(help) {
		switch c := help[i]; {
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\\', c == '"' && quotes:
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}

// summary appends the samples of a summary, series by series.
func (e *encoder) summary(f *merge.Family, values []float64, only []string) {
	count, sum := f.Name+"_count", f.Name+"_sum"
	wantCount, wantSum := wanted(count, only), wanted(sum, only)
	for i, s := range f.Series {
		if wantCount {
			e.sample(count, s.Labels, values[2*i])
		}
		if wantSum {
			e.sample(sum, s.Labels, values[2*i+1])
		}
	}
}

// histogram appends the samples of a histogram, series by series.
func (e *encoder) histogram(f *merge.Family, values []float64, only []string) {
	bucket, count, sum := f.Name+"_bucket", f.Name+"_count", f.Name+"_sum"
	wantBucket, wantCount, wantSum := wanted(bucket, only), wanted(count, only), wanted(sum, only)
	for _, s := range f.Series {
		v := values[:f.Width(s)]
		values = values[len(v):]
		if merge.Absent(v[0]) {
			continue
		}
		if wantBucket {
			for i, b := range s.Buckets {
				bound := &f.Bounds[b.Bound]
				le := bound.Text
				if e.om {
					le = bound.Canonical
				}
				e.bucket(bucket, s.Labels, le, v[2+i])
			}
		}
		if wantSum {
			e.sample(sum, s.Labels, v[1])
		}
		if wantCount {
			e.sample(count, s.Labels, v[0])
		}
	}
}

// bucket appends a histogram's bucket line, unless the value is absent.
func (e *encoder) bucket(name string, labels merge.Labels, le string, v float64) {
	if merge.Absent(v) {
		return
	}
	b := append(e.dst, name...)
	b = append(b, '{')
	if labels != "" {
		b = append(b, labels...)
		b = append(b, ',')
	}
	b = append(b, `le="`...)
	b = append(b, le...)
	e.dst = e.value(append(b, `"} `...), v)
}

// sample appends a line, unless the value is absent.
func (e *encoder) sample(name string, labels merge.Labels, v float64) {
	if merge.Absent(v) {
		return
	}
	b := append(e.dst, name...)
	if labels != "" {
		b = append(b, '{')
		b = append(b, labels...)
		b = append(b, '}')
	}
	e.dst = e.value(append(b, ' '), v)
}

// value appends a value and ends the line.
func (e *encoder) value(b []byte, v float64) []byte {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e6 && (v != 0 || !math.Signbit(v)):
		// Most values are small integers, and this is twice as fast for them.
		b = strconv.AppendInt(b, int64(v), 10)
		if e.om {
			b = append(b, ".0"...)
		}
	case math.IsInf(v, 0):
		b = append(b, "+Inf"...)
		if v < 0 {
			b[len(b)-4] = '-'
		}
	default:
		from := len(b)
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
		if e.om && v == v && !hasPoint(b[from:]) {
			b = append(b, ".0"...)
		}
	}
	return append(b, '\n')
}

// hasPoint reports whether a number is written with a point or an exponent.
func hasPoint(number []byte) bool {
	for _, c := range number {
		if c == '.' || c == 'e' {
			return true
		}
	}
	return false
}
