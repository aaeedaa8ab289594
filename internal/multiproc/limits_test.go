package multiproc

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// openLimited is open with limits and a clock that is the test's.
func openLimited(t *testing.T, path string, change func(*Limits)) (d *Dir, log *logBuffer, clock *time.Time) {
	t.Helper()
	limits := DefaultLimits()
	change(&limits)
	log, clock = new(logBuffer), new(time.Time)
	*clock = time.Now()
	d = Open(Options{Path: path, Limits: &limits, Rescan: time.Hour, Now: func() time.Time { return *clock },
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(d.Close)
	return d, log, clock
}

// TestLimitFiles: value files past the limit are left out, counted and named once.
// Those that are in stay, whatever else comes, and a place that gets free is taken.
func TestLimitFiles(t *testing.T) {
	dir := t.TempDir()
	d, log, _ := openLimited(t, dir, func(l *Limits) { l.Files = 3 })
	_, off := write(t, dir, "counter_1.db", "c_total", 1)
	_ = off
	for i, v := range []float64{10, 100} {
		write(t, dir, fmt.Sprintf("counter_%d.db", 2+i), "c_total", v)
	}
	want(t, "within the limit", values(t, d), "c_total", 111)
	write(t, dir, "counter_4.db", "c_total", 1000)
	write(t, dir, "gauge_sum_4.db", "g", 1)
	archive(t, dir, "counter_archived.db", "c_total", 5)
	for range 3 {
		want(t, "past the limit", values(t, d), "c_total", 116)
		d.Sync(true)
	}
	if s := d.Stats(); s.LeftOut != 2 || s.Files != 3 || s.Corrupt != 0 {
		t.Errorf("%d files left out of %d", s.LeftOut, s.Files)
	}
	for _, base := range []string{"counter_4.db", "gauge_sum_4.db"} {
		if n := log.count(base, "WARN", "--limit.files"); n != 1 {
			t.Errorf("%s is named %d times:\n%s", base, n, log)
		}
	}
	if n := log.count("WARN"); n != 2 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	// A file that gets another name, as for a fold, or other content keeps its place.
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("counter_1.db", "counter_1~1.db")
	want(t, "renamed", values(t, d), "c_total", 116)
	other := t.TempDir()
	write(t, other, "counter_2.db", "c_total", 20)
	if err := os.Rename(filepath.Join(other, "counter_2.db"), filepath.Join(dir, "counter_2.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "replaced", values(t, d), "c_total", 126)
	for _, base := range []string{"counter_2.db", "counter_archived.db"} {
		if err := os.Remove(filepath.Join(dir, base)); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, d); got["c_total"]+got["g"] < 102 {
		t.Errorf("with places for both: %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "counter_3.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "with a place for each", values(t, d), "c_total", 1001, "g", 1)
	if s := d.Stats(); s.LeftOut != 0 {
		t.Errorf("%d files left out", s.LeftOut)
	}
	// Again past the limit, again named.
	write(t, dir, "counter_5.db", "c_total", 1)
	want(t, "past the limit again", values(t, d), "c_total", 1001, "g", 1)
	if n := log.count("counter_5.db", "WARN"); n != 1 {
		t.Errorf("counter_5.db is named %d times:\n%s", n, log)
	}
	for _, base := range []string{"counter_1~1.db", "counter_4.db", "counter_5.db", "gauge_sum_4.db"} {
		if err := os.Remove(filepath.Join(dir, base)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "empty", values(t, d))
}

// TestLimitFileSize: of a file that grows past the limit while its writer lives
// everything before that goes on being served, and no value falls.
func TestLimitFileSize(t *testing.T) {
	for name, budget := range map[string]*mmapfile.Budget{"mapped": nil, "read": mmapfile.NewBudget(10, 0)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			limits := DefaultLimits()
			limits.FileSize = 8 << 10
			log := new(logBuffer)
			d := Open(Options{Path: dir, Limits: &limits, Budget: budget, Rescan: time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil))})
			defer d.Close()
			d.freeze(true)
			w, first := write(t, dir, "counter_1.db", "first_total", 1)
			for i := range 300 {
				off, err := w.Append(fmt.Appendf(nil, `["n%d", "n%d_total", {}, "Help."]`, i, i))
				if err != nil {
					t.Fatal(err)
				}
				w.Set(off, 1)
				w.Value(first).Add(1)
				if got := values(t, d); got["first_total"] != float64(2+i) || i < 100 && len(got) != 2+i || len(got) < 101 && i > 100 {
					t.Fatalf("after %d entries: %d families, first_total is %v", i+2, len(got), got["first_total"])
				}
			}
			d.Sync(true)
			s := d.Stats()
			if s.CutOff != 1 || s.Corrupt != 0 || s.Damages != 0 || s.Series < 100 || s.Series > 200 {
				t.Errorf("%+v", s)
			}
			if n := log.count("counter_1.db", "WARN", "larger than the limit", "--limit.file-size"); n != 1 || log.count("WARN") != 1 {
				t.Errorf("named %d times:\n%s", n, log)
			}
			// It is not frozen, lest somebody take it for read to its end.
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			d.Sync(true)
			if s := d.Stats(); s.Frozen != 0 || s.Dead != 1 || values(t, d)["first_total"] != 301 {
				t.Errorf("with its writer dead: %d frozen, %d dead", s.Frozen, s.Dead)
			}
		})
	}
}

// TestLimitArchiveSize: an archive is read to its end.
func TestLimitArchiveSize(t *testing.T) {
	dir := t.TempDir()
	d, _, _ := openLimited(t, dir, func(l *Limits) { l.FileSize, l.Files = 1<<10, 1 })
	w, _ := write(t, dir, "counter_archived.db", "first_total", 1)
	for i := range 300 {
		if _, err := w.Append(fmt.Appendf(nil, `["n%d", "n%d_total", {}, "Help."]`, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, d); len(got) != 301 {
		t.Errorf("%d families", len(got))
	}
}

// TestLimitNames: however many files have something to complain of, the log has some
// of their names and says so, and more after an hour.
func TestLimitNames(t *testing.T) {
	dir := t.TempDir()
	d, log, clock := openLimited(t, dir, func(l *Limits) { l.Files, l.Labels = 300, 1 })
	many := func(pattern, key string, damage bool) {
		t.Helper()
		im := mmapfile.NewImage(mmapfile.ValueTimestamp)
		im.Append([]byte(key), 1, 0)
		b := im.Bytes()
		if damage {
			b = b[:5]
		}
		for i := range 150 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(pattern, i)), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(pattern string) {
		t.Helper()
		for i := range 150 {
			if err := os.Remove(filepath.Join(dir, fmt.Sprintf(pattern, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	many("counter_%d.db", `["a", "a_total", {"l": "1", "m": "2"}]`, false)
	values(t, d)
	many("counter_damaged_%d.db", "", true)
	values(t, d)
	many("counter_late_%d.db", `["a", "a_total", {"l": "1"}]`, false)
	values(t, d)
	if s := d.Stats(); s.LeftOut != 150 || s.Dropped[merge.PastLabels] != 150 || s.Damages != 150 {
		t.Errorf("%d files left out, %d entries, %d damaged", s.LeftOut, s.Dropped[merge.PastLabels], s.Damages)
	}
	for _, what := range []string{"reason=limit.labels", "short header", "--limit.files"} {
		if n := log.count(what, "WARN", "file="); n != maxNamed {
			t.Errorf("%s: %d names, want %d", what, n, maxNamed)
		}
	}
	if n := log.count("not named for an hour"); n != 3 {
		t.Errorf("that names are kept back is said %d times", n)
	}
	remove("counter_late_%d.db")
	for i, wait := range []time.Duration{30 * time.Minute, 31 * time.Minute} {
		remove([]string{"counter_damaged_%d.db", "counter_30m0s_%d.db"}[i])
		values(t, d)
		many("counter_"+wait.String()+"_%d.db", "", true)
		*clock = clock.Add(wait)
		values(t, d)
		if n := log.count("counter_"+wait.String(), "short header"); n != i*maxNamed {
			t.Errorf("after %v, %d names", wait, n)
		}
	}
}

// TestReadmit: entries that were left out for want of room are taken in once there is
// enough for all of the file, and no value is missing meanwhile.
func TestReadmit(t *testing.T) {
	for i, change := range []func(*Limits){
		func(l *Limits) { l.Series = 200 },
		func(l *Limits) { l.Entries = 200 },
		func(l *Limits) { l.SeriesBytes = 1800 },
		func(l *Limits) { l.Series = 200 },
	} {
		dead := i == 3 // and frozen
		dir := t.TempDir()
		d, log, clock := openLimited(t, dir, change)
		d.freeze(dead)
		fill := func(base, name string, n int) (*mmapfile.Writer, uint32) {
			t.Helper()
			w, off := write(t, dir, base, name+"_total", 1)
			for i := range n - 1 {
				off, err := w.Append(fmt.Appendf(nil, `["%s", "%s_total", {"i": "%d"}]`, name, name, i))
				if err != nil {
					t.Fatal(err)
				}
				w.Set(off, 1)
			}
			return w, off
		}
		series := func() (n int) {
			s, err := d.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range s.Families {
				if s.Families[i].Name == "b_total" {
					n = len(s.Families[i].Series)
				}
			}
			return n
		}
		fill("counter_1.db", "a", 150)
		values(t, d)
		w, off := fill("counter_2.db", "b", 80)
		few := series()
		if few == 0 || few == 80 {
			t.Fatalf("%d of 80 series are served", few)
		}
		if dead {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			d.Sync(true)
			if !d.files["counter_2.db"].frozen() {
				t.Fatal("the file is not frozen")
			}
		}
		tended := func() int {
			t.Helper()
			if !dead {
				w.Value(off).Add(1)
			}
			before := values(t, d)["b_total"]
			*clock = clock.Add(2 * time.Minute)
			d.Sync(true)
			if after := values(t, d)["b_total"]; after != before {
				t.Errorf("the value was %v and is %v", before, after)
			}
			return series()
		}
		if n := tended(); n != few {
			t.Errorf("%d series are served, without more room %d were", n, few)
		}
		if err := os.Remove(filepath.Join(dir, "counter_1.db")); err != nil {
			t.Fatal(err)
		}
		if n := tended(); n != 80 {
			t.Errorf("with room for all, %d of 80 series are served", n)
		}
		if n := log.count("there is room by now", "counter_2.db"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		if frozen := d.files["counter_2.db"].frozen(); frozen != dead {
			t.Errorf("frozen: %v", frozen)
		}
		// One that is too large for all there is costs a walk now and then.
		fill("counter_3.db", "c", 500)
		values(t, d)
		f := d.files["counter_3.db"]
		if f.part == nil || !f.part.Refused() {
			t.Fatal("counter_3.db has room")
		}
		if err := os.Remove(filepath.Join(dir, "counter_2.db")); err != nil {
			t.Fatal(err)
		}
		tries := 0
		for range 100 {
			was := f.readmit
			*clock = clock.Add(time.Minute)
			d.Sync(true)
			if f.readmit != was {
				tries++
			}
		}
		if tries > 10 {
			t.Errorf("in 100 minutes it is tried %d times", tries)
		}
	}
}

// TestReadmitRuled: a dead writer's gauges that rules have made live ones do not count
// again when there is room for all of its file.
func TestReadmitRuled(t *testing.T) {
	dir := t.TempDir()
	d, log, clock := openLimited(t, dir, func(l *Limits) { l.Series = 200 })
	d.freeze(true)
	d.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "conns", mmapfile.LiveSum)}})
	fill := func(base, sample string, n int) *mmapfile.Writer {
		t.Helper()
		w, _ := write(t, dir, base, "conns", 5)
		for i := range n {
			if _, err := w.Append(fmt.Appendf(nil, `["g", "g", {"%s": "%d"}]`, sample, i)); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	fill("gauge_max_1.db", "a", 150)
	values(t, d)
	w := fill("gauge_max_2.db", "b", 80)
	want(t, "two living", values(t, d), "conns", 10, "g", 0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d.Sync(true)
	want(t, "one has died", values(t, d), "conns", 5, "g", 0)
	if err := os.Remove(filepath.Join(dir, "gauge_max_1.db")); err != nil {
		t.Fatal(err)
	}
	values(t, d)
	*clock = clock.Add(2 * time.Minute)
	d.Sync(true)
	if n := log.count("there is room by now"); n != 1 {
		t.Fatalf("said %d times that there is room:\n%s", n, log)
	}
	want(t, "with room for the dead one's", values(t, d), "g", 0)
}
