package merge

import (
	"iter"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Labels is a label set as both exposition formats write it between braces:
//
//	name="value",other="value"
//
// sorted by name, with backslash, quote and newline of a value escaped. Equal
// label sets have equal text, so it is also the identity of a series.
type Labels string

// Label is a name and a value that is not escaped.
type Label = mmapfile.Label

// NewLabels returns the label set of labels that are sorted by name.
func NewLabels(labels []Label) Labels { return labelsOf(labels) }

// labelsOf renders labels, which are sorted by name.
func labelsOf(labels []mmapfile.Label) Labels {
	n := 0
	for _, l := range labels {
		n += len(l.Name) + len(l.Value) + len(`="",`)
	}
	var b strings.Builder
	b.Grow(n)
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Name)
		b.WriteString(`="`)
		escape(&b, l.Value)
		b.WriteByte('"')
	}
	return Labels(b.String())
}

func escape(b *strings.Builder, value string) {
	for {
		i := strings.IndexAny(value, "\\\"\n")
		if i < 0 {
			b.WriteString(value)
			return
		}
		b.WriteString(value[:i])
		b.WriteByte('\\')
		if value[i] == '\n' {
			b.WriteByte('n')
		} else {
			b.WriteByte(value[i])
		}
		value = value[i+1:]
	}
}

// All yields the label names with their unescaped values, by name.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := string(l); rest != ""; rest = strings.TrimPrefix(rest, ",") {
			name, value, _ := strings.Cut(rest, `="`)
			var b strings.Builder
			i := 0
			for ; value[i] != '"'; i++ {
				escaped := value[i] == '\\'
				if escaped {
					i++
				}
				b.WriteByte(unescaped(value[i], escaped))
			}
			rest = value[i+1:]
			if !yield(name, b.String()) {
				return
			}
		}
	}
}

// unescaped returns what a byte of a value stands for.
func unescaped(c byte, escaped bool) byte {
	if escaped && c == 'n' {
		return '\n'
	}
	return c
}

// compareLabels orders label sets by their first difference in a name or in an
// unescaped value, a value before all that begin with it.
func compareLabels(a, b Labels) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if i == n {
		return len(a) - len(b)
	}
	// Whether the byte before the difference escapes it: backslashes pair up.
	escaped := false
	for j := i; j > 0 && a[j-1] == '\\'; j-- {
		escaped = !escaped
	}
	return rank(a, i, escaped) - rank(b, i, escaped)
}

// rank orders the byte at i: the closing quote of a value comes first.
func rank(l Labels, i int, escaped bool) int {
	c := l[i]
	switch {
	case escaped:
		return int(unescaped(c, true))
	case c == '"':
		return -1
	case c == '\\':
		return int(unescaped(l[i+1], true))
	}
	return int(c)
}
