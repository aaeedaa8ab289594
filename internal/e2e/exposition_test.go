package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// exposition is what a text exposition says, in a form that can be compared:
// order and spelling are gone. Samples are keyed by sampleKey.
type exposition struct {
	samples map[string]float64
	types   map[string]string // by family
	helps   map[string]string // by family
}

// ownFamily tells promagg's metrics about itself from what the workers wrote.
var ownFamily = regexp.MustCompile(`^(promagg|process|go|promhttp)_`)

// sampleKey names a series independent of label order and of how a bucket's
// bound is spelled: "1", "1.0" and "1e0" are one.
func sampleKey(name string, labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		if k == "le" {
			if bound, err := strconv.ParseFloat(v, 64); err == nil {
				v = strconv.FormatFloat(bound, 'g', -1, 64)
			}
		}
		pairs = append(pairs, k+"="+strconv.Quote(v))
	}
	slices.Sort(pairs)
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// parseExposition reads text format 0.0.4 line by line, strictly, and lets
// prometheus/common parse the same text. A series or a family that stands there
// twice is an error. promagg's own families are left out.
func parseExposition(text string) (exposition, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		return exposition{}, fmt.Errorf("prometheus/common does not parse the exposition: %w", err)
	}
	e := exposition{samples: map[string]float64{}, types: map[string]string{}, helps: map[string]string{}}
	if text != "" && !strings.HasSuffix(text, "\n") {
		return e, fmt.Errorf("the exposition ends in the middle of a line: %q", text[max(0, len(text)-80):])
	}
	for line := range strings.Lines(text) {
		if err := e.add(strings.TrimSuffix(line, "\n")); err != nil {
			return e, fmt.Errorf("exposition line %q: %w", line, err)
		}
	}
	return e, nil
}

func (e exposition) add(line string) error {
	if comment, ok := strings.CutPrefix(line, "# "); ok {
		f := strings.SplitN(comment, " ", 3)
		if len(f) < 2 || f[0] != "TYPE" && f[0] != "HELP" {
			return nil
		}
		into, said := e.types, ""
		if len(f) == 3 {
			said = f[2]
		}
		if f[0] == "HELP" {
			into, said = e.helps, strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(said)
		}
		if ownFamily.MatchString(f[1]) {
			return nil
		}
		if _, dup := into[f[1]]; dup {
			return fmt.Errorf("second %s of the family", f[0])
		}
		into[f[1]] = said
		return nil
	}
	i := strings.IndexAny(line, "{ ")
	if i <= 0 {
		return fmt.Errorf("no name")
	}
	name, rest := line[:i], line[i:]
	labels := map[string]string{}
	if rest[0] == '{' {
		var err error
		if rest, err = readLabels(rest[1:], labels); err != nil {
			return err
		}
	}
	value, err := strconv.ParseFloat(strings.TrimPrefix(rest, " "), 64)
	if err != nil {
		return err
	}
	if ownFamily.MatchString(name) {
		return nil
	}
	key := sampleKey(name, labels)
	if _, dup := e.samples[key]; dup {
		return fmt.Errorf("second sample of %s", key)
	}
	e.samples[key] = value
	return nil
}

// readLabels reads `name="value",…}` and returns what stands behind it.
func readLabels(s string, into map[string]string) (string, error) {
	for {
		if rest, ok := strings.CutPrefix(s, "}"); ok {
			return rest, nil
		}
		name, rest, ok := strings.Cut(s, `="`)
		if !ok {
			return "", fmt.Errorf("no label at %q", s)
		}
		var value strings.Builder
		i := 0
		for ; i < len(rest) && rest[i] != '"'; i++ {
			c := rest[i]
			if c == '\\' && i+1 < len(rest) {
				i++
				switch c = rest[i]; c {
				case 'n':
					c = '\n'
				case '\\', '"':
				default:
					return "", fmt.Errorf(`unknown escape \%c`, c)
				}
			}
			value.WriteByte(c)
		}
		if i == len(rest) {
			return "", fmt.Errorf("the value of label %s does not end", name)
		}
		if _, dup := into[name]; dup {
			return "", fmt.Errorf("second label %s", name)
		}
		into[name] = value.String()
		s = strings.TrimPrefix(rest[i+1:], ",")
	}
}

