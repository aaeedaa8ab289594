package mmapfile

import (
	"testing"
)

func TestParseName(t *testing.T) {
	for base, want := range map[string]Name{
		"counter_1.db":                 {Counter, NoMode, "1"},
		"counter_4194303.db":           {Counter, NoMode, "4194303"},
		"histogram_worker_1.db":        {Histogram, NoMode, "worker_1"},
		"summary_web-0.db":             {Summary, NoMode, "web-0"},
		"summary__.db":                 {Summary, NoMode, "_"},
		"gauge_all_7.db":               {Gauge, All, "7"},
		"gauge_livesum_puma_master.db": {Gauge, LiveSum, "puma_master"},
		"gauge_livemostrecent_7.1.db":  {Gauge, LiveMostRecent, "7.1"},
		"counter_archived.db":          {Counter, NoMode, "archived"},
		"counter_a.db.db":              {Counter, NoMode, "a.db"},
	} {
		got, ok := ParseName(base)
		if !ok || got != want {
			t.Errorf("ParseName(%q) = %+v, %v, want %+v", base, got, ok, want)
		}
		if s := want.String(); s != base {
			t.Errorf("%+v.String() = %q, want %q", want, s, base)
		}
	}
	for _, base := range []string{
		"", ".db", "_.db", "counter.db", "counter_.db", "counter_1", "counter_1.dbx", "counter_1.db~", "Counter_1.db",
		"gauge_1.db", "gauge_all.db", "gauge_all_.db", "gauge_latest_1.db", "gauge__1.db", "info_1.db", "x/counter_1.db", "counter_\x00.db",
	} {
		if got, ok := ParseName(base); ok {
			t.Errorf("ParseName(%q) = %+v, want none", base, got)
		}
	}
}

func TestNameWriter(t *testing.T) {
	for _, c := range []struct {
		id   string
		ruby bool
		want string
	}{
		{"12-0", true, "12"},
		{"worker_1-17", true, "worker_1"},
		{"web-0-1", true, "web-0"},
		{"12-0", false, "12-0"},
		{"web-", true, "web-"},
		{"web-x", true, "web-x"},
		{"-1", true, "-1"},
		{"12", true, "12"},
	} {
		if got := (Name{ID: c.id}).Writer(c.ruby); got != c.want {
			t.Errorf("Writer of %q (ruby %v) = %q, want %q", c.id, c.ruby, got, c.want)
		}
	}
}

func TestModes(t *testing.T) {
	if n := len(Modes()); n != 10 {
		t.Fatalf("%d modes, want 10", n)
	}
	for _, m := range Modes() {
		if base := m.Base(); base.Live() || m.Live() && "live"+base.String() != m.String() || !m.Live() && base != m {
			t.Errorf("mode %v has base %v", m, base)
		}
	}
	if NoMode.Live() || NoMode.Base() != NoMode {
		t.Error("NoMode is no live mode")
	}
}

func FuzzParseName(f *testing.F) {
	for _, base := range []string{"counter_1.db", "gauge_livesum_a_b.db", "gauge_all_.db", "histogram_-0.db", "x"} {
		f.Add(base)
	}
	f.Fuzz(func(t *testing.T, base string) {
		n, ok := ParseName(base)
		if !ok {
			return
		}
		if n.String() != base {
			t.Errorf("%q parses to %+v, which is %q", base, n, n)
		}
		if n.ID == "" || (n.Mode == NoMode) == (n.Type == Gauge) {
			t.Errorf("%q parses to %+v", base, n)
		}
		if w := n.Writer(true); w == "" || len(w) > len(n.ID) {
			t.Errorf("%q has writer %q", base, w)
		}
	})
}
