package multiproc

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

func expression(t *testing.T, s string) *regexp.Regexp {
	t.Helper()
	e, err := merge.Expression(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func modeRule(t *testing.T, family string, m mmapfile.Mode) merge.ModeRule {
	t.Helper()
	return merge.ModeRule{Family: expression(t, family), Mode: m}
}

// TestRuleLive: a gauge that a rule makes a live one follows its writer, who dies and
// comes again, and is found dead at the start.
func TestRuleLive(t *testing.T) {
	for _, freezing := range []bool{false, true} {
		dir := t.TempDir()
		d, _ := open(t, dir, mmapfile.ProbeAuto)
		d.freeze(freezing)
		d.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "conns", mmapfile.LiveSum)}})
		write(t, dir, "gauge_all_1.db", "conns", 1)
		mortal, _ := write(t, dir, "gauge_all_2.db", "conns", 2)
		want(t, "two living", values(t, d), "conns", 3)
		if err := mortal.Close(); err != nil {
			t.Fatal(err)
		}
		want(t, "one has died", values(t, d), "conns", 1)
		d.Sync(true)
		want(t, "and is looked at", values(t, d), "conns", 1)

		again, err := mmapfile.Create(filepath.Join(dir, "gauge_all_2.db"), mmapfile.ValueTimestamp, 0)
		if err != nil {
			t.Fatal(err)
		}
		d.Sync(true)
		want(t, "it has come again", values(t, d), "conns", 3)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		want(t, "and died again", values(t, d), "conns", 1)
		fresh, _ := open(t, dir, mmapfile.ProbeAuto)
		fresh.Rule(d.opts.Rules)
		fresh.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "conns", mmapfile.LiveSum)}})
		want(t, "found dead", values(t, fresh), "conns", 1)
		fresh.Close()
	}
}

// TestRulesChange: rules that change change what is served, as if it had been so from
// the start, and what was counted since goes on being counted.
func TestRulesChange(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.freeze(true)
	write(t, dir, "gauge_max_1.db", "mem", 1)
	dead, _ := write(t, dir, "gauge_max_2.db", "mem", 2)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "counter_3.db"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "without rules", values(t, d), "mem", 2)
	damages := d.Stats().Damages
	d.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "mem", mmapfile.Sum)}})
	want(t, "with a rule", values(t, d), "mem", 3)
	d.Rule(merge.Rules{Labels: []mmapfile.Label{{Name: "app", Value: "web"}}})
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Find("mem"); f == nil || len(f.Series) != 1 || f.Series[0].Labels != `app="web"` || s.Values(f)[0] != 2 {
		t.Errorf("with another one: %+v", f)
	}
	d.Rule(merge.Rules{})
	want(t, "without rules again", values(t, d), "mem", 2)
	if got := d.Stats().Damages; got < damages || damages == 0 {
		t.Errorf("%d damages were counted before the rules changed, now %d", damages, got)
	}
}

// TestRuleFold: what a rule merges in another mode than its file has is not folded, for
// an archive would have it merged by the file's.
func TestRuleFold(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	d.opts.Fold.Retention = Forever
	d.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "mem", mmapfile.Sum)}})
	for base, key := range map[string]string{"gauge_max_1.db": "mem", "gauge_max_2.db": "mem", "gauge_max_3.db": "other", "counter_4.db": "c_total"} {
		w, _ := write(t, dir, base, key, 5)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		want(t, "before and after", values(t, d), "mem", 10, "other", 5, "c_total", 5)
		foldOnce(t, d)
	}
	wantNames(t, dir, "counter_archived.db", "gauge_max_1.db", "gauge_max_2.db", "gauge_max_archived.db")
}

