package mmapfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrKey is returned when an entry's key is not one of the shapes of [Key].
var ErrKey = errors.New("malformed key")

// ErrLabels is returned when a key has more labels than its reader takes.
var ErrLabels = errors.New("too many labels")

// Label is one label of a series.
type Label struct{ Name, Value string }

// Key identifies the series of an entry. It is JSON in one of three shapes:
//
//	["family", "sample", {"label": "value"}]           Python client up to 0.15
//	["family", "sample", {"label": "value"}, "help"]   Python client from 0.16, promagg's Go client
//	["family","sample",["label"],["value"]]            Ruby mmap client
//
// In Ruby's shape a value may be a string, a number or a boolean, which count as
// their JSON text, or null, which is the empty string.
type Key struct {
	Family string  // the name under # TYPE
	Sample string  // the name on the line: Family or Family with a suffix
	Labels []Label // by name, no name twice
	Help   string  // empty where the key has none
	Items  int     // 3 or 4
	Ruby   bool    // the key has Ruby's shape
}

// ParseKey reads a key. What it returns shares no memory with b. A string may
// hold half a surrogate pair, which JSON can spell and UTF-8 cannot: it comes
// out as invalid UTF-8, for the caller to refuse. The error wraps [ErrKey].
func ParseKey(b []byte) (Key, error) { return ParseKeyUpTo(b, 0) }

// ParseKeyUpTo is ParseKey for a key of at most so many labels; 0 is no limit. Of one
// that has more the rest is not read, and the error wraps [ErrLabels].
func ParseKeyUpTo(b []byte, labels int64) (Key, error) {
	p := keyParser{rest: b, most: labels}
	k := p.key()
	switch {
	case p.tooMany:
		return Key{}, fmt.Errorf("%w: want at most %d", ErrLabels, labels)
	case p.fault != "":
		return Key{}, fmt.Errorf("%w: %s at byte %d", ErrKey, p.fault, len(b)-len(p.rest))
	}
	return k, nil
}

// keyParser consumes rest. After the first fault every step does nothing, so
// that only key's caller has to look.
type keyParser struct {
	rest    []byte
	fault   string
	most    int64 // labels; 0 is no limit
	tooMany bool  // that is the fault
}

// count takes a label in.
func (p *keyParser) count(labels []Label) {
	if p.most > 0 && int64(len(labels)) > p.most && p.fault == "" {
		p.fail("too many labels")
		p.tooMany = true
	}
}

