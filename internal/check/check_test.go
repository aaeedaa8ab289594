package check

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/testpeer"
)

// entry is one of a value file.
type entry struct {
	key   string
	value float64
	stamp float64
}

// write makes a value file. Its writer lives until alive is closed.
func write(t testing.TB, dir, base string, l mmapfile.Layout, entries ...entry) (alive *mmapfile.Writer) {
	t.Helper()
	w, err := mmapfile.Create(filepath.Join(dir, base), l, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		off, err := w.Append([]byte(e.key))
		if err != nil {
			t.Fatal(err)
		}
		if w.Set(off, e.value); l == mmapfile.ValueTimestamp {
			w.SetAt(off, e.value, e.stamp)
		}
	}
	return w
}

// left makes a value file whose writer is dead.
func left(t testing.TB, dir, base string, entries ...entry) {
	t.Helper()
	if err := write(t, dir, base, mmapfile.ValueTimestamp, entries...).Close(); err != nil {
		t.Fatal(err)
	}
}

// held makes a value file whose writer is alive until the test ends.
func held(t testing.TB, dir, base string, entries ...entry) {
	t.Helper()
	w := write(t, dir, base, mmapfile.ValueTimestamp, entries...)
	t.Cleanup(func() { w.Close() })
}

var jobs = entry{key: `["jobs", "jobs_total", {}, "Jobs done."]`, value: 3}

// lookAt runs all checks, and looks that they leave the directory alone.
func lookAt(t testing.TB, dir string, set ...func(*Options)) *Report {
	t.Helper()
	o := Options{Path: dir, Limits: multiproc.DefaultLimits()}
	for _, f := range set {
		f(&o)
	}
	before := listing(t, dir)
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
		t.Errorf("check changed the directory (-before +after):\n%s", diff)
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(line)) - 1; n > width && strings.Contains(strings.TrimSpace(line), " ") && !strings.Contains(line, dir) {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	return r
}

// listing is what is in a directory, and when that changed.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // which is what some tests are about
	}
	all := make(map[string]string)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
	}
	return all
}

// said are the ids and severities of a report, but for the hints that a test has
// nothing to do with: where it runs, and who runs it.
func said(r *Report, ids ...string) []string {
	aside := []string{"PA102", "PA104", "PA211", "PA204"}
	var got []string
	for _, f := range r.Findings {
		if !slices.Contains(aside, f.ID) || slices.Contains(ids, f.ID) {
			got = append(got, f.ID+" "+string(f.Severity))
		}
	}
	return got
}

// tells checks that a report has these findings and no others. Each is "ID severity".
func tells(t testing.TB, r *Report, want ...string) {
	t.Helper()
	var ids []string
	for _, w := range want {
		id, _, _ := strings.Cut(w, " ")
		ids = append(ids, id)
	}
	if diff := cmp.Diff(want, said(r, ids...)); diff != "" {
		var b strings.Builder
		_ = r.Print(&b) // to a Builder
		t.Errorf("findings (-want +got):\n%s\n%s", diff, &b)
	}
}

// find returns the text of a report's finding, all of it.
func find(t testing.TB, r *Report, id string) string {
	t.Helper()
	var all []string
	for _, f := range r.Findings {
		if f.ID == id {
			all = append(all, f.What+"\n"+strings.Join(f.Details, "\n"))
		}
	}
	if all == nil {
		t.Errorf("no %s in %v", id, said(r))
	}
	return strings.Join(all, "\n")
}

func contains(t testing.TB, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

func TestNothing(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	r := lookAt(t, dir, func(o *Options) { o.Ignore = []string{"PA211", "PA204"} })
	tells(t, r)
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	contains(t, b.String(), "\nnothing to report (1 ignored)\n")
	contains(t, strings.Join(strings.Fields(b.String()), " "), "1 value file of 1 writer (0 dead)", "lease works, flock works")
	if strings.Contains(b.String(), "error") {
		t.Errorf("it speaks of errors: %s", &b)
	}
}

func TestOrder(t *testing.T) {
	dir := testpeer.Shm(t)
	left(t, dir, "counter_1.db", entry{key: `["bad", "bad", {}]`, value: 1})
	if err := os.WriteFile(filepath.Join(dir, "counter_2.db"), []byte("junk that is no value file"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := lookAt(t, dir)
	tells(t, r, "PA401 error", "PA404 warning", "PA405 warning", "PA601 hint", "PA601 hint")
	if r.Errors != 1 || r.Warnings != 2 || r.Ignored != 0 {
		t.Errorf("%d errors, %d warnings, %d ignored", r.Errors, r.Warnings, r.Ignored)
	}
	r = lookAt(t, dir, func(o *Options) { o.Ignore = []string{"PA401", "PA405", "PA211", "PA204", "PA601"} })
	tells(t, r, "PA404 warning")
	if r.Errors != 0 || r.Ignored < 4 {
		t.Errorf("%d errors, %d ignored", r.Errors, r.Ignored)
	}
}

// TestPrintMany: where a finding has more details than it keeps, what is printed counts
// all that it leaves out.
func TestPrintMany(t *testing.T) {
	for _, n := range []int{shown, shown + 1, most, most + 1, 100_000} {
		lines := make([]string, n)
		for i := range lines {
			lines[i] = fmt.Sprintf("line-%d", i)
		}
		r := Report{Findings: []Finding{finding("PA404", lines, "many")}}
		var b strings.Builder
		if err := r.Print(&b); err != nil {
			t.Fatal(err)
		}
		printed := strings.Count(b.String(), "- line-")
		want := fmt.Sprintf("- and %d more\n", n-printed)
		if printed > n || (printed < n) != strings.Contains(b.String(), want) {
			t.Errorf("%d details: printed %d, and not %q:\n%s", n, printed, want, b.String())
		}
	}
}

// TestPrintHostile: what writers choose does not reach a terminal as it is.
func TestPrintHostile(t *testing.T) {
	dir := testpeer.Shm(t)
	held(t, dir, "counter_1.db", jobs)
	if err := os.WriteFile(filepath.Join(dir, "counter_\x1b[2J.db.bak"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := lookAt(t, dir)
	tells(t, r, "PA403 warning")
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsRune(b.String(), '\x1b') {
		t.Errorf("an escape: %q", &b)
	}
}

// TestTry: with --read-only nothing is even tried, else there is nothing
// left, and no reader took it for a value file.
func TestTry(t *testing.T) {
	dir := testpeer.Shm(t)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l := try(dir, true); l.lease.String() != notTried || l.flock.String() != notTried {
		t.Errorf("read-only: lease %v, flock %v", l.lease, l.flock)
	}
	again, err := os.Stat(dir)
	if err != nil || !again.ModTime().Equal(info.ModTime()) {
		t.Errorf("read-only changed the directory (%v)", err)
	}
	if l := try(dir, false); l.lease.String() != "works" || l.flock.String() != "works" {
		t.Errorf("on tmpfs: lease %v, flock %v", l.lease.err, l.flock.err)
	}
	if got := slices.Collect(maps.Keys(listing(t, dir))); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	if !mmapfile.Own(mmapfile.OwnPrefix + "_check_1.tmp") {
		t.Error("the file's name is not one of promagg's own")
	}
}