// family is a family as a Python collector reports it: collect.py prints them,
// and so does the expected.json of each fixture.
type family struct {
	Name, Type, Help string
	Samples          []sample
}

// sample is a JSON list of name, labels and value.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

func (s *sample) UnmarshalJSON(b []byte) error {
	var parts [3]json.RawMessage
	var value string
	err := errors.Join(
		json.Unmarshal(b, &parts),
		json.Unmarshal(parts[0], &s.name),
		json.Unmarshal(parts[1], &s.labels),
		json.Unmarshal(parts[2], &value),
	)
	if err != nil {
		return err
	}
	s.value, err = strconv.ParseFloat(value, 64)
	return err
}

// noHelp is what promagg says of a family for which no file holds a help text: the
// words that the clients themselves had before help texts went into the files.
const noHelp = "Multiprocess metric"

// expositionOf is what promagg must serve for these families.
func expositionOf(t testing.TB, families []family) exposition {
	t.Helper()
	e := exposition{samples: map[string]float64{}, types: map[string]string{}, helps: map[string]string{}}
	for _, f := range families {
		// In the text format a counter's family is named as its sample is.
		if f.Type == "counter" {
			f.Name += "_total"
		}
		e.types[f.Name] = f.Type
		e.helps[f.Name] = f.Help
		if f.Help == "" {
			e.helps[f.Name] = noHelp
		}
		for _, s := range f.Samples {
			key := sampleKey(s.name, s.labels)
			if _, dup := e.samples[key]; dup {
				t.Fatalf("the client's collector has %s twice", key)
			}
			e.samples[key] = s.value
		}
	}
	return e
}

// checkSamples fails the test for each series that is missing, left over or
// different. Values are equal exactly, NaN to NaN; a sum of floats may
// differ in its last bits, because addition hangs on the order of the files.
func checkSamples(t testing.TB, what string, got, want map[string]float64) {
	t.Helper()
	var diff []string
	for key, w := range want {
		g, ok := got[key]
		if !ok {
			diff = append(diff, fmt.Sprintf("missing: %s %v", key, w))
		} else if !sameValue(key, g, w) {
			diff = append(diff, fmt.Sprintf("differs: %s is %v, want %v", key, g, w))
		}
	}
	for key, g := range got {
		if _, ok := want[key]; !ok {
			diff = append(diff, fmt.Sprintf("not wanted: %s %v", key, g))
		}
	}
	if len(diff) == 0 {
		return
	}
	slices.Sort(diff)
	more := ""
	if len(diff) > 20 {
		diff, more = diff[:20], fmt.Sprintf("\n  … %d in all", len(diff))
	}
	t.Errorf("%s: %d series, want %d:\n  %s%s", what, len(got), len(want), strings.Join(diff, "\n  "), more)
}

func sameValue(key string, a, b float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	name, _, _ := strings.Cut(key, "{")
	summed := strings.HasSuffix(name, "sum") || strings.HasSuffix(name, "_total") || name == "rb_bare"
	return summed && math.Abs(a-b) <= 1e-12*max(math.Abs(a), math.Abs(b))
}

// mustNotFall fails the test if something that only ever grows is lower in one
// scrape than in the one before, or has gone.
func mustNotFall(e exposition, before exposition) error {
	for key, was := range before.samples {
		if !onlyGrows(before.types, key) {
			continue
		}
		is, ok := e.samples[key]
		if !ok {
			return fmt.Errorf("%s was %v and is gone", key, was)
		}
		// The sum of floats may move in its last bits when a writer joins.
		if is < was && !sameValue(key, is, was) {
			return fmt.Errorf("%s fell from %v to %v", key, was, is)
		}
	}
	return nil
}

// onlyGrows: counters, and the counts of summaries and histograms.
func onlyGrows(types map[string]string, key string) bool {
	name, _, _ := strings.Cut(key, "{")
	if types[name] == "counter" {
		return true
	}
	base, isCount := strings.CutSuffix(name, "_count")
	return isCount && (types[base] == "summary" || types[base] == "histogram")
}
