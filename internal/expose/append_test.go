package expose

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// FuzzAppend serves one gauge whose help text, label value and value are
// anything. It wants all three back, or, where the label value can't be in an
// exposition, no such series; and whatever they are, a sound one beside it.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"b\\c\nd", "\x00\x01\r\x7f", "é😀\u2028\ufeff", "\xff", "\xed\xb3\xa9", "# EOF\n", `\u`, " \t"} {
		f.Add(s, s, math.Float64bits(1.5), true)
		f.Add(s, s, math.Float64bits(math.Inf(-1)), false)
	}
	for _, v := range []float64{math.NaN(), math.Copysign(0, -1), 1e6, 999999, 1e21, math.MaxFloat64, 5e-324} {
		f.Add("help", "value", math.Float64bits(v), true)
	}
	f.Add("caf\xe9", "value", math.Float64bits(1), true)
	f.Add("deleted", "value", uint64(mmapfile.StaleBits), true)
	f.Fuzz(func(t *testing.T, help, label string, bits uint64, ascii bool) {
		file := make([]byte, 16)
		binary.LittleEndian.PutUint64(file, bits)
		binary.LittleEndian.PutUint64(file[8:], math.Float64bits(1))
		x := merge.New()
		p := x.Add(mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.All, ID: "1"})
		p.Map(file, mmapfile.ValueOnly)
		key := fmt.Sprintf(`["fuzzed", "fuzzed", {"v": %s}, %s]`, quote(label, ascii), quote(help, ascii))
		_, _, err := p.Add(mmapfile.Entry{Key: []byte(key), Value: 0})
		// Without escapes it is no key at all if a part of it is not UTF-8.
		if lawful := ascii || utf8.ValidString(help) && utf8.ValidString(label); (err == nil) != lawful {
			t.Fatalf("key %q: error %v", key, err)
		}
		wanted := err == nil && utf8.ValidString(label) && bits != mmapfile.StaleBits
		if dropped, reason, err := p.Add(mmapfile.Entry{Key: []byte(`["sound", "sound", {}, "Sound."]`), Value: 8}); err != nil || dropped {
			t.Fatal(reason, err)
		}
		s, _ := x.Snapshot()
		got, err := check(s)
		if err != nil {
			t.Fatalf("key %q, value %x: %v", key, bits, err)
		}
		if got.series[`{__name__="sound", pid="1"}`].value != 1 || got.types["sound"] != model.MetricTypeGauge {
			t.Errorf("the sound series is not as it was written: %v", got.order)
		}
		if !wanted {
			if len(got.order) != 1 || len(got.types) != 1 {
				t.Fatalf("key %q, value %x: served are %v", key, bits, got.order)
			}
			return
		}
		if len(got.order) != 2 || len(got.types) != 2 {
			t.Fatalf("key %q, value %x: served are %v", key, bits, got.order)
		}
		served := got.order[0]
		if v := served.labels.Get("v"); v != label {
			t.Errorf("got label value %q, want %q", v, label)
		}
		want := math.Float64frombits(bits)
		if v := served.value; v != want && !(math.IsNaN(v) && math.IsNaN(want)) || math.Signbit(v) != math.Signbit(want) && want == 0 {
			t.Errorf("got value %v, want %v", v, want)
		}
		if help == "" {
			help = defaultHelp
		}
		// Prometheus takes nothing but blanks, or a lone NUL, for nothing.
		if blank := strings.Trim(help, " \t\x00") == ""; utf8.ValidString(help) && !blank && got.helps["fuzzed"] != help {
			t.Errorf("got help %q, want %q", got.helps["fuzzed"], help)
		}
	})
}

// manySeries is a directory of n series of each type.
func manySeries(n int) []valueFile {
	files := []valueFile{{name: "counter_1.db"}, {name: "gauge_all_1.db"}, {name: "summary_1.db"}, {name: "histogram_1.db"}}
	for i := range n {
		add := func(file int, sample string, v float64, more string) {
			family := []string{"requests", "temperature", "size", "took"}[file]
			files[file].entries = append(files[file].entries, entry{
				key:   fmt.Sprintf(`["%s", "%s%s", {"path": "/api/v1/items/%d", "method": "GET"%s}, "What it counts."]`, family, family, sample, i, more),
				value: v,
			})
		}
		add(0, "_total", float64(i), "")
		add(1, "", float64(i)+0.25, "")
		add(2, "_count", float64(i), "")
		add(2, "_sum", float64(i)*1.1, "")
		add(3, "_sum", float64(i)*1.1, "")
		for _, le := range []string{"0.1", "1.0", "+Inf"} {
			add(3, "_bucket", float64(i), `, "le": "`+le+`"`)
		}
	}
	return files
}

// TestAppendAllocates wants nothing allocated that grows with the series, where
// the buffer is big enough.
func TestAppendAllocates(t *testing.T) {
	few, many := merged(t, manySeries(10)...), merged(t, manySeries(10000)...)
	for name, f := range formats {
		buf := Append(nil, f, many, nil)
		allocs := func(s *merge.Snapshot) float64 {
			return testing.AllocsPerRun(5, func() { buf = Append(buf[:0], f, s, nil) })
		}
		if few, many := allocs(few), allocs(many); many > few {
			t.Errorf("%s: %v allocations for 10 series of each type, %v for 10000", name, few, many)
		}
	}
}

// BenchmarkAppend encodes 50000 series of all types, 110000 samples.
func BenchmarkAppend(b *testing.B) {
	s := merged(b, manySeries(12500)...)
	var buf []byte
	for _, name := range []string{"text", "openmetrics"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = Append(buf[:0], formats[name], s, nil)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
	b.Run("gzip", func(b *testing.B) {
		z := new(zipped)
		b.ReportAllocs()
		for b.Loop() {
			buf = Append(buf[:0], Text, s, nil)
			z.compress(buf)
		}
		b.SetBytes(int64(len(buf)))
	})
}
