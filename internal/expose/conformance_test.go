package expose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/testpeer"
)

// exposition is what Prometheus reads in one.
type exposition struct {
	types  map[string]model.MetricType
	helps  map[string]string
	series map[string]sample // by the text of their labels
	order  []sample          // as they stand there
}

type sample struct {
	labels labels.Labels
	value  float64
}

var (
	lawfulMetric = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	lawfulLabel  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// parse reads an exposition to its end with Prometheus' own parser, and a text
// one with prometheus/common's as well. It returns what is wrong with it as one
// error: what doesn't parse, a header or a series that is there twice, an
// unlawful name.
func parse(text []byte, f Format) (*exposition, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !utf8.Valid(text) {
		fault("it is not UTF-8")
	}
	var p textparse.Parser
	if f == Text {
		p = textparse.NewPromParser(text, labels.NewSymbolTable(), false)
		common := expfmt.NewTextParser(model.LegacyValidation)
		if _, err := common.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
			fault("prometheus/common: %w", err)
		}
	} else {
		p = textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	}
	x := &exposition{types: map[string]model.MetricType{}, helps: map[string]string{}, series: map[string]sample{}}
	for {
		e, err := p.Next()
		if errors.Is(err, io.EOF) {
			return x, errors.Join(faults...)
		}
		if err != nil {
			fault("Prometheus: %w", err)
			return x, errors.Join(faults...)
		}
		switch e {
		case textparse.EntryType:
			name, typ := p.Type()
			if _, twice := x.types[string(name)]; twice {
				fault("the type of %s is there twice", name)
			}
			x.types[string(name)] = typ
		case textparse.EntryHelp:
			name, help := p.Help()
			if _, twice := x.helps[string(name)]; twice {
				fault("the help text of %s is there twice", name)
			}
			x.helps[string(name)] = string(help)
		case textparse.EntrySeries:
			_, at, v := p.Series()
			if at != nil {
				fault("a sample has a timestamp")
			}
			var l labels.Labels
			p.Labels(&l)
			key := l.String()
			if _, twice := x.series[key]; twice {
				fault("series %s is there twice", key)
			}
			x.series[key] = sample{l, v}
			x.order = append(x.order, sample{l, v})
			if name := l.Get(model.MetricNameLabel); !lawfulMetric.MatchString(name) {
				fault("metric name %q", name)
			}
			l.Range(func(l labels.Label) {
				if l.Name != model.MetricNameLabel && (!lawfulLabel.MatchString(l.Name) || strings.HasPrefix(l.Name, "__")) {
					fault("label name %q", l.Name)
				}
			})
		default:
			fault("entry of kind %v", e)
		}
	}
}

// check encodes a snapshot in both formats, wants both to parse, and to tell the same.
func check(s *merge.Snapshot) (text *exposition, err error) {
	plain := Append(nil, Text, s, nil)
	text, err = parse(plain, Text)
	if err != nil {
		return nil, fmt.Errorf("the text format: %w", err)
	}
	open := Append(nil, OpenMetrics, s, nil)
	om, err := parse(open, OpenMetrics)
	if err != nil {
		return nil, fmt.Errorf("OpenMetrics: %w", err)
	}
	if len(text.helps) != len(text.types) || len(om.helps) != len(om.types) || len(om.types) != len(text.types) {
		return nil, fmt.Errorf("text has %d types and %d helps, OpenMetrics %d and %d", len(text.types), len(text.helps), len(om.types), len(om.helps))
	}
	if len(text.order) != len(om.order) {
		return nil, fmt.Errorf("text has %d samples, OpenMetrics %d", len(text.order), len(om.order))
	}
	for i, a := range text.order {
		b := om.order[i]
		if a.value != b.value && !(math.IsNaN(a.value) && math.IsNaN(b.value)) || !sameLabels(a.labels, b.labels) {
			return nil, fmt.Errorf("sample %d is %v %v in text, %v %v in OpenMetrics", i, a.labels, a.value, b.labels, b.value)
		}
	}
	return text, nil
}

// sameLabels reports whether two label sets are equal but for the spelling of a bound.
func sameLabels(a, b labels.Labels) bool {
	x, y := a.Map(), b.Map()
	for _, m := range []map[string]string{x, y} {
		if v, err := strconv.ParseFloat(m["le"], 64); err == nil && strings.HasSuffix(m[model.MetricNameLabel], "_bucket") {
			m["le"] = fmt.Sprint(v)
		}
	}
	return maps.Equal(x, y)
}

