package fold

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// file is the content of a value file. Its entries are keys with a value and, behind
// that, a timestamp.
func file(l mmapfile.Layout, entries ...any) []byte {
	im := mmapfile.NewImage(l)
	for i := 0; i < len(entries); i += 3 {
		im.Append([]byte(entries[i].(string)), number(entries[i+1]), number(entries[i+2]))
	}
	return im.Bytes()
}

func number(v any) float64 {
	if n, ok := v.(int); ok {
		return float64(n)
	}
	return v.(float64)
}

// plain is a file of the older layout, as Ruby writes it.
func plain(entries ...any) []byte {
	var stamped []any
	for i := 0; i < len(entries); i += 2 {
		stamped = append(stamped, entries[i], entries[i+1], 0)
	}
	return file(mmapfile.ValueOnly, stamped...)
}

// archive makes an archive of files, which must be sound.
func archive(t testing.TB, kind mmapfile.Name, files ...[]byte) []byte {
	t.Helper()
	a := New(kind)
	for _, f := range files {
		if err := a.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	content, err := a.Bytes(nil)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// read returns the values of a file by key, and those timestamps that are not 0.
func read(t testing.TB, content []byte) (values, stamps map[string]float64, l mmapfile.Layout) {
	t.Helper()
	values, stamps = make(map[string]float64), make(map[string]float64)
	var w mmapfile.Walker
	if err := w.Walk(content, func(e mmapfile.Entry) error {
		key := string(e.Key)
		if _, twice := values[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		values[key] = mmapfile.Float64(content, e.Value)
		if w.Layout() == mmapfile.ValueTimestamp {
			if stamp := mmapfile.Float64(content, e.Value+8); stamp != 0 {
				stamps[key] = stamp
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return values, stamps, w.Layout()
}

func wantValues(t *testing.T, what string, content []byte, want map[string]float64) {
	t.Helper()
	got, _, _ := read(t, content)
	equal := cmp.Comparer(func(a, b float64) bool {
		return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
	})
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

var (
	counter    = mmapfile.Name{Type: mmapfile.Counter}
	histogram  = mmapfile.Name{Type: mmapfile.Histogram}
	minimum    = mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.Min}
	maximum    = mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.Max}
	total      = mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.Sum}
	mostRecent = mmapfile.Name{Type: mmapfile.Gauge, Mode: mmapfile.MostRecent}
)

const c = `["c", "c_total", {}, ""]`

var (
	nan   = math.NaN()
	inf   = math.Inf(1)
	stale = math.Float64frombits(mmapfile.StaleBits)
)

// exactly is a sum without rounding.
func exactly(values ...float64) *big.Float {
	sum := new(big.Float).SetPrec(3000) // more than from the least double to the greatest
	for _, v := range values {
		sum.Add(sum, new(big.Float).SetFloat64(v))
	}
	return sum
}

// TestSumsDoNotFall: fractions that are folded in any number of folds come to no less
// than their exact sum, and with what the living have to no less than that, rounded.
// They come to hardly more, either: to an ulp for each fold.
func TestSumsDoNotFall(t *testing.T) {
	rnd := testpeer.Rand(t)
	for round := range 3000 {
		spread := rnd.IntN(60)
		value := func() float64 { return rnd.Float64() * math.Ldexp(1, rnd.IntN(spread+1)-spread/2) }
		var all []float64
		var old []byte
		for folds := range 1 + rnd.IntN(6) {
			var files [][]byte
			if old != nil {
				files = append(files, old)
			}
			for range rnd.IntN(20) {
				v := value()
				all = append(all, v)
				files = append(files, plain(c, v))
			}
			if len(files) == 0 {
				continue
			}
			rnd.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			before := 0.0
			if old != nil {
				values, _, _ := read(t, old)
				before = values[c]
			}
			old = archive(t, counter, files...)
			values, _, _ := read(t, old)
			got := values[c]
			exact := exactly(all...)
			nearest, _ := exact.Float64()
			if got < before || new(big.Float).SetFloat64(got).Cmp(exact) < 0 || got > nearest*(1+float64(folds+1)*0x1p-52) {
				t.Fatalf("round %d: %d values in %d folds come to %v, before to %v, exactly to %v", round, len(all), folds+1, got, before, exact)
			}
			living := value()
			with, _ := exactly(append(slices.Clone(all), living)...).Float64()
			if got+living < with {
				t.Fatalf("round %d: %v with %v of the living comes to %v, want %v", round, got, living, got+living, with)
			}
		}
	}
}

// TestSumsOfWholes: whole numbers add up to what they add up to, however often they
// are folded.
func TestSumsOfWholes(t *testing.T) {
	var old []byte
	for i := range 2000 {
		files := [][]byte{plain(c, i), plain(c, 1<<40)}
		if old != nil {
			files = append(files, old)
		}
		old = archive(t, counter, files...)
		wantValues(t, "folded", old, map[string]float64{c: float64(i*(i+1)/2 + (i+1)<<40)})
		if t.Failed() {
			break
		}
	}
}

// TestSumsAtTheEnds: what is no finite sum is what the values would come to, added up
// one by one.
func TestSumsAtTheEnds(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{1, nan, 2}, nan},
		{[]float64{1, inf, 2}, inf},
		{[]float64{inf, -inf, 2}, nan},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, inf},
		{[]float64{math.MaxFloat64, 1}, math.MaxFloat64 + 1},
		{[]float64{5e-324, 5e-324}, 1e-323},
		{[]float64{0, math.Copysign(0, -1)}, 0},
		{[]float64{-1, 0.5}, -0.5},
		{[]float64{stale, 3}, 3},
	} {
		var files [][]byte
		for _, v := range c.values {
			files = append(files, plain("[\"c\",\"c\",[],[]]", v))
		}
		got, _, _ := read(t, archive(t, total, files...))
		if v := got["[\"c\",\"c\",[],[]]"]; v != c.want && !(math.IsNaN(v) && math.IsNaN(c.want)) {
			t.Errorf("%v come to %v, want %v", c.values, v, c.want)
		}
	}
}

// TestGauges: each mode's rule, whatever the order of the files and the number of
// folds.
func TestGauges(t *testing.T) {
	rnd := testpeer.Rand(t)
	const g = `["g", "g", {}, ""]`
	for _, tc := range []struct {
		kind        mmapfile.Name
		files       [][2]float64 // value, timestamp
		want, stamp float64
	}{
		{minimum, [][2]float64{{3, 0}, {1, 0}, {2, 0}}, 1, 0},
		{minimum, [][2]float64{{nan, 0}, {1, 0}, {nan, 0}}, 1, 0},
		{minimum, [][2]float64{{stale, 0}, {1, 0}, {5, 0}}, 1, 0},
		{minimum, [][2]float64{{-inf, 0}, {1, 0}}, -inf, 0},
		{minimum, [][2]float64{{nan, 0}, {nan, 0}}, nan, 0},
		{maximum, [][2]float64{{3, 0}, {1, 0}, {2, 0}}, 3, 0},
		{maximum, [][2]float64{{nan, 0}, {-1, 0}, {nan, 0}}, -1, 0},
		{maximum, [][2]float64{{stale, 0}, {-1, 0}, {-5, 0}}, -1, 0},
		{total, [][2]float64{{3, 0}, {-1, 0}, {0.5, 0}}, 2.5, 0},
		{total, [][2]float64{{3, 0}, {stale, 0}, {0.5, 0}}, 3.5, 0},
		{mostRecent, [][2]float64{{3, 10}, {1, 12}, {2, 11}}, 1, 12},
		{mostRecent, [][2]float64{{3, 0}, {-1, 1}}, -1, 1},                            // one that was never set loses
		{mostRecent, [][2]float64{{3, 7}, {5, 7}, {4, 7}}, 5, 7},                      // of equal ones the greatest
		{mostRecent, [][2]float64{{nan, 7}, {5, 7}}, 5, 7},                            // a number before none
		{mostRecent, [][2]float64{{nan, 8}, {5, 7}}, nan, 8},                          // a later one all the same
		{mostRecent, [][2]float64{{3, nan}, {5, 7}, {4, nan}, {1, 2}}, 5, 7},          // no time at all
		{mostRecent, [][2]float64{{3, -5}, {4, 0}, {5, -inf}}, 4, 0},                  // none was ever set
		{mostRecent, [][2]float64{{3, inf}, {4, 1}}, 3, inf},                          // no client writes that
		{mostRecent, [][2]float64{{stale, 99}, {4, 1}}, 4, 1},                         // a deleted one has no time
		{mostRecent, [][2]float64{{0.25, 1.5e9}, {4, 1.5e9 + 0.25}}, 4, 1.5e9 + 0.25}, // parts of a second
	} {
		for range 20 {
			var files [][]byte
			for _, i := range rnd.Perm(len(tc.files)) {
				files = append(files, file(mmapfile.ValueTimestamp, g, tc.files[i][0], tc.files[i][1]))
			}
			if at := rnd.IntN(len(files)); rnd.IntN(2) == 0 && at > 0 {
				files = append(files[at:], archive(t, tc.kind, files[:at]...))
			}
			values, stamps, _ := read(t, archive(t, tc.kind, files...))
			if v := values[g]; v != tc.want && !(math.IsNaN(v) && math.IsNaN(tc.want)) || stamps[g] != tc.stamp {
				t.Errorf("%v of %v is %v at %v, want %v at %v", tc.kind.Mode, tc.files, v, stamps[g], tc.want, tc.stamp)
				break
			}
		}
	}
}

// TestDeleted: a series that was deleted wherever it was is not in the archive, and
// one that comes back later begins anew.
func TestDeleted(t *testing.T) {
	for _, kind := range []mmapfile.Name{counter, minimum, maximum, total, mostRecent} {
		const other = `["d", "d", {}, ""]`
		gone := archive(t, kind, file(mmapfile.ValueTimestamp, c, stale, 5, other, 1, 1), file(mmapfile.ValueTimestamp, c, stale, 6))
		wantValues(t, kind.Mode.String(), gone, map[string]float64{other: 1})
		back := archive(t, kind, gone, file(mmapfile.ValueTimestamp, c, 7, 1))
		wantValues(t, kind.Mode.String(), back, map[string]float64{other: 1, c: 7})
	}
	wantValues(t, "nothing else", archive(t, counter, plain(c, stale)), map[string]float64{})
}

const (
	rCount = `["h","h_count",[],[]]`
	rSum   = `["h","h_sum",[],[]]`
)

// r is the key of a bucket in Ruby's form.
func r(le string) string { return fmt.Sprintf(`["h","h_bucket",["le"],["%s"]]`, le) }

// TestRubyHistograms: what is cumulative is taken apart, added by bound, and cumulated
// again over all the bounds that there are.
func TestRubyHistograms(t *testing.T) {
	for name, tc := range map[string]struct {
		files [][]byte
		want  map[string]float64
	}{
		"the same bounds": {
			[][]byte{plain(r("1"), 1, r("2"), 3, r("+Inf"), 6, rCount, 6, rSum, 10.5), plain(r("1"), 10, r("2"), 10, r("+Inf"), 10, rCount, 10, rSum, 5)},
			map[string]float64{r("1"): 11, r("2"): 13, r("+Inf"): 16, rCount: 16, rSum: 15.5},
		},
		"other bounds": {
			[][]byte{plain(r("1"), 1, r("4"), 3, r("+Inf"), 6, rCount, 6), plain(r("0.5"), 10, r("2"), 20, r("+Inf"), 40, rCount, 40)},
			map[string]float64{r("0.5"): 10, r("1"): 11, r("2"): 21, r("4"): 23, r("+Inf"): 46, rCount: 46},
		},
		"bounds in no order": {
			[][]byte{plain(r("+Inf"), 6, r("10"), 5, r("9"), 4, rCount, 6), plain(rCount, 1, r("9"), 1, r("10"), 1, r("+Inf"), 1)},
			map[string]float64{r("9"): 5, r("10"): 6, r("+Inf"): 7, rCount: 7},
		},
		"a lower bucket is ahead": { // its writer died before the higher ones
			[][]byte{plain(r("1"), 3, r("2"), 2, r("+Inf"), 4, rCount, 4), plain(r("1"), 0, r("2"), 5, r("+Inf"), 5, rCount, 5)},
			map[string]float64{r("1"): 3, r("2"): 8, r("+Inf"): 9, rCount: 9},
		},
		"the count is ahead": {
			[][]byte{plain(r("1"), 3, r("+Inf"), 4, rCount, 5), plain(r("1"), 1, r("+Inf"), 1, rCount, 1)},
			map[string]float64{r("1"): 4, r("+Inf"): 6, rCount: 6},
		},
		"the count is behind": {
			[][]byte{plain(r("1"), 3, r("+Inf"), 5, rCount, 4)},
			map[string]float64{r("1"): 3, r("+Inf"): 5, rCount: 5},
		},
		"a count alone": { // its writer died before it had a bucket
			[][]byte{plain(rCount, 2)},
			map[string]float64{rCount: 2},
		},
		"a count alone, and buckets elsewhere": {
			[][]byte{plain(rCount, 2), plain(r("1"), 3, r("+Inf"), 4, rCount, 4)},
			map[string]float64{r("1"): 3, r("+Inf"): 6, rCount: 6},
		},
		"buckets alone": {
			[][]byte{plain(r("1"), 3, r("+Inf"), 4), plain(r("1"), 1)},
			map[string]float64{r("1"): 4, r("+Inf"): 5},
		},
		"a bound spelled in two ways": {
			[][]byte{plain(r("1"), 3, r("+Inf"), 4), plain(r("1.0"), 2, r("+Inf"), 2)},
			map[string]float64{r("1"): 5, r("+Inf"): 6},
		},
		"a bound that is none is added up": {
			[][]byte{plain(r("x"), 3), plain(r("x"), 2), plain(r("NaN"), 1), plain(r("NaN"), 1)},
			map[string]float64{r("x"): 5, r("NaN"): 2},
		},
		"Python's are not cumulative": {
			[][]byte{
				file(mmapfile.ValueTimestamp, `["h", "h_bucket", {"le": "1.0"}, ""]`, 3, 0, `["h", "h_bucket", {"le": "+Inf"}, ""]`, 1, 0),
				file(mmapfile.ValueTimestamp, `["h", "h_bucket", {"le": "1.0"}, ""]`, 0, 0, `["h", "h_bucket", {"le": "+Inf"}, ""]`, 5, 0)},
			map[string]float64{`["h", "h_bucket", {"le": "1.0"}, ""]`: 3, `["h", "h_bucket", {"le": "+Inf"}, ""]`: 6},
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole := archive(t, histogram, tc.files...)
			wantValues(t, "in one fold", whole, tc.want)
			wantValues(t, "folded again", archive(t, histogram, whole), tc.want)
			step := archive(t, histogram, tc.files[0])
			for _, f := range tc.files[1:] {
				step = archive(t, histogram, step, f)
			}
			// The spelling that is kept is that of the first.
			wantValues(t, "one after the other", step, tc.want)
			a := New(histogram)
			for _, f := range tc.files {
				if err := a.Add(f); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // Bytes may be asked again
				content, err := a.Bytes(nil)
				if err != nil {
					t.Fatal(err)
				}
				wantValues(t, "written", content, tc.want)
			}
		})
	}
}

// TestLayouts: what older readers could read they can read still. One file with
// timestamps makes the archive one with timestamps.
func TestLayouts(t *testing.T) {
	old, stamped := plain(c, 1), file(mmapfile.ValueTimestamp, c, 2, 7)
	for name, tc := range map[string]struct {
		files [][]byte
		want  mmapfile.Layout
		stamp float64
	}{
		"value only":            {[][]byte{old, old}, mmapfile.ValueOnly, 0},
		"timestamps":            {[][]byte{stamped}, mmapfile.ValueTimestamp, 7},
		"the second has them":   {[][]byte{old, stamped}, mmapfile.ValueTimestamp, 7},
		"the first has them":    {[][]byte{stamped, old}, mmapfile.ValueTimestamp, 7},
		"nothing, then none":    {[][]byte{nil, make([]byte, 8), old}, mmapfile.ValueOnly, 0},
		"nothing between":       {[][]byte{stamped, nil, old}, mmapfile.ValueTimestamp, 7},
		"an archive, then none": {[][]byte{archive(t, mostRecent, stamped), old}, mmapfile.ValueTimestamp, 7},
	} {
		t.Run(name, func(t *testing.T) {
			content := archive(t, mostRecent, tc.files...)
			_, stamps, l := read(t, content)
			if l != tc.want || stamps[c] != tc.stamp {
				t.Errorf("layout %v, stamp %v, want %v, %v", l, stamps[c], tc.want, tc.stamp)
			}
		})
	}
	// An archive of nothing is a file of nothing.
	content := archive(t, counter)
	if values, _, _ := read(t, content); len(values) > 0 {
		t.Errorf("of nothing: %v", values)
	}
	if included, err := mmapfile.ParseTrailer(counter.Archive(), content); err != nil || len(included) > 0 {
		t.Errorf("of nothing: includes %q, %v", included, err)
	}
}

// TestCorruption_Damaged: of a file that is damaged nothing is added.
func TestCorruption_Damaged(t *testing.T) {
	for _, kind := range []mmapfile.Name{counter, histogram} {
		good := plain(r("1"), 1, r("+Inf"), 2, rCount, 2, c, 5)
		for n := 1; n < len(good); n++ {
			a := New(kind)
			if err := a.Add(plain(c, 1, r("1"), 1)); err != nil {
				t.Fatal(err)
			}
			err := a.Add(good[:n])
			if corrupt := new(mmapfile.CorruptError); !errors.As(err, &corrupt) {
				t.Fatalf("%d bytes of %d: %v", n, len(good), err)
			}
			content, err := a.Bytes(nil)
			if err != nil {
				t.Fatal(err)
			}
			wantValues(t, "without it", content, map[string]float64{c: 1, r("1"): 1})
		}
	}
}

// TestUnfoldable: there is no archive of what can't be folded.
func TestUnfoldable(t *testing.T) {
	for _, m := range mmapfile.Modes() {
		name := mmapfile.Name{Type: mmapfile.Gauge, Mode: m, ID: "1"}
		func() {
			defer func() {
				if panicked := recover() != nil; panicked == name.Foldable() {
					t.Errorf("%v: panicked: %v", name, panicked)
				}
			}()
			New(name)
		}()
	}
}

// TestKeysRemain: keys are copied as they are, other spellings of a series included,
// and those that nobody can read.
func TestKeysRemain(t *testing.T) {
	want := map[string]float64{
		`["c", "c_total", {"a": "1", "b": "2"}, "Help."]`: 1,
		`["c", "c_total", {"b": "2", "a": "1"}, "Help."]`: 2,
		`["c","c_total",["a","b"],["1","2"]]`:             3,
		`["c", "c_total", {"a": "\u00e9"}]`:               4,
		`["c", "c_total", {"a": "é"}]`:                    5,
		`[no key at all`:                                  6,
	}
	var entries []any
	for _, key := range slices.Sorted(maps.Keys(want)) {
		entries = append(entries, key, want[key])
	}
	wantValues(t, "keys", archive(t, counter, plain(entries...)), want)
}
