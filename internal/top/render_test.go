package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile are names that must not reach a terminal as they are.
var hostile = []string{
	"\x1b[2J\x1b]0;owned\a", "new\nline\ttab\r", "\xff\xfe no utf-8", strings.Repeat("long_", 100),
	"\u65e5\u672c\u8a9e\u306e\u540d\u524d", "e\u0301 combining", "\u202eesrever", "\U0001f1e9\U0001f1ea flag", "\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "zero\u200bwidth", "\u009b31m", "",
}

// looks are two looks at five workers, with hostile names beside the others.
func looks() (from, to *Look) {
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	from, to = &Look{At: at}, &Look{At: at.Add(2 * time.Second)}
	for i, l := range []*Look{from, to} {
		l.Of, l.Apart = "/run/myapp/metrics", true
		l.Workers = make(map[string]*Worker)
		l.Families = make(map[FamilyID]*Family)
		states := []mmapfile.State{mmapfile.Alive, mmapfile.Alive, mmapfile.Alive, mmapfile.Unknown, mmapfile.Dead}
		for n, state := range states {
			w := &Worker{ID: fmt.Sprint(4711 + n), State: state, Files: n + 2, Entries: 100 * (n + 1)}
			if state == mmapfile.Alive {
				w.Process = &Process{Start: at.Add(-time.Hour * time.Duration(7*n*n)), CPU: float64(n*1000) + float64(i*n)*0.7, Resident: 30 << (5 * n), Threads: n + 1}
			}
			l.Workers[w.ID] = w
		}
		add := func(id FamilyID, per ...float64) {
			f := &Family{By: make(map[string]Share)}
			for n, v := range per {
				s := Share{Entries: n + 1, Value: 10 + v*float64(i)}
				if id.counts() {
					s.Rise = v * float64(i)
				}
				f.By[fmt.Sprint(4711+n)] = s
				f.Share = f.plus(s)
			}
			l.Families[id] = f
		}
		add(FamilyID{"http_requests_total", "counter"}, 100, 200, 300, 400)
		add(FamilyID{"http_request_duration_seconds", "histogram"}, 1000)
		add(FamilyID{"http_response_size_bytes", "summary"}, 5, 5, 5, 5)
		add(FamilyID{"in_flight", "gauge"}, 3, 4)
		add(FamilyID{"idle_total", "counter"}, 0, 0)
		add(FamilyID{"big_total", "counter"}, 3e9, 4e12)
		for n, name := range hostile {
			add(FamilyID{name, "counter"}, 0, float64(n+1))
		}
		for n, name := range hostile[:3] {
			l.Workers[name] = &Worker{ID: name, Files: n, Entries: n}
		}
	}
	return from, to
}

// press presses keys; a frame is rendered between them, as on the screen.
func press(t *testing.T, s *State, from, to *Look, keys ...string) {
	t.Helper()
	s.Render(from, to, nil, 80, 24)
	for _, key := range keys {
		if s.Press(key) {
			t.Fatalf("%q quits", key)
		}
		s.Render(from, to, nil, 80, 24)
	}
}

func typed(text string) (keys []string) {
	for _, r := range text {
		keys = append(keys, string(r))
	}
	return keys
}

func TestGolden(t *testing.T) {
	from, to := looks()
	noted := *to
	noted.Notes = []string{"counter_9.db: corrupt at byte 8: \x1b[31mmalformed entry"}
	endpoint := &Look{At: to.At, Of: "http://127.0.0.1:9464/metrics", Families: map[FamilyID]*Family{{"up", "gauge"}: {Share: Share{Entries: 1, Value: 1}}}}
	for _, c := range []struct {
		name    string
		from    *Look
		to      *Look
		failure error
		keys    []string
	}{
		{name: "workers", from: from, to: to},
		{name: "first", to: to},
		{name: "waiting"},
		{name: "families", from: from, to: to, keys: []string{KeyTab}},
		{name: "skew", from: from, to: to, keys: []string{KeyTab, KeyRight}},
		{name: "by_name", from: from, to: to, keys: []string{KeyTab, "1", KeyDown, KeyDown, KeyPageDown}},
		{name: "family", from: from, to: to, keys: append(append([]string{KeyTab, "/"}, typed("requests_t")...), KeyEnter, KeyEnter)},
		{name: "worker", from: from, to: to, keys: []string{KeyDown, KeyEnter}},
		{name: "hostile_worker", from: from, to: to, keys: []string{"1", "r", KeyEnter}},
		{name: "typing", from: from, to: to, keys: append([]string{"/"}, typed("dead")...)},
		{name: "filtered", from: from, to: to, keys: append(append([]string{"/"}, typed("471")...), KeyEnter)},
		{name: "nothing", from: from, to: to, keys: append(append([]string{"/"}, typed("nobody")...), KeyEnter)},
		{name: "help", from: from, to: to, keys: []string{"?"}},
		{name: "paused", from: from, to: to, keys: []string{"p", "r"}},
		{name: "failure", from: from, to: to, failure: errors.New("open /run/myapp/metrics: permission denied")},
		{name: "noted", from: from, to: &noted},
		{name: "endpoint", from: endpoint, to: endpoint},
		{name: "endpoint_family", from: endpoint, to: endpoint, keys: []string{KeyTab, KeyEnter}},
		{name: "empty", from: &Look{At: from.At, Apart: true}, to: &Look{At: to.At, Of: "/run/new", Apart: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got strings.Builder
			for _, size := range []struct{ wide, high int }{{80, 24}, {120, 40}} {
				s := NewState(2 * time.Second)
				press(t, s, c.from, c.to, c.keys...)
				f := s.Render(c.from, c.to, c.failure, size.wide, size.high)
				fmt.Fprintf(&got, "%dx%d, titles in line %d, chosen is line %d\n", size.wide, size.high, f.Head, f.Chosen)
				wantSound(t, f, size.wide, size.high)
				for _, line := range f.Lines {
					fmt.Fprintf(&got, "|%s|\n", line)
				}
			}
			path := filepath.Join("testdata", c.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
				t.Errorf("%s (-want +got; write it anew with -update):\n%s", path, diff)
			}
		})
	}
}

