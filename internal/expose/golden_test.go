package expose

import (
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/testpeer"
)

var update = flag.Bool("update", false, "write the golden files anew")

var formats = map[string]Format{"text": Text, "openmetrics": OpenMetrics}

// golden is a directory with every type, several modes, and what is hard to
// write down: escapes, special values, two clients' spellings of one series.
func golden() []valueFile {
	inf, nan := math.Inf(1), math.NaN()
	return []valueFile{
		{name: "counter_1.db", entries: []entry{
			{key: `["requests", "requests_total", {"method": "GET", "path": "/"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 3},
			{key: `["requests", "requests_total", {"path": "a\"b\\c\nd", "method": "GET"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 1.5},
			{key: `["requests", "requests_total", {"method": "GET", "path": "a b"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 2},
			{key: `["requests", "requests_total", {"method": "GET", "path": "a"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 4},
			{key: `["requests", "requests_total", {"method": "GET", "path": "a\n"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 5},
			{key: `["requests", "requests_total", {"method": "GET", "path": "\u00e9\ud83d\ude00"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 6},
			{key: `["special", "special_total", {"v": "1e300"}, ""]`, value: 1e300},
			{key: `["special", "special_total", {"v": "inf"}, ""]`, value: inf},
			{key: `["special", "special_total", {"v": "nan"}, ""]`, value: nan},
			{key: `["special", "special_total", {"v": "2^53"}, ""]`, value: 1 << 53},
			{key: `["special", "special_total", {"v": "999999"}, ""]`, value: 999999},
			{key: `["special", "special_total", {"v": "1000000"}, ""]`, value: 1e6},
			{key: `["special", "special_total", {"v": "tiny"}, ""]`, value: 5e-324},
		}},
		{name: "counter_2.db", entries: []entry{
			{key: `["requests", "requests_total", {"path": "/", "method": "GET"}, "Requests \"served\", in C:\\new\nand /old."]`, value: 39},
		}},
		// A counter whose samples have no _total, and one that takes the name of
		// a gauge away from OpenMetrics.
		{name: "counter_3-0.db", plain: true, entries: []entry{
			{key: `["jobs","jobs",["queue","n"],["mail",7]]`, value: 12},
			{key: `["jobs","jobs",["queue","n"],[null,true]]`, value: 1},
		}},
		{name: "counter_4.db", entries: []entry{
			{key: `["busy", "busy_total", {}, "Times that a worker was busy."]`, value: 8},
		}},
		{name: "gauge_sum_1.db", entries: []entry{{key: `["busy", "busy", {}, "Workers that are busy."]`, value: 1}}},
		{name: "gauge_sum_2.db", entries: []entry{{key: `["busy", "busy", {}, "Workers that are busy."]`, value: -3}}},
		{name: "gauge_all_1.db", entries: []entry{{key: `["uptime", "uptime", {"zone": "b"}, "Uptime."]`, value: 0.25}}},
		{name: "gauge_all_web-0.db", entries: []entry{{key: `["uptime", "uptime", {"zone": "b"}, "Uptime."]`, value: 1234567.5}}},
		{name: "gauge_min_1.db", entries: []entry{{key: `["least", "least", {}, "Least."]`, value: 4}}},
		{name: "gauge_min_2.db", entries: []entry{{key: `["least", "least", {}, "Least."]`, value: nan}}},
		{name: "gauge_max_1.db", entries: []entry{{key: `["most", "most", {}, "Most."]`, value: -inf}}},
		{name: "gauge_livemax_1.db", entries: []entry{{key: `["zero", "zero", {}, "Minus zero."]`, value: math.Copysign(0, -1)}}},
		{name: "gauge_livesum_1.db", entries: []entry{{key: `["live", "live", {}, "Live."]`, value: 1}}},
		{name: "gauge_mostrecent_1.db", entries: []entry{
			{key: `["last", "last", {}, "Last."]`, value: 7, at: 1700000000},
			{key: `["never", "never", {}, "Nobody has set it."]`, value: 7},
		}},
		{name: "gauge_mostrecent_2.db", entries: []entry{{key: `["last", "last", {}, "Last."]`, value: 6, at: 1700000001}}},
		{name: "summary_1.db", entries: []entry{
			{key: `["size", "size_count", {}, "Sizes."]`, value: 2},
			{key: `["size", "size_sum", {}, "Sizes."]`, value: 0.1},
		}},
		// One histogram by two clients: Python's counts per bucket, Ruby's
		// cumulative ones, and 1.0 spelled in two ways.
		{name: "histogram_1.db", entries: []entry{
			{key: `["took", "took_sum", {"path": "/"}, "Seconds."]`, value: 3.5},
			{key: `["took", "took_bucket", {"path": "/", "le": "0.1"}, "Seconds."]`, value: 1},
			{key: `["took", "took_bucket", {"path": "/", "le": "1.0"}, "Seconds."]`, value: 2},
			{key: `["took", "took_bucket", {"path": "/", "le": "+Inf"}, "Seconds."]`, value: 1},
		}},
		{name: "histogram_2-0.db", plain: true, entries: []entry{
			{key: `["took","took_sum",["path"],["/"]]`, value: 10},
			{key: `["took","took_count",["path"],["/"]]`, value: 7},
			{key: `["took","took_bucket",["path","le"],["/","0.1"]]`, value: 3},
			{key: `["took","took_bucket",["path","le"],["/","1"]]`, value: 5},
			{key: `["took","took_bucket",["path","le"],["/","+Inf"]]`, value: 7},
			{key: `["rubyish","rubyish_sum",[],[]]`, value: 2},
			{key: `["rubyish","rubyish_bucket",["le"],["1"]]`, value: 1},
			{key: `["rubyish","rubyish_bucket",["le"],["+Inf"]]`, value: 2},
		}},
	}
}

func TestGolden(t *testing.T) {
	s := merged(t, golden()...)
	for name, f := range formats {
		t.Run(name, func(t *testing.T) {
			got := Append(nil, f, s, nil)
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
			}
			got = Append([]byte("before\n"), f, s, nil)
			if string(got) != "before\n"+string(want) {
				t.Error("Append to a buffer that is not empty differs")
			}
		})
	}
}

// TestEqualBytes writes the same directory in other orders, of files and of the
// entries in them.
func TestEqualBytes(t *testing.T) {
	random := testpeer.Rand(t)
	files := golden()
	want := map[Format][]byte{}
	for _, f := range formats {
		want[f] = Append(nil, f, merged(t, files...), nil)
	}
	for range 5 {
		shuffle(random, files)
		for i := range files {
			files[i].entries = slices.Clone(files[i].entries)
			shuffle(random, files[i].entries)
		}
		s := merged(t, files...)
		for name, f := range formats {
			if diff := cmp.Diff(string(want[f]), string(Append(nil, f, s, nil))); diff != "" {
				t.Errorf("%s differs by the order in which files were written (-first +now):\n%s", name, diff)
			}
		}
	}
}

func shuffle[T any](random *rand.Rand, s []T) {
	random.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func TestAppendNothing(t *testing.T) {
	s := read(t, t.TempDir())
	if got := Append(nil, Text, s, nil); len(got) != 0 {
		t.Errorf("text of an empty directory: got %q", got)
	}
	if got := Append(nil, OpenMetrics, s, nil); string(got) != "# EOF\n" {
		t.Errorf("OpenMetrics of an empty directory: got %q", got)
	}
}
