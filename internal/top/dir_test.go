package top

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// world is a directory whose time passes by ten seconds from look to look.
type world struct {
	t    *testing.T
	path string
	dir  *Dir
	at   time.Time
	from *Look
	to   *Look
}

func newWorld(t *testing.T, limits multiproc.Limits) *world {
	w := &world{t: t, path: t.TempDir(), at: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	w.dir = NewDir(w.path, mmapfile.ProbeAuto, limits)
	w.dir.now = func() time.Time { return w.at }
	t.Cleanup(func() {
		if err := w.dir.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) look() {
	w.t.Helper()
	w.at = w.at.Add(10 * time.Second)
	look, err := w.dir.Look(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.from, w.to = w.to, look
}

// writer is one that lives until it is closed.
type writer struct {
	t *testing.T
	*mmapfile.Writer
	offsets map[string]uint32
}

func (w *world) writer(base string) *writer {
	w.t.Helper()
	f, err := mmapfile.Create(filepath.Join(w.path, base), mmapfile.ValueTimestamp, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	wr := &writer{w.t, f, make(map[string]uint32)}
	w.t.Cleanup(func() { wr.Close() })
	return wr
}

// set sets the value of family, sample and label, as in "jobs jobs_total a".
func (w *writer) set(key string, v float64) {
	w.t.Helper()
	off, ok := w.offsets[key]
	if !ok {
		part := strings.Fields(key)
		k := mmapfile.Key{Family: part[0], Sample: part[1]}
		if len(part) > 2 {
			name, value, _ := strings.Cut(part[2], "=")
			k.Labels = []mmapfile.Label{{Name: name, Value: value}}
		}
		var err error
		if off, err = w.Append(mmapfile.AppendKey(nil, k)); err != nil {
			w.t.Fatal(err)
		}
		w.offsets[key] = off
	}
	w.Set(off, v)
}

// row is a row as programs get it.
func row(t *testing.T, table Table, name string) string {
	t.Helper()
	for _, r := range table.Rows {
		if r.Name != name {
			continue
		}
		var b strings.Builder
		for i, c := range table.Columns {
			fmt.Fprintf(&b, "%s=%s ", c.Title, c.printed(r.Values[i]))
		}
		return strings.TrimSpace(b.String())
	}
	return ""
}

func wantRow(t *testing.T, table Table, name, want string) {
	t.Helper()
	if got := row(t, table, name); got != want {
		t.Errorf("row %s:\n got %s\nwant %s", name, got, want)
	}
}

// TestRates follows two workers through two looks, with all that counts and all that
// does not.
func TestRates(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	a, b := w.writer("counter_a.db"), w.writer("counter_b.db")
	h, g, s := w.writer("histogram_a.db"), w.writer("gauge_all_b.db"), w.writer("summary_b.db")
	a.set("jobs jobs_total queue=x", 1000)
	a.set("jobs jobs_created queue=x", 1.7e9)
	b.set("jobs jobs_total queue=x", 5)
	h.set("took took_bucket le=1.0", 3)
	h.set("took took_bucket le=+Inf", 4)
	h.set("took took_sum", 99)
	g.set("busy busy", 3)
	s.set("size size_count", 1)
	s.set("size size_sum", 1)
	w.look()
	wantRow(t, Families(w.from, w.to), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=3 WORKERS=2 VALUE=1005 RATE/S=- SKEW=- CV=-")
	wantRow(t, Workers(w.from, w.to), "a", "WORKER=a STATE=alive AGE=- CPU%=- RSS=- THREADS=- FILES=2 ENTRIES=5 UPDATES/S=- SHARE=-")

	a.set("jobs jobs_total queue=x", 1030)
	a.set("jobs jobs_total queue=y", 30) // is new, so it began at 0
	a.set("jobs jobs_created queue=x", 1.8e9)
	b.set("jobs jobs_total queue=x", 25)
	h.set("took took_bucket le=1.0", 13)
	h.set("took took_bucket le=+Inf", 14)
	h.set("took took_sum", 9999)
	g.set("busy busy", 300)
	s.set("size size_count", 6)
	s.set("size size_sum", 1e6)
	w.look()
	families := Families(w.from, w.to)
	// 6/s and 2/s: the mean is 4, the deviation 2.
	wantRow(t, families, "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=4 WORKERS=2 VALUE=1085 RATE/S=8.000 SKEW=1.50 CV=0.50")
	wantRow(t, families, "took", "FAMILY=took TYPE=histogram ENTRIES=3 WORKERS=1 VALUE=27 RATE/S=2.000 SKEW=2.00 CV=1.00")
	wantRow(t, families, "size", "FAMILY=size TYPE=summary ENTRIES=2 WORKERS=1 VALUE=6 RATE/S=0.500 SKEW=2.00 CV=1.00")
	wantRow(t, families, "busy", "FAMILY=busy TYPE=gauge ENTRIES=1 WORKERS=1 VALUE=300 RATE/S=- SKEW=- CV=-")
	workers := Workers(w.from, w.to)
	wantRow(t, workers, "a", "WORKER=a STATE=alive AGE=- CPU%=- RSS=- THREADS=- FILES=2 ENTRIES=6 UPDATES/S=8.000 SHARE=0.7619")
	wantRow(t, workers, "b", "WORKER=b STATE=alive AGE=- CPU%=- RSS=- THREADS=- FILES=3 ENTRIES=4 UPDATES/S=2.500 SHARE=0.2381")
	byWorker := ByWorker(w.from, w.to, FamilyID{"jobs_total", "counter"})
	wantRow(t, byWorker, "a", "WORKER=a STATE=alive ENTRIES=3 VALUE=1060 RATE/S=6.000 SHARE=0.7500")
	wantRow(t, byWorker, "b", "WORKER=b STATE=alive ENTRIES=1 VALUE=25 RATE/S=2.000 SHARE=0.2500")
	// One that lives and has none of it is shown, too: it has no part in the work.
	wantRow(t, ByWorker(w.from, w.to, FamilyID{"took", "histogram"}), "b", "WORKER=b STATE=alive ENTRIES=0 VALUE=0 RATE/S=0.000 SHARE=0.0000")
	wantRow(t, ByFamily(w.from, w.to, "b"), "size", "FAMILY=size TYPE=summary ENTRIES=2 VALUE=6 RATE/S=0.500 SHARE=1.0000")
	if len(w.to.Notes) > 0 {
		t.Errorf("notes: %q", w.to.Notes)
	}
}

// TestRenamed has a file renamed as a fold does, deleted, and made anew, and wants no
// rate that nobody has counted.
func TestRenamed(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	a := w.writer("counter_12.db")
	a.set("jobs jobs_total", 1000)
	w.look()
	claimed := filepath.Join(w.path, "counter_12~1.db")
	if err := os.Rename(filepath.Join(w.path, "counter_12.db"), claimed); err != nil {
		t.Fatal(err)
	}
	a.set("jobs jobs_total", 1010)
	w.look()
	wantRow(t, ByFamily(w.from, w.to, "12"), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=1 VALUE=1010 RATE/S=1.000 SHARE=1.0000")
	a.Close()
	// The name is free for a new worker, which begins at 0.
	b := w.writer("counter_12.db")
	b.set("jobs jobs_total", 50)
	w.look()
	wantRow(t, ByFamily(w.from, w.to, "12"), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=2 VALUE=1060 RATE/S=5.000 SHARE=1.0000")
	if err := os.Remove(claimed); err != nil {
		t.Fatal(err)
	}
	w.look() // the file may have been between two names
	w.look()
	wantRow(t, ByFamily(w.from, w.to, "12"), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=1 VALUE=50 RATE/S=0.000 SHARE=-")
	b.Close()
	if err := os.Remove(filepath.Join(w.path, "counter_12.db")); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.look()
	if len(w.to.Workers)+len(w.to.Families)+len(w.dir.files) > 0 {
		t.Errorf("left of a deleted file: %v %v", w.to.Workers, w.to.Families)
	}
}

// TestFell has a count begin anew, and wants the rate of what comes after only.
func TestFell(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	a := w.writer("counter_a.db")
	a.set("jobs jobs_total", 1000)
	w.look()
	a.set("jobs jobs_total", 10)
	w.look()
	wantRow(t, ByFamily(w.from, w.to, "a"), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=1 VALUE=10 RATE/S=0.000 SHARE=-")
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Float64frombits(mmapfile.StaleBits), 20} {
		a.set("jobs jobs_total", v)
		w.look()
		if r := (span{w.from, w.to}).rate(FamilyID{"jobs_total", "counter"}, ""); r != 0 && v != 20 || v == 20 && r != 1 {
			t.Errorf("after %v the rate is %v", v, r)
		}
	}
}

// TestNotes has files that can't be read, and one that can be from the second look on:
// what it had by then is not new.
func TestNotes(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	for _, base := range []string{"counter_bad.db", "histogram_bad.db"} {
		if err := os.WriteFile(filepath.Join(w.path, base), []byte("no value file at all, but long enough"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(w.path, "counter_late.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"junk", "counter_archived.db"} {
		if err := os.WriteFile(filepath.Join(w.path, base), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.look()
	if len(w.to.Notes) != 1 || !strings.HasPrefix(w.to.Notes[0], "3 files can't be read to their end, the first: counter_bad.db: ") {
		t.Errorf("notes: %q", w.to.Notes)
	}
	if _, ok := w.to.Workers["archived"]; ok {
		t.Error("an archive passes for a worker's file")
	}
	if err := os.Remove(filepath.Join(w.path, "counter_late.db")); err != nil {
		t.Fatal(err)
	}
	late := w.writer("counter_late.db")
	late.set("jobs jobs_total", 1000)
	w.look()
	wantRow(t, ByFamily(w.from, w.to, "late"), "jobs_total", "FAMILY=jobs_total TYPE=counter ENTRIES=1 VALUE=1000 RATE/S=0.000 SHARE=-")
}

// TestLimits wants what is past a limit left out, and said.
func TestLimits(t *testing.T) {
	limits := multiproc.DefaultLimits()
	limits.Files, limits.Entries, limits.KeyLength, limits.Labels = 1, 1, 100, 1
	w := newWorld(t, limits)
	a := w.writer("counter_a.db")
	a.set("jobs jobs_total", 1)
	a.set("jobs jobs_total x="+strings.Repeat("y", 200), 1)
	a.set("jobs jobs_total x=1", 1)
	w.look()
	w.writer("counter_b.db").set("jobs jobs_total", 1)
	w.look()
	want := []string{"1 files are past the limit", "2 entries were past a limit"}
	if got := w.to.Notes; strings.Join(got, ";") != strings.Join(want, ";") || len(w.to.Workers) != 1 {
		t.Errorf("notes: %q, want %q; %d workers", got, want, len(w.to.Workers))
	}
}

// TestTruncated has a file cut off under its mapping.
func TestTruncated(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	a := w.writer("counter_a.db")
	for i := range 2000 {
		a.set("jobs jobs_total x="+strconv.Itoa(i), 1)
	}
	a.Close()
	w.look()
	if err := os.Truncate(filepath.Join(w.path, "counter_a.db"), 4096); err != nil {
		t.Fatal(err)
	}
	w.look()
	if len(w.to.Notes) != 1 || !strings.Contains(w.to.Notes[0], "counter_a.db") {
		t.Errorf("notes: %q", w.to.Notes)
	}
	w.look()
	if len(w.to.Notes) != 1 || w.to.Workers["a"] == nil || w.to.Workers["a"].Entries >= 2000 {
		t.Errorf("notes %q, worker %+v", w.to.Notes, w.to.Workers["a"])
	}
}

// TestFixtures wants of the files of six versions of other clients the counts that they
// read back themselves.
func TestFixtures(t *testing.T) {
	for _, name := range fixture.Names() {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			fixture.Unpack(t, name, path)
			d := NewDir(path, mmapfile.ProbeOff, multiproc.DefaultLimits())
			defer d.Close()
			look, err := d.Look(t.Context())
			if err != nil || len(look.Notes) > 0 {
				t.Fatal(err, look.Notes)
			}
			values, _ := fixture.Expected(t, name)
			sums := make(map[string]float64)
			for key, v := range values {
				sample, _, _ := strings.Cut(key, " ")
				sums[sample] += v
			}
			compared := 0
			for id, f := range look.Families {
				want, ok := sums[map[string]string{"counter": id.Name, "histogram": id.Name + "_count", "summary": id.Name + "_count"}[id.Type]]
				if !id.counts() || !ok || math.IsNaN(want) {
					continue
				}
				compared++
				if math.Abs(f.Value-want) > 1e-9*math.Abs(want) {
					t.Errorf("%s %s is %v, want %v", id.Type, id.Name, f.Value, want)
				}
			}
			if compared == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}

// TestDirUntouched wants looks to leave nothing behind and hold no lock.
func TestDirUntouched(t *testing.T) {
	w := newWorld(t, multiproc.DefaultLimits())
	w.writer("counter_a.db").set("jobs jobs_total", 1)
	before, err := os.Stat(w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.look()
	w.look()
	d, err := mmapfile.OpenDirectory(w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.LockEntries(0); err != nil {
		t.Errorf("who folds has to wait: %v", err)
	}
	w.look() // and does not wait itself
	if after, err := os.Stat(w.path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the directory was changed: %v, %v", after.ModTime(), err)
	}
}