// wantSound wants a frame to fill its screen exactly, with nothing but what is printed.
func wantSound(t *testing.T, f Frame, wide, high int) {
	t.Helper()
	if len(f.Lines) != high || f.Head >= high || f.Chosen >= high {
		t.Errorf("%d lines of %d, titles in %d, chosen is %d", len(f.Lines), high, f.Head, f.Chosen)
	}
	for i, line := range f.Lines {
		if w := width(line); w != wide {
			t.Errorf("line %d takes %d cells of %d: %q", i, w, wide, line)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("line %d has %q", i, line)
			}
		}
	}
}

// TestAnySize presses keys at random on screens of random sizes.
func TestAnySize(t *testing.T) {
	rand := testpeer.Rand(t)
	from, to := looks()
	keys := append(typed("q?hp/<>rkjgG123456789 x\u65e5\x1b"), KeyUp, KeyDown, KeyLeft, KeyRight, KeyPageUp, KeyPageDown,
		KeyHome, KeyEnd, KeyEnter, KeyEsc, KeyTab, KeyBackspace, KeyRedraw, KeyClear, "")
	s := NewState(time.Second)
	for range 3000 {
		wide, high := rand.IntN(200), rand.IntN(60)
		looks := [][2]*Look{{from, to}, {nil, to}, {nil, nil}, {to, from}, {nil, {}}}
		l := looks[rand.IntN(len(looks))]
		var failure error
		if rand.IntN(4) == 0 {
			failure = errors.New(hostile[rand.IntN(len(hostile))])
		}
		wantSound(t, s.Render(l[0], l[1], failure, wide, high), wide, high)
		s.Press(keys[rand.IntN(len(keys))])
	}
}

// TestCursor wants the chosen row to stay chosen as the order changes.
func TestCursor(t *testing.T) {
	from, to := looks()
	s := NewState(time.Second)
	press(t, s, from, to, KeyTab, KeyDown, KeyDown)
	chosen := func() string {
		f := s.Render(from, to, nil, 80, 24)
		return strings.Fields(f.Lines[f.Chosen])[0]
	}
	before := chosen()
	press(t, s, from, to, "1")
	if got := chosen(); got != before {
		t.Errorf("chosen is %s, was %s", got, before)
	}
	press(t, s, from, to, KeyTab, KeyTab)
	if got := chosen(); got != before {
		t.Errorf("after another view chosen is %s, was %s", got, before)
	}
	for _, key := range []string{"q", "Q", KeyInterrupt} {
		if !NewState(time.Second).Press(key) {
			t.Errorf("%q does not quit", key)
		}
	}
	press(t, s, from, to, "/", "q") // is text
}

// TestHelp wants the help to fit the smallest usual screen, and to tell of each key and
// column.
func TestHelp(t *testing.T) {
	if n := len(helpText); n > 24-3 {
		t.Errorf("%d lines", n)
	}
	all := strings.Join(helpText, "\n")
	for _, line := range helpText {
		if width(line) > 80 {
			t.Errorf("too long: %s", line)
		}
	}
	for _, want := range []string{"UPDATES/S", "RATE/S", "SHARE", "SKEW", "CV ", "CPU%", "STATE", "Tab", "Enter", "Esc", "  /  ", "  p ", "  r "} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing about %q", want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "tab\t": `tab\t`, "\x1b[2J": `\x1b[2J`, "\xff": `\xff`, "\ufffd": `\ufffd`, "\u65e5": "\u65e5",
		"e\u0301": `e\u0301`, "\u202e": `\u202e`, "\U0001f1e9": `\U0001f1e9`, "\u009b": `\u009b`, "\x7f": `\x7f`, "": "",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	for _, c := range []struct {
		in    string
		cells int
		want  string
	}{{"abc", 5, "abc  "}, {"abcdef", 5, "abcd~"}, {"\u65e5\u672c\u8a9e", 5, "\u65e5\u672c~"}, {"\u65e5\u672c\u8a9e", 4, "\u65e5~ "}, {"ab", 1, "~"}, {"ab", 0, ""}} {
		if got := fit(c.in, c.cells, false); got != c.want {
			t.Errorf("fit %q into %d: %q, want %q", c.in, c.cells, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{short(0), "0"}, {short(0.004), "0"}, {short(0.0004), "0.0004"}, {short(1.5), "1.5"}, {short(999.96), "1000"}, {short(99999), "99999"}, {short(99999.6), "100k"},
		{short(1234567), "1.2M"}, {short(999999), "1.0M"}, {short(-5e9), "-5.0G"}, {short(1e20), "1.0e+20"},
		{size(0), "0"}, {size(1023), "1023"}, {size(1023.6), "1.0K"}, {size(1 << 20), "1.0M"}, {size(200 << 20), "200M"}, {size(1 << 62), "4.0E"},
		{age(0), "0s"}, {age(59.9), "59s"}, {age(61), "1m01s"}, {age(3600), "1h00m"}, {age(90061), "1d01h"}, {age(-1), "0s"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
