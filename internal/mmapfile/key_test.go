package mmapfile

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/fixture"
)

func TestParseKey(t *testing.T) {
	for in, want := range map[string]Key{
		// Python up to 0.15.
		`["f", "f_total", {}]`: {Family: "f", Sample: "f_total", Items: 3},
		// Python from 0.16; labels come out sorted.
		`["f", "f_total", {"z": "1", "a": "2"}, "Help."]`:               {Family: "f", Sample: "f_total", Labels: []Label{{"a", "2"}, {"z", "1"}}, Help: "Help.", Items: 4},
		`["f", "f", {"a": "\u65e5\ud83d\ude80\"\\\n\/\b\f\r\t"}, null]`: {Family: "f", Sample: "f", Labels: []Label{{"a", "日🚀\"\\\n/\b\f\r\t"}}, Items: 4},
		// Of equal names the last counts.
		`["f", "f", {"a": "1", "b": "2", "a": "3"}, "h"]`: {Family: "f", Sample: "f", Labels: []Label{{"a", "3"}, {"b", "2"}}, Help: "h", Items: 4},
		// Ruby.
		`["f","f",[],[]]`: {Family: "f", Sample: "f", Items: 4, Ruby: true},
		`["f","f_bucket",["le","a"],["+Inf","日本"]]`: {Family: "f", Sample: "f_bucket", Labels: []Label{{"a", "日本"}, {"le", "+Inf"}}, Items: 4, Ruby: true},
		`["f","f",["a","b","c","d","e"],[1,-2.50e+3,true,false,null]]`: {Family: "f", Sample: "f", Items: 4, Ruby: true,
			Labels: []Label{{"a", "1"}, {"b", "-2.50e+3"}, {"c", "true"}, {"d", "false"}, {"e", ""}}},
		" [ \"f\" ,\t\"f\" , { } ]\n": {Family: "f", Sample: "f", Items: 3},
	} {
		got, err := ParseKey([]byte(in))
		if err != nil {
			t.Errorf("ParseKey(%s): %v", in, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseKey(%s) (-want +got):\n%s", in, diff)
		}
	}
}

func TestParseKeyMalformed(t *testing.T) {
	for _, in := range []string{
		``, ` `, `{}`, `[]`, `["f"]`, `["f", "s"]`, `["f", "s", {}, "h", 1]`, `["f", "s", {}, {}]`, `["f", "s", "l"]`, `[1, "s", {}]`,
		`["f", "s", {"a": 1}]`, `["f", "s", {"a"}]`, `["f", "s", {"a": "b",}]`, `["f", "s", {,}]`, `["f", "s", {}] x`, `["f", "s", {}`,
		`["f","s",["a"],[]]`, `["f","s",[],["a"]]`, `["f","s",["a"]]`, `["f","s",[1],["a"]]`, `["f","s",["a"],[{}]]`, `["f","s",["a"],[01]]`,
		`["f","s",["a"],[-]]`, `["f","s",["a"],[1.]]`, `["f","s",["a"],[1e]]`, `["f","s",["a"],[nul]]`, `["f","s",["a"],["b"],1]`,
		`["f", "s", {"a": "\x"}]`, `["f", "s", {"a": "\u12"}]`, `["f", "s", {"a": "\u12g4"}]`, `["f", "s", {"a": "b\"}]`, "[\"f\", \"s\", {\"a\": \"\n\"}]",
		"[\"f\", \"s\xff\", {}]", "[\"f\", \"s\", {}]\x00",
	} {
		k, err := ParseKey([]byte(in))
		if !errors.Is(err, ErrKey) {
			t.Errorf("ParseKey(%q) = %+v, %v, want ErrKey", in, k, err)
		}
	}
}

// TestParseKeyHalfSurrogate: Python writes such a key for a label value that is
// no Unicode text. It is sound JSON, and its value must not pass for UTF-8.
func TestParseKeyHalfSurrogate(t *testing.T) {
	for _, in := range []string{`\ud800`, `\udcff`, `\ud83dx`, `\ud83d\n`, `\ude80\ud83d`, `\ud83d\ud83d\ude80`} {
		k, err := ParseKey([]byte(`["f", "f", {"a": "` + in + `"}]`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if utf8.ValidString(k.Labels[0].Value) {
			t.Errorf("%s gives %q, which is valid UTF-8", in, k.Labels[0].Value)
		}
	}
}

// jsonKey reads a key with the standard library.
func jsonKey(b []byte) (Key, bool) {
	var items []json.RawMessage
	if !utf8.Valid(b) || json.Unmarshal(b, &items) != nil || len(items) < 3 || len(items) > 4 {
		return Key{}, false
	}
	k := Key{Items: len(items)}
	str := func(m json.RawMessage, s *string) bool { return m[0] == '"' && json.Unmarshal(m, s) == nil }
	if !str(items[0], &k.Family) || !str(items[1], &k.Sample) {
		return Key{}, false
	}
	if items[2][0] == '[' {
		if len(items) != 4 {
			return Key{}, false
		}
		var names, values []json.RawMessage
		if json.Unmarshal(items[2], &names) != nil || json.Unmarshal(items[3], &values) != nil || values == nil || len(names) != len(values) {
			return Key{}, false
		}
		k.Ruby = true
		for i := range names {
			var l Label
			switch {
			case !str(names[i], &l.Name), values[i][0] == '[', values[i][0] == '{':
				return Key{}, false
			case values[i][0] != '"':
				if l.Value = string(values[i]); l.Value == "null" {
					l.Value = ""
				}
			case !str(values[i], &l.Value):
				return Key{}, false
			}
			k.Labels = append(k.Labels, l)
		}
		k.Labels = sortLabels(k.Labels)
		return k, true
	}
	var labels map[string]json.RawMessage
	if items[2][0] != '{' || json.Unmarshal(items[2], &labels) != nil {
		return Key{}, false
	}
	for name, m := range labels {
		l := Label{Name: name}
		if !str(m, &l.Value) {
			return Key{}, false
		}
		k.Labels = append(k.Labels, l)
	}
	k.Labels = sortLabels(k.Labels)
	if len(items) == 4 && string(items[3]) != "null" && !str(items[3], &k.Help) {
		return Key{}, false
	}
	return k, true
}

func FuzzParseKey(f *testing.F) {
	for _, name := range fixture.Names() {
		for _, data := range fixture.ValueFiles(f, name) {
			var w Walker
			n := 0
			_ = w.Walk(data, func(e Entry) error {
				if n++; n%50 == 1 {
					f.Add(e.Key)
				}
				return nil
			})
		}
	}
	f.Add([]byte(`["f","s",["a","b","c"],[1e-5,null,true]]`))
	f.Add([]byte(`["f", "s", {"a": "\ud800", "b": "\u0000"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseKey(b)
		want, ok := jsonKey(b)
		if (err == nil) != ok {
			t.Fatalf("ParseKey(%q): %v, encoding/json accepts: %v", b, err, ok)
		}
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Fatalf("%v is not ErrKey", err)
			}
			return
		}
		for _, l := range got.Labels {
			if !utf8.ValidString(l.Name + l.Value) {
				return // the standard library replaces half surrogates, we report them
			}
		}
		if !utf8.ValidString(got.Family + got.Sample + got.Help) {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("ParseKey(%q) (-encoding/json +got):\n%s", b, diff)
		}
	})
}
