package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// errDisagree is returned when contestants do not read the same, or not what
// was written.
var errDisagree = errors.New("the contestants disagree, so their times compare nothing")

// samples are the samples of an exposition: the text before the value, which
// names the series, and the value.
type samples map[string]float64

// samplesOf parses an exposition in the text format, as far as the contestants
// make use of it: sorted labels, no timestamps. Names that begin with own, if
// that is not empty, are left out.
func samplesOf(text []byte, own string) (samples, error) {
	s := make(samples)
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 || line[0] == '#' || own != "" && bytes.HasPrefix(line, []byte(own)) {
			continue
		}
		i := bytes.LastIndexByte(line, ' ') // a label value may hold a space, a value does not
		if i < 0 {
			return nil, fmt.Errorf("want a sample, got %q", line)
		}
		v, err := strconv.ParseFloat(string(line[i+1:]), 64)
		if err != nil {
			return nil, fmt.Errorf("want a sample, got %q: %w", line, err)
		}
		series := string(line[:i])
		if _, ok := s[series]; ok {
			return nil, fmt.Errorf("%s is there twice", series)
		}
		s[series] = v
	}
	return s, nil
}

// total returns the sum of all values.
func (s samples) total() float64 {
	total := 0.0
	for _, v := range s {
		total += v
	}
	return total
}

// sampleName returns the name of a series.
func sampleName(series string) string {
	name, _, _ := strings.Cut(series, "{")
	return name
}

// names counts the samples by their names.
func (s samples) names() map[string]tally {
	names := make(map[string]tally)
	for series, v := range s {
		n := names[sampleName(series)]
		n.add(v)
		names[sampleName(series)] = n
	}
	return names
}

// of returns the samples of one name, all for the empty one.
func (s samples) of(name string) samples {
	if name == "" {
		return s
	}
	some := make(samples)
	for series, v := range s {
		if sampleName(series) == name {
			some[series] = v
		}
	}
	return some
}

// check compares what a contestant read with what was written. It returns the
// samples, if the contestant makes some.
func (t truth) check(name string, a answer) (samples, error) {
	if a.text == nil {
		if t.known && (a.read != t.entries || a.sum != t.sum) {
			return nil, fmt.Errorf("%w: written were %d values, together %.0f; %s read %d, together %.0f",
				errDisagree, t.entries, t.sum, name, a.read, a.sum)
		}
		return nil, nil
	}
	s, err := t.checkText(name, a.text, a)
	if err != nil {
		return nil, err
	}
	for _, other := range a.others {
		if _, err := t.checkText(name, other, a); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (t truth) checkText(name string, text []byte, a answer) (samples, error) {
	s, err := samplesOf(text, a.own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("%w: %s has no samples", errDisagree, name)
	}
	if !t.known {
		return s, nil
	}
	got := s.names()
	for sample, want := range t.names {
		if a.only != "" && sample != a.only {
			continue
		}
		if got[sample] != want {
			return nil, fmt.Errorf("%w: written were %d samples of %s, together %.0f; %s has %d, together %.0f",
				errDisagree, want.samples, sample, want.total, name, got[sample].samples, got[sample].total)
		}
		delete(got, sample)
	}
	for sample := range got {
		return nil, fmt.Errorf("%w: %s has %s, which nobody wrote or asked for", errDisagree, name, sample)
	}
	return s, nil
}

// same compares the expositions of two contestants, series by series.
func same(aName string, a samples, bName string, b samples) error {
	for _, series := range slices.Sorted(maps.Keys(a)) {
		v, ok := b[series]
		if !ok {
			return fmt.Errorf("%w: %s has %s, %s does not", errDisagree, aName, series, bName)
		}
		if !near(a[series], v) {
			return fmt.Errorf("%w: %s is %v for %s, %v for %s", errDisagree, series, a[series], aName, v, bName)
		}
	}
	for _, series := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[series]; !ok {
			return fmt.Errorf("%w: %s has %s, %s does not", errDisagree, bName, series, aName)
		}
	}
	return nil
}

// near allows for sums made in another order, in a directory that was found;
// those of one that was built are exact, and its total is compared exactly.
func near(a, b float64) bool {
	return a == b || a != a && b != b || math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b))
}
