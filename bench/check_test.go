package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

func TestTruth(t *testing.T) {
	h := newFamily(mmapfile.Histogram, mmapfile.NoMode, "h", "", "l")
	h.Labels, h.Bounds = [][]string{{"a"}, {"b"}}, []string{"1.0", "2.0", "+Inf"}
	w := written{Sums: []float64{100, 1, 2, 3, 200, 10, 20, 30}, Writers: []float64{166, 200}}
	got := w.truth([]family{h}, []int{1})
	want := map[string]tally{"h_sum": {2, 300}, "h_bucket": {6, 1 + 3 + 6 + 10 + 30 + 60}, "h_count": {2, 66}}
	if fmt.Sprint(got.names) != fmt.Sprint(want) || got.entries != 8 || got.sum != 200 {
		t.Errorf("want %v, got %+v", want, got)
	}

	g := newFamily(mmapfile.Gauge, mmapfile.LiveAll, "g", "", "l")
	g.Labels = [][]string{{"a"}, {"b"}}
	w = written{Sums: []float64{5, 6}, Writers: []float64{4, 7, 0}}
	got = w.truth([]family{g}, nil)
	if fmt.Sprint(got.names) != fmt.Sprint(map[string]tally{"g": {6, 11}}) || got.entries != 6 || got.sum != 11 {
		t.Errorf("got %+v", got)
	}
}

func TestCheck(t *testing.T) {
	known := truth{known: true, names: map[string]tally{"a": {2, 5}, "b": {1, 7}}}
	right := "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nb 7\n"
	for _, c := range []struct {
		what string
		a    answer
		ok   bool
	}{
		{"right", answer{text: []byte(right)}, true},
		{"own metrics beside", answer{text: []byte(right + "own_c 1\n"), own: "own_"}, true},
		{"one name asked for", answer{text: []byte("b 7\n"), only: "b"}, true},
		{"all right", answer{text: []byte(right), others: [][]byte{[]byte(right)}}, true},
		{"another value", answer{text: []byte("a{x=\"1\"} 2\na{x=\"2\"} 4\nb 7\n")}, false},
		{"the same total, spread otherwise over names", answer{text: []byte("a{x=\"1\"} 2\na{x=\"2\"} 4\nb 6\n")}, false},
		{"a sample less", answer{text: []byte("a{x=\"1\"} 5\nb 7\n")}, false},
		{"a name less", answer{text: []byte("b 7\n")}, false},
		{"a name more", answer{text: []byte(right + "c 0\n")}, false},
		{"a sample twice", answer{text: []byte(right + "b 7\n")}, false},
		{"nothing", answer{text: []byte("# nothing\n")}, false},
		{"more than was asked for", answer{text: []byte(right), only: "b"}, false},
		{"something else than was asked for", answer{text: []byte("b 7\n"), only: "a"}, false},
		{"one of many wrong", answer{text: []byte(right), others: [][]byte{[]byte(right), []byte("b 7\n")}}, false},
	} {
		if _, err := known.check("it", c.a); (err == nil) != c.ok {
			t.Errorf("%s: got %v", c.what, err)
		}
	}
}

func TestSame(t *testing.T) {
	a := samples{"a": 1, "b": 2}
	for _, b := range []samples{{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2.1}} {
		if err := same("a", a, "b", b); !errors.Is(err, errDisagree) {
			t.Errorf("%v and %v: want errDisagree, got %v", a, b, err)
		}
	}
	if err := same("a", a, "b", samples{"b": 2 + 1e-15, "a": 1}); err != nil {
		t.Errorf("want agreement, got %v", err)
	}
}