func (p *keyParser) fail(fault string) {
	if p.fault == "" {
		p.fault = fault
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *keyParser) peek() byte {
	for len(p.rest) > 0 {
		switch c := p.rest[0]; c {
		case ' ', '\t', '\n', '\r':
			p.rest = p.rest[1:]
		default:
			return c
		}
	}
	return 0
}

func (p *keyParser) expect(c byte) {
	if p.peek() != c {
		p.fail("want '" + string(rune(c)) + "'")
	}
	if p.fault == "" {
		p.rest = p.rest[1:]
	}
}

// more reports whether a list that close ends has one more item, and consumes
// what stands before it.
func (p *keyParser) more(first bool, close byte) bool {
	if p.fault != "" {
		return false
	}
	if p.peek() == close {
		p.rest = p.rest[1:]
		return false
	}
	if !first {
		p.expect(',')
	}
	return p.fault == ""
}

func (p *keyParser) key() (k Key) {
	if !utf8.Valid(p.rest) {
		p.fail("not UTF-8")
		return k
	}
	k.Items = 3
	p.expect('[')
	k.Family = p.str()
	p.expect(',')
	k.Sample = p.str()
	p.expect(',')
	if p.peek() == '[' {
		k.Ruby, k.Items = true, 4
		k.Labels = p.labelLists()
	} else {
		k.Labels = p.labelObject()
		if p.peek() == ',' {
			p.expect(',')
			k.Help, k.Items = p.help(), 4
		}
	}
	p.expect(']')
	if p.peek(); len(p.rest) > 0 {
		p.fail("text behind the key")
	}
	k.Labels = sortLabels(k.Labels)
	return k
}

func (p *keyParser) labelObject() (labels []Label) {
	p.expect('{')
	for first := true; p.more(first, '}'); first = false {
		name := p.str()
		p.expect(':')
		labels = append(labels, Label{name, p.str()})
		p.count(labels)
	}
	return labels
}

func (p *keyParser) labelLists() (labels []Label) {
	p.expect('[')
	for first := true; p.more(first, ']'); first = false {
		labels = append(labels, Label{Name: p.str()})
		p.count(labels)
	}
	p.expect(',')
	p.expect('[')
	values := 0
	for first := true; p.more(first, ']'); first = false {
		v := p.scalar()
		if values < len(labels) {
			labels[values].Value = v
		}
		values++
	}
	if values != len(labels) {
		p.fail(fmt.Sprintf("%d label names with %d values", len(labels), values))
	}
	return labels
}

// sortLabels orders labels by name; of equal names the last one counts, as in
// the JSON readers of the other clients.
func sortLabels(labels []Label) []Label {
	slices.SortStableFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	kept := labels[:0]
	for i, l := range labels {
		if i+1 == len(labels) || labels[i+1].Name != l.Name {
			kept = append(kept, l)
		}
	}
	return kept
}

// help reads a string, or null for the help text that an application left out.
func (p *keyParser) help() string {
	if p.peek() == 'n' {
		p.literal("null")
		return ""
	}
	return p.str()
}

func (p *keyParser) scalar() string {
	switch c := p.peek(); {
	case c == '"':
		return p.str()
	case c == 'n':
		p.literal("null")
		return ""
	case c == 't':
		return p.literal("true")
	case c == 'f':
		return p.literal("false")
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	}
	p.fail("want a string, a number, a boolean or null")
	return ""
}

func (p *keyParser) literal(word string) string {
	if !strings.HasPrefix(string(p.rest[:min(len(word), len(p.rest))]), word) {
		p.fail("want " + word)
		return ""
	}
	p.rest = p.rest[len(word):]
	return word
}

// number returns the text of a JSON number.
func (p *keyParser) number() string {
	b, i := p.rest, 0
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if b[i] == '-' {
		i++
	}
	whole := i
	ok := digits() && (b[whole] != '0' || i == whole+1)
	if ok && i < len(b) && b[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		p.fail("malformed number")
		return ""
	}
	p.rest = b[i:]
	return string(b[:i])
}

func (p *keyParser) str() string {
	p.expect('"')
	if p.fault != "" {
		return ""
	}
	// Most strings hold no escape: one look for the end, one copy.
	for i, c := range p.rest {
		if c == '"' {
			s := string(p.rest[:i])
			p.rest = p.rest[i+1:]
			return s
		}
		if c == '\\' || c < ' ' {
			return p.escaped(i)
		}
	}
	p.fail("unterminated string")
	return ""
}

// escaped reads a string on from its first escape, at plain.
func (p *keyParser) escaped(plain int) string {
	s := append(make([]byte, 0, 2*plain+16), p.rest[:plain]...)
	p.rest = p.rest[plain:]
	for len(p.rest) > 0 {
		c := p.rest[0]
		switch {
		case c == '"':
			p.rest = p.rest[1:]
			return string(s)
		case c < ' ':
			p.fail("control character in a string")
			return ""
		case c != '\\':
			s = append(s, c)
			p.rest = p.rest[1:]
		case len(p.rest) < 2:
			p.rest = nil
		case p.rest[1] == 'u':
			s = p.unicode(s)
		default:
			i := strings.IndexByte(`"\/bfnrt`, p.rest[1])
			if i < 0 {
				p.fail("unknown escape")
				return ""
			}
			s = append(s, "\"\\/\b\f\n\r\t"[i])
			p.rest = p.rest[2:]
		}
		if p.fault != "" {
			return ""
		}
	}
	p.fail("unterminated string")
	return ""
}

// unicode appends what \uXXXX stands for, two of them where they are a
// surrogate pair. Half a pair becomes the three bytes that UTF-8 would give it
// and forbids.
func (p *keyParser) unicode(s []byte) []byte {
	hi, ok := hex4(p.rest[2:])
	if !ok {
		p.fail("malformed \\u escape")
		return s
	}
	p.rest = p.rest[6:]
	if !utf16.IsSurrogate(hi) {
		return utf8.AppendRune(s, hi)
	}
	if len(p.rest) >= 6 && p.rest[0] == '\\' && p.rest[1] == 'u' {
		if lo, ok := hex4(p.rest[2:]); ok {
			if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
				p.rest = p.rest[6:]
				return utf8.AppendRune(s, r)
			}
		}
	}
	return append(s, 0xe0|byte(hi>>12), 0x80|byte(hi>>6)&0x3f, 0x80|byte(hi)&0x3f)
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// AppendKey appends the key as the Python client from 0.16 writes it, labels
// sorted by name: ["family", "sample", {"label": "value"}, "help"]. Its strings
// must be valid UTF-8. It is the inverse of [ParseKey]; Items and Ruby are not
// looked at.
func AppendKey(b []byte, k Key) []byte {
	b = append(b, '[')
	b = appendJSON(b, k.Family)
	b = append(b, ", "...)
	b = appendJSON(b, k.Sample)
	b = append(b, ", {"...)
	for i, l := range sortLabels(slices.Clone(k.Labels)) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendJSON(b, l.Name)
		b = append(b, ": "...)
		b = appendJSON(b, l.Value)
	}
	b = append(b, "}, "...)
	b = appendJSON(b, k.Help)
	return append(b, ']')
}

// appendJSON appends s as a JSON string.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