// nasty is what strings are made of.
var nasty = []string{"a", "b", " ", "\x00", "\x01", "\t", "\r", "\n", "\x7f", `"`, `\`, `\n`, "{", "}", ",", "=", "#", "# EOF\n", "\u2028", "\ufeff", "\u0085",
	"\u00e9", "\U0001f600", "\ufffd", "\U0010ffff", "\xff", "\xed\xa0\x80"}

func text(random *rand.Rand, most int) string {
	var b strings.Builder
	for range random.IntN(most + 1) {
		if random.IntN(8) == 0 {
			b.WriteRune(random.Int32N(0x110000))
		} else {
			b.WriteString(nasty[random.IntN(len(nasty))])
		}
	}
	return b.String()
}

func oneOf[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// quote spells a string as JSON: as it is, or in ASCII as Python does. A byte
// that is no UTF-8 stands there as it is, or, as Python's surrogateescape has
// it, as half a surrogate pair.
func quote(s string, ascii bool) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch bad := r == utf8.RuneError && n == 1; {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n' && ascii:
			b.WriteString(`\n`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		case !ascii:
			b.WriteString(s[:n])
		case bad:
			fmt.Fprintf(&b, `\udc%02x`, s[0])
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04X\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r > '~':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.String()
}

// randomKey makes a key: most of it lawful, so that some of them are.
func randomKey(random *rand.Rand, typ string, ruby bool) string {
	ascii := random.IntN(3) > 0
	family := oneOf(random, []string{"a", "b", "a_total", "a_sum", "a_bucket", "a_count", "A:b", "_", "le", "NaN", "EOF"})
	sample := family + oneOf(random, map[string][]string{
		"counter":   {"", "_total"},
		"gauge":     {""},
		"summary":   {"_count", "_sum"},
		"histogram": {"_bucket", "_bucket", "_bucket", "_bucket", "_count", "_sum"},
	}[typ])
	if random.IntN(10) == 0 {
		family = oneOf(random, []string{"", "1a", "a-b", "é", "a b", "a\n", "a{", text(random, 3)})
		sample = oneOf(random, []string{sample, family, family + "_total"})
	}
	names := []string{}
	for range random.IntN(3) {
		names = append(names, oneOf(random, []string{"a", "b", "c_1", "pid", "A"}))
	}
	if random.IntN(10) == 0 {
		names = append(names, oneOf(random, []string{"", "__name__", "__x", "1", "a-b", "é", "quantile", "le", "a:b", text(random, 2)}))
	}
	values := make([]string, len(names))
	for i := range values {
		values[i] = quote(text(random, 3), ascii)
	}
	if typ == "histogram" && random.IntN(10) > 0 {
		names = append(names, "le")
		values = append(values, quote(oneOf(random, []string{"1", "1.0", "1e0", "+1", "2", "0.5", "-1", "-Inf", "+Inf", "Inf", "inf", "infinity", "NaN", "", "x", "1e400", "1e-400"}), ascii))
	}
	if ruby {
		for i := range names {
			names[i] = quote(names[i], ascii)
		}
		return fmt.Sprintf("[%s,%s,[%s],[%s]]", quote(family, ascii), quote(sample, ascii), strings.Join(names, ","), strings.Join(values, ","))
	}
	for i := range names {
		names[i] = quote(names[i], ascii) + ": " + values[i]
	}
	help := ""
	if random.IntN(4) > 0 {
		help = ", " + quote(text(random, 4), ascii)
	}
	return fmt.Sprintf("[%s, %s, {%s}%s]", quote(family, ascii), quote(sample, ascii), strings.Join(names, ", "), help)
}

// randomFiles makes files of all kinds with keys that hold anything.
func randomFiles(random *rand.Rand) []valueFile {
	kinds := []string{"counter", "counter", "summary", "histogram", "histogram", "gauge_all", "gauge_sum", "gauge_min", "gauge_livemax", "gauge_mostrecent"}
	values := []float64{0, 1, 2.5, -1, 1e300, math.MaxFloat64, math.SmallestNonzeroFloat64, 1e6, 1e21, math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)}
	var files []valueFile
	for i := range 2 + random.IntN(6) {
		kind := oneOf(random, kinds)
		f := valueFile{name: fmt.Sprintf("%s_%d-0.db", kind, i), plain: random.IntN(2) == 0}
		typ, _, _ := strings.Cut(kind, "_")
		ruby := random.IntN(3) == 0
		for range random.IntN(12) {
			key := randomKey(random, typ, ruby)
			if !utf8.ValidString(key) {
				key = strings.ToValidUTF8(key, "?") // else the file ends here
			}
			v := oneOf(random, values)
			if random.IntN(3) == 0 {
				v = math.Float64frombits(random.Uint64())
			}
			f.entries = append(f.entries, entry{key, v, float64(random.IntN(3))})
		}
		files = append(files, f)
	}
	return files
}

// TestConformance serves whatever may be in a directory.
func TestConformance(t *testing.T) {
	random := testpeer.Rand(t)
	samples := 0
	for i := range 200 {
		files := randomFiles(random)
		got, err := check(merged(t, files...))
		if err != nil {
			t.Errorf("directory %d: %v", i, err)
			for _, f := range files {
				for _, e := range f.entries {
					t.Logf("%s: %q %v", f.name, e.key, e.value)
				}
			}
			t.FailNow()
		}
		samples += len(got.series)
	}
	if samples < 2000 {
		t.Errorf("only %d samples were served: the directories are too unlawful to show anything", samples)
	}
}

// TestLabelValues wants label values back as they were written, in their order.
func TestLabelValues(t *testing.T) {
	random := testpeer.Rand(t)
	values := map[string]float64{}
	for len(values) < 1000 {
		if v := text(random, 4); utf8.ValidString(v) && v != "" {
			values[v] = float64(len(values) + 1)
		}
	}
	f := valueFile{name: "gauge_max_1.db"}
	for v, n := range values {
		f.entries = append(f.entries, entry{key: `["g", "g", {"v": ` + quote(v, random.IntN(2) == 0) + `}]`, value: n})
	}
	got, err := check(merged(t, f))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.order) != len(values) {
		t.Errorf("got %d samples, want %d", len(got.order), len(values))
	}
	for i, v := range slices.Sorted(maps.Keys(values)) {
		if s := got.order[i]; s.labels.Get("v") != v || s.value != values[v] {
			t.Fatalf("sample %d has value %q: %v, want %q: %v", i, s.labels.Get("v"), s.value, v, values[v])
		}
	}
}

// TestHelps wants help texts back as they were written, whatever they hold.
func TestHelps(t *testing.T) {
	for _, help := range []string{"plain", " led by a space", "trailed \t", "a\nb", `a\nb`, `"quoted"`, `\`, "\x00\x01\r\x7f", "\u2028\ufeff", "é😀", "# EOF"} {
		f := valueFile{name: "gauge_max_1.db", entries: []entry{{key: `["g", "g", {}, ` + quote(help, true) + `]`}}}
		s := merged(t, f)
		if _, err := check(s); err != nil {
			t.Errorf("help %q: %v", help, err)
			continue
		}
		for name, f := range formats {
			if x, _ := parse(Append(nil, f, s, nil), f); x.helps["g"] != help {
				t.Errorf("%s: got help %q, want %q", name, x.helps["g"], help)
			}
		}
	}
}

// TestUnlawful has one entry each that no exposition can hold, beside one that
// must not suffer from it.
func TestUnlawful(t *testing.T) {
	for _, c := range []struct {
		name, file, key string
		served          bool // in part or another form
	}{
		{"metric name", "gauge_max_1.db", `["a-b", "a-b", {}]`, false},
		{"empty metric name", "gauge_max_1.db", `["", "", {}]`, false},
		{"metric name in UTF-8", "gauge_max_1.db", `["\u00e9", "\u00e9", {}]`, false},
		{"metric name with a line end", "gauge_max_1.db", `["a 1\nb", "a 1\nb", {}]`, false},
		{"sample of another family", "counter_1.db", `["a", "b_total", {}]`, false},
		{"sample of another type", "summary_1.db", `["a", "a_bucket", {"le": "1"}]`, false},
		{"label name", "gauge_max_1.db", `["a", "a", {"b-c": ""}]`, false},
		{"label name with a colon", "gauge_max_1.db", `["a", "a", {"b:c": ""}]`, false},
		{"reserved label name", "gauge_max_1.db", `["a", "a", {"__name__": "b"}]`, false},
		{"label value with half a surrogate pair", "gauge_max_1.db", `["a", "a", {"b": "\udcff"}]`, false},
		{"quantile", "summary_1.db", `["a", "a_sum", {"quantile": "0.5"}]`, false},
		{"bound that is no number", "histogram_1.db", `["a", "a_bucket", {"le": "x"}]`, false},
		{"bound NaN", "histogram_1.db", `["a", "a_bucket", {"le": "NaN"}]`, false},
		{"no bound", "histogram_1.db", `["a", "a_bucket", {}]`, false},
		{"bound of a sum", "histogram_1.db", `["a", "a_sum", {"le": "1"}]`, false},
		{"hexadecimal bound", "histogram_1.db", `["a", "a_bucket", {"le": "0x1p3"}]`, true},
		{"hexadecimal bound with digits apart", "histogram_1.db", `["a", "a_bucket", {"le": "0x_1p3"}]`, true},
		{"help text with half a surrogate pair", "gauge_max_1.db", `["a", "a", {}, "caf\udce9"]`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := check(merged(t,
				valueFile{name: c.file, entries: []entry{{key: c.key, value: 1}}},
				valueFile{name: "gauge_sum_1.db", entries: []entry{{key: `["sound", "sound", {}, "Sound."]`, value: 1}}}))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.types) > 1 && !c.served {
				t.Errorf("%s is served: %v", c.key, got.order)
			}
			if _, ok := got.series[`{__name__="sound"}`]; !ok {
				t.Errorf("the sound series is not served: %v", got.order)
			}
		})
	}
}

// TestNegativeBuckets has counts that no histogram can have, which
// prometheus/common refuses with all that stands behind them.
func TestNegativeBuckets(t *testing.T) {
	bucket := func(le string, v float64) entry {
		return entry{key: `["a", "a_bucket", {"le": "` + le + `"}]`, value: v}
	}
	for name, entries := range map[string][]entry{
		"bucket":        {bucket("1", -1), bucket("+Inf", 2)},
		"last bucket":   {bucket("1", 1), bucket("+Inf", -2)},
		"infinite":      {bucket("1", math.Inf(-1))},
		"count":         {{key: `["a", "a_count", {}]`, value: -1}},
		"Ruby's count":  {{key: `["a","a_count",[],[]]`, value: -1}},
		"Ruby's bucket": {{key: `["a","a_bucket",["le"],["1"]]`, value: -1}},
	} {
		got, err := check(merged(t, valueFile{name: "histogram_1.db", entries: entries},
			valueFile{name: "gauge_sum_1.db", entries: []entry{{key: `["sound", "sound", {}, "Sound."]`, value: 1}}}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if _, ok := got.series[`{__name__="sound"}`]; !ok {
			t.Errorf("%s: the sound series is not served: %v", name, got.order)
		}
	}
}

// TestSameFamily has one name in files of several types and modes.
func TestSameFamily(t *testing.T) {
	files := []valueFile{
		{name: "counter_1.db", entries: []entry{{key: `["x", "x", {}, "c"]`, value: 1}, {key: `["x", "x_total", {}, "c"]`, value: 1}}},
		{name: "gauge_all_1.db", entries: []entry{{key: `["x", "x", {}, "g"]`, value: 1}, {key: `["x_total", "x_total", {}, "g"]`, value: 1}}},
		{name: "gauge_max_1.db", entries: []entry{{key: `["x", "x", {}, "m"]`, value: 1}, {key: `["x_sum", "x_sum", {}, "m"]`, value: 1}}},
		{name: "histogram_1.db", entries: []entry{{key: `["x", "x_sum", {}, "h"]`, value: 1}}},
		{name: "summary_1.db", entries: []entry{{key: `["x", "x_count", {}, "s"]`, value: 1}}},
	}
	for skip := range files { // whichever is missing
		if _, err := check(merged(t, slices.Delete(slices.Clone(files), skip, skip+1)...)); err != nil {
			t.Errorf("without %s: %v", files[skip].name, err)
		}
	}
	got, err := check(merged(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]model.MetricType{"x": model.MetricTypeHistogram, "x_total": model.MetricTypeCounter}
	if !maps.Equal(got.types, want) {
		t.Errorf("got %v, want %v", got.types, want)
	}
}
