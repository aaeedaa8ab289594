package expose

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// numbered is a query of n different names.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&name[]=x%d", i)
	}
	return b.String()[1:]
}

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		name, query string
		want        Filter
		err         string
	}{
		{"nothing", "", nil, ""},
		{"one", "name[]=a", Filter{"a"}, ""},
		{"several", "name[]=b&x=y&name[]=a", Filter{"a", "b"}, ""},
		{"escaped", "name%5B%5D=%61%3A", Filter{"a:"}, ""},
		{"of no name", "name[]=", Filter{""}, ""},
		{"no value", "name[]", Filter{""}, ""},
		{"others only", "name=a&match[]=b&Name[]=c", nil, ""},
		{"as many as may be", numbered(MaxNames), nil, ""},
		{"too many", numbered(MaxNames + 1), nil, "bad query: it has 257 different name[]: use at most 256, or several scrapes"},
		{"one many times", strings.Repeat("name[]=a&", 5000), Filter{"a"}, ""},
		{"as long as may be", "name[]=" + strings.Repeat("a", MaxName), Filter{strings.Repeat("a", MaxName)}, ""},
		{"too long", "name[]=" + strings.Repeat("a", MaxName+1), nil, "bad query: a name[] has 1025 bytes: use at most 1024"},
		{"too long among others", "name[]=a&name[]=" + strings.Repeat("%61", MaxName+1), nil, "bad query: a name[] has 1025 bytes: use at most 1024"},
		{"bad escape", "name[]=%zz", nil, `bad query: invalid URL escape "%zz"`},
		{"half an escape", "name[]=a%4", nil, `bad query: invalid URL escape "%4"`},
		{"bad escape elsewhere", "x=%&name[]=a", nil, `bad query: invalid URL escape "%"`},
		{"semicolon", "name[]=a;name[]=b", nil, "bad query: invalid semicolon separator in query"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseQuery(c.query)
			if c.err != "" {
				if err == nil || err.Error() != c.err || got != nil {
					t.Fatalf("got %v, %v, want the error %q", got, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "as many as may be" {
				if len(got) != MaxNames {
					t.Fatalf("got %d names", len(got))
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestHandlerBadQuery: what can't be read is not answered with everything.
func TestHandlerBadQuery(t *testing.T) {
	refused := map[Refusal]int{}
	h := NewLimitedHandler(source{s: merged(t, golden()...)}, nil, Limits{Refused: func(why Refusal) { refused[why]++ }})
	for i, query := range []string{"name[]=%zz", "name[]=busy;x", numbered(MaxNames + 1), "name[]=" + strings.Repeat("a", MaxName+1)} {
		r := request(query)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); w.Code != http.StatusBadRequest || strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "bad query: ") {
			t.Errorf("query %.20q: status %d, %q", query, w.Code, got)
		}
		if want := map[Refusal]int{BadQuery: i + 1}; !cmp.Equal(refused, want) {
			t.Errorf("query %.20q: counted %v, want %v", query, refused, want)
		}
	}
	if w := httptest.NewRecorder(); true {
		h.ServeHTTP(w, request(numbered(MaxNames)+"&name[]=x1"))
		if w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("as many names as may be: status %d, %q", w.Code, w.Body)
		}
	}
}

// request is a scrape with a query as it came.
func request(query string) *http.Request {
	return &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/metrics", RawQuery: query}, Header: http.Header{}}
}

// FuzzQuery compares what is served with what the names leave of the whole
// exposition, by the rules as docs/merging.md has them.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"", "name[]=requests", "name[]=requests_total&name[]=took_sum", "name%5b%5d=busy", "name[]=took_bucket&name[]=took",
		"name[]=size_sum&name[]=last&name[]=size_sum", "name[]=", "x=y", "name[]=%zz", "name[]=a;b", "&&=&name[]=rubyish_count+",
		numbered(MaxNames + 1), "name[]=" + strings.Repeat("a", MaxName+1),
	} {
		f.Add(query)
	}
	h := NewHandler(index(f, golden()...), nil)
	whole := httptest.NewRecorder()
	h.ServeHTTP(whole, request(""))
	f.Fuzz(func(t *testing.T, query string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(query))
		values, err := url.ParseQuery(query)
		names := values["name[]"]
		bad := err != nil ||
			slices.ContainsFunc(names, func(name string) bool { return len(name) > MaxName }) ||
			len(slices.Compact(slices.Sorted(slices.Values(names)))) > MaxNames
		if bad {
			if w.Code != http.StatusBadRequest || strings.Count(w.Body.String(), "\n") != 1 {
				t.Fatalf("query %q: status %d, %q, want one line and 400", query, w.Code, w.Body)
			}
			return
		}
		if w.Code != http.StatusOK {
			t.Fatalf("query %q: status %d, %q", query, w.Code, w.Body)
		}
		want := whole.Body.String()
		if len(names) > 0 {
			want = leave(want, names)
		}
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Fatalf("query %q (-want +got):\n%s", query, diff)
		}
	})
}

// indexed is a source that selects without looking at a directory each time.
type indexed struct{ *merge.Index }

func (x indexed) Snapshot(context.Context) (*merge.Snapshot, error) {
	s, _ := x.Index.Snapshot() // nothing is mapped that could fault
	return s, nil
}

func (x indexed) Select(_ context.Context, choose merge.Choose) (*merge.Snapshot, error) {
	s, _ := x.Index.Select(choose)
	return s, nil
}

// index writes value files and indexes what they hold.
func index(t testing.TB, files ...valueFile) Source {
	t.Helper()
	dir := write(t, files...)
	x := merge.New()
	for _, f := range files {
		image, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			t.Fatal(err)
		}
		name, _ := mmapfile.ParseName(f.name)
		part := x.Add(name)
		var walk mmapfile.Walker
		err = walk.Walk(image, func(e mmapfile.Entry) error {
			_, _, err := part.Add(e)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		part.Map(image, walk.Layout())
	}
	return indexed{x}
}

// leave returns what names leave of an exposition in the text format.
func leave(exposition string, names []string) string {
	var left, header strings.Builder
	var family, kind string
	for line := range strings.Lines(exposition) {
		if strings.HasPrefix(line, "# HELP ") {
			header.Reset()
		}
		if strings.HasPrefix(line, "# ") {
			header.WriteString(line)
			if words := strings.Fields(line); words[1] == "TYPE" {
				family, kind = words[2], words[3]
			}
			continue
		}
		sample := line[:strings.IndexAny(line, "{ ")]
		if slices.Contains(names, family) ||
			kind == "counter" && strings.HasSuffix(family, "_total") && slices.Contains(names, strings.TrimSuffix(family, "_total")) ||
			(kind == "histogram" || kind == "summary") && slices.Contains(names, sample) {
			left.WriteString(header.String())
			left.WriteString(line)
			header.Reset()
		}
	}
	return left.String()
}