// TestRuleWhileFolding: rules that come when files are claimed already, or while their
// archive is written, keep them from being folded by the mode that holds no more.
func TestRuleWhileFolding(t *testing.T) {
	for _, op := range []string{"syncdir", "write", "sync"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			d, _ := open(t, dir, mmapfile.ProbeAuto)
			d.opts.Fold.Retention = Forever
			for base, key := range map[string]string{"gauge_max_1.db": "mem", "gauge_max_2.db": "mem", "gauge_max_3.db": "other"} {
				w, _ := write(t, dir, base, key, 5)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			want(t, "without rules", values(t, d), "mem", 5, "other", 5)
			ruled := false
			d.opts.Fold.Hook = func(s fold.Step) error {
				if s.Op != op || ruled {
					return nil
				}
				ruled = true
				d.Rule(merge.Rules{Modes: []merge.ModeRule{modeRule(t, "mem", mmapfile.Sum)}})
				return nil
			}
			foldOnce(t, d)
			if !ruled {
				t.Fatal("there was no such step")
			}
			for range 2 {
				want(t, "with a rule", values(t, d), "mem", 10, "other", 5)
				foldOnce(t, d)
			}
			want(t, "and folded", values(t, d), "mem", 10, "other", 5)
			wantNames(t, dir, "gauge_max_1.db", "gauge_max_2.db", "gauge_max_archived.db")
		})
	}
}

// TestRuleWhileAnotherFolds: all files are read anew for rules that change, and while
// another process gives files other names they are not all to be seen.
func TestRuleWhileAnotherFolds(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeOff)
	write(t, dir, "counter_1.db", "c_total", 1)
	write(t, dir, "counter_2.db", "c_total", 2)
	want(t, "at first", values(t, d), "c_total", 3)

	folding := lockEntries(t, dir)
	hidden := filepath.Join(t.TempDir(), "counter_1.db")
	if err := os.Rename(filepath.Join(dir, "counter_1.db"), hidden); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	time.AfterFunc(3*maxWait, func() {
		done <- errors.Join(os.Rename(hidden, filepath.Join(dir, "counter_1.db")), folding.UnlockEntries())
	})
	d.Rule(merge.Rules{})
	files := d.Stats().Files
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if files != 2 {
		t.Errorf("with other rules there are %d files, want 2", files)
	}
	want(t, "with other rules", values(t, d), "c_total", 3)
}

// TestRuleWhileClaimed: files that are read anew for other rules after they were claimed are
// folded the next time, when it is known again what of them is past a limit.
func TestRuleWhileClaimed(t *testing.T) {
	dir := t.TempDir()
	d, _, clock := openLimited(t, dir, func(l *Limits) { l.Series = 10 })
	series(t, dir, "counter_1.db", 0, 100)
	d.Sync(true)
	*clock = clock.Add(time.Second)
	served := len(values(t, d))
	w := &folder{d: d}
	defer w.close()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	claimed, err := w.claim(w.dead(func(*file) bool { return true }))
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	d.Rule(merge.Rules{})
	if err := w.kind(claimed[0].name.Archive(), claimed); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "counter_1.db")
	w.close()
	foldOnce(t, d)
	wantNames(t, dir, "counter_archived.db")
	if n := inArchiveOf(t, filepath.Join(dir, "counter_archived.db")); n != served || n == 0 {
		t.Errorf("the archive has %d entries, want the %d that there was room for", n, served)
	}
}

// TestRuleFoldPastLimit: what a rule leaves out of a file is folded as without it, also
// where a limit keeps others of the file's entries out.
func TestRuleFoldPastLimit(t *testing.T) {
	dir := t.TempDir()
	d, _, _ := openLimited(t, dir, func(l *Limits) { l.Series = 50 })
	d.Rule(merge.Rules{Drop: []*regexp.Regexp{expression(t, "c[0-4]_total")}})
	series(t, dir, "counter_1.db", 0, 100)
	d.Sync(true)
	served := len(values(t, d))
	foldOnce(t, d)
	if n := inArchiveOf(t, filepath.Join(dir, "counter_archived.db")); n != served+5 {
		t.Errorf("the archive has %d entries, want the %d that are served and the 5 that a rule leaves out", n, served)
	}
	if n := d.Stats().Fold.Dropped; n != uint64(100-served-5) {
		t.Errorf("%d are counted as past a limit, want %d", n, 100-served-5)
	}
	d.Rule(merge.Rules{})
	if got := values(t, d); got["c0_total"] != 1 || len(got) != served+5 {
		t.Errorf("without the rule %d are served, want %d, with those that it left out: %v", len(got), served+5, got)
	}
}
