package merge

import (
	"slices"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

func TestLabelsRoundTrip(t *testing.T) {
	for _, value := range []string{"", "plain", `\`, `\\n`, `\n`, "\n", `"`, `a"b\c` + "\nd", `","x="`, "日本", "\\\\n\n\\"} {
		in := []mmapfile.Label{{Name: "a", Value: value}, {Name: "b", Value: "x"}, {Name: "c", Value: value}}
		text := labelsOf(in)
		var out []mmapfile.Label
		for name, value := range text.All() {
			out = append(out, mmapfile.Label{Name: name, Value: value})
		}
		if !slices.Equal(in, out) {
			t.Errorf("%q is rendered as %s and read as %q", value, text, out)
		}
		if strings.Contains(string(text), "\n") {
			t.Errorf("%q is rendered with a newline", value)
		}
	}
	for range labelsOf(nil).All() {
		t.Error("no labels yield one")
	}
}

// TestCompareLabels: label sets are in the order of their unescaped values.
func TestCompareLabels(t *testing.T) {
	values := []string{"", "\n", "\n\n", "\na", " ", "!", `"`, `""`, `"a`, "#", "A", `\`, `\"`, `\\`, `\n`, "a", "a\n", "a ", "a b", `a"`, "aa", "é"}
	slices.Sort(values)
	for i, a := range values {
		for j, b := range values {
			x := labelsOf([]mmapfile.Label{{Name: "l", Value: a}, {Name: "m", Value: "z"}})
			y := labelsOf([]mmapfile.Label{{Name: "l", Value: b}, {Name: "m", Value: "a"}})
			if i == j {
				y = x
			}
			if got := compareLabels(x, y); sign(got) != sign(i-j) {
				t.Errorf("compare %s with %s: %d", x, y, got)
			}
		}
	}
	if compareLabels("", `a="b"`) >= 0 || compareLabels(`a="b"`, `a="b",c="d"`) >= 0 {
		t.Error("a label set does not come before those that begin with it")
	}
}

func sign(n int) int { return max(-1, min(1, n)) }

func FuzzLabels(f *testing.F) {
	f.Add("a\\\n\"", "b")
	f.Fuzz(func(t *testing.T, a, b string) {
		x := labelsOf([]mmapfile.Label{{Name: "l", Value: a}})
		y := labelsOf([]mmapfile.Label{{Name: "l", Value: b}})
		if got, want := sign(compareLabels(x, y)), strings.Compare(a, b); got != want {
			t.Fatalf("compare %s with %s: %d, want %d", x, y, got, want)
		}
		if got := sign(compareLabels(y, x)); got != strings.Compare(b, a) {
			t.Fatalf("compare is not antisymmetric for %s and %s", x, y)
		}
		for _, value := range x.All() {
			if value != a {
				t.Fatalf("%q comes back as %q", a, value)
			}
		}
	})
}
