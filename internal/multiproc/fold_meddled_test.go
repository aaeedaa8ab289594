package multiproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// counted returns which of the litter's counters a total has in it. Nothing may be in
// it twice.
func counted(t *testing.T, what string, total float64) (parts int) {
	t.Helper()
	for rest, part := int(total), 1; rest > 0; rest, part = rest/4, part*4 {
		if rest%4 > 1 {
			t.Errorf("%s: c_total is %v, which has %d in it %d times", what, total, part, rest%4)
		}
		if rest%4 == 1 {
			parts |= part
		}
	}
	return parts
}

// meddling is what somebody else does to a file of the directory.
var meddling = map[string]func(t *testing.T, path string) error{
	"unlinked": func(t *testing.T, path string) error { return os.Remove(path) },
	"renamed": func(t *testing.T, path string) error {
		return os.Rename(path, filepath.Join(t.TempDir(), filepath.Base(path)))
	},
	"replaced": func(t *testing.T, path string) error { // by a copy of itself
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copied := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(copied, content, 0o600); err != nil {
			return err
		}
		return os.Rename(copied, path)
	},
}

// TestFoldMeddled: whatever file somebody unlinks, renames or replaces, and before
// whatever step of a fold: what is left is counted once, what was taken away at most
// once, everybody sees the same, and the fold comes to its end.
func TestFoldMeddled(t *testing.T) {
	type meddler struct {
		name, victim string
		at, taken    int
		meddle       func(*testing.T, string) error
	}
	var all []meddler
	for i, at := range steps(t) {
		for how, meddle := range meddling {
			for victim, taken := range map[string]int{
				"counter_archived.db": inArchive, "counter_11": inDead * 4, "counter_12": inDead * 16,
				".promagg_counter_archived.tmp": 0, mmapfile.LockName: 0,
			} {
				if how == "replaced" {
					taken = 0
				}
				all = append(all, meddler{fmt.Sprintf("%d %s %s %s", i, at.Op, victim, how), victim, i, taken, meddle})
			}
		}
	}
	slices.SortFunc(all, func(a, b meddler) int { return strings.Compare(a.name, b.name) }) // for the seed
	for _, m := range some(t, 80, all) {
		t.Run(m.name, func(t *testing.T) { testMeddled(t, m.at, m.victim, m.taken, m.meddle) })
	}
}

func testMeddled(t *testing.T, at int, victim string, taken int, meddle func(*testing.T, string) error) {
	l := newLitter(t, t.TempDir())
	met := false
	l.hook = atStep(at, func() error {
		met = true
		// Whatever name it has by now.
		found, err := filepath.Glob(filepath.Join(l.dir, victim+"*"))
		if err != nil || len(found) == 0 {
			return err
		}
		if victim == "counter_archived.db" {
			if included := includedIn(t, found[0]); slices.Contains(included, "counter_12~1.db") {
				taken *= 1 + 4*(1+4+16) // it has been replaced by one with all the dead
			}
		}
		return meddle(t, found[0])
	})
	_ = l.round(t) // it may fail, and has then been counted
	if !met {
		t.Fatal("the fold did not come to the step")
	}
	check := func(what string) {
		t.Helper()
		fresh, _ := open(t, l.dir, mmapfile.ProbeAuto)
		defer fresh.Close()
		l.d.Sync(true)
		mine, theirs := counted(t, what, values(t, l.d)["c_total"]), counted(t, what, values(t, fresh)["c_total"])
		if mine != theirs {
			t.Errorf("%s: who folds sees %x, who comes %x", what, mine, theirs)
		}
		if lost := inAll &^ mine; lost&^taken != 0 {
			t.Errorf("%s: lost %x, of which %x was taken away", what, lost, taken)
		}
	}
	check("afterwards")
	for range 2 {
		if err := l.round(t); err != nil {
			t.Fatal(err)
		}
	}
	check("in the end")
	if all := strings.Join(names(t, l.dir), " "); strings.Contains(all, "~") || strings.Contains(all, "counter_10") {
		t.Errorf("left over: %s", all)
	}
}

// includedIn returns what an archive includes.
func includedIn(t *testing.T, path string) []string {
	t.Helper()
	name, _ := mmapfile.ParseName(filepath.Base(path))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	included, err := mmapfile.ParseTrailer(name, content)
	if err != nil {
		t.Fatal(err)
	}
	return included
}

// TestFoldWiped: value files that somebody deletes while they are folded do not come
// back in an archive.
func TestFoldWiped(t *testing.T) {
	for i, at := range steps(t) {
		if at.Op == "commit" {
			continue // what comes after the last look is as if it came after the fold
		}
		t.Run(fmt.Sprintf("%d %s", i, at.Op), func(t *testing.T) {
			l := newLitter(t, t.TempDir())
			l.hook = atStep(i, func() error {
				files, err := filepath.Glob(filepath.Join(l.dir, "*.db"))
				for _, path := range files {
					if err := os.Remove(path); err != nil {
						return err
					}
				}
				return err
			})
			_ = l.round(t)
			if err := l.round(t); err != nil {
				t.Fatal(err)
			}
			wantNames(t, l.dir)
			want(t, "wiped", values(t, l.d))
		})
	}
}

// TestFoldDirectoryReplaced: the directory gets another name before some step of a
// fold, or is removed, and another one has its name then, with files of the same names
// or none. Nothing of either is lost, counted twice or taken for the other's.
func TestFoldDirectoryReplaced(t *testing.T) {
	for i, at := range steps(t) {
		for _, how := range []string{"renamed", "renamed, the new one is empty", "removed"} {
			t.Run(fmt.Sprintf("%d %s %s", i, at.Op, how), func(t *testing.T) { testReplaced(t, i, how) })
		}
	}
}

func testReplaced(t *testing.T, at int, how string) {
	parent := t.TempDir()
	dir, away := filepath.Join(parent, "metrics"), filepath.Join(parent, "away")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := newLitter(t, dir)
	wanted, left := []any{"c_total", 18}, []string{"counter_archived.db"}
	l.hook = atStep(at, func() error {
		if err := os.Rename(dir, away); err != nil {
			return err
		}
		if how == "removed" {
			if err := os.RemoveAll(away); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if how == "renamed, the new one is empty" {
			wanted, left = nil, nil
			return nil
		}
		for base, v := range map[string]float64{"counter_10.db": 5, "counter_10~1.db": 6, "counter_2.db": 7} {
			w, _ := write(t, dir, base, "c_total", v)
			if err := w.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	_ = l.round(t)
	want(t, "the new one", values(t, l.d), wanted...)
	if err := l.round(t); err != nil {
		t.Fatal(err)
	}
	want(t, "the new one, folded", values(t, l.d), wanted...)
	wantNames(t, dir, left...)
	if how == "removed" {
		return
	}
	// The old one gets its name back.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	l.wantAll(t, "the old one")
	l.wantFolded(t)
	l.wantAll(t, "the old one, folded")
}

// TestFoldFromTheStart: who serves a directory has the right to fold it from the start,
// not from an interval later, lest anybody believe that nobody has.
func TestFoldFromTheStart(t *testing.T) {
	d := Open(Options{Path: t.TempDir(), Rescan: time.Hour, Fold: Folding{Interval: time.Hour}})
	t.Cleanup(d.Close)
	run(t, d)
	testpeer.WaitFor(t, "the right to fold", 30*time.Second, func() error {
		if !d.Stats().Fold.Active {
			return errors.New("it has not got it")
		}
		return nil
	})
}

// TestFoldTakenOver: a promagg dies before some step of a fold, and another one takes
// its place that has seen the claimed files and nothing since. It neither adds up again
// what an archive has, nor gives a file a name that an archive says is deleted.
func TestFoldTakenOver(t *testing.T) {
	all := steps(t)
	claimed := slices.IndexFunc(all, func(s fold.Step) bool { return s.Op == "create" })
	for i, at := range all[claimed:] {
		t.Run(fmt.Sprintf("%d %s", claimed+i, at.Op), func(t *testing.T) {
			l := newLitter(t, t.TempDir())
			next, _ := open(t, l.dir, mmapfile.ProbeAuto)
			next.opts.Fold.Retention = Forever
			n := 0
			l.hook = func(fold.Step) error {
				if n == claimed {
					next.Sync(true)
				}
				if n++; n > claimed+i {
					return os.ErrProcessDone
				}
				return nil
			}
			if err := l.round(t); err == nil {
				t.Fatal("it did not come to the step")
			}
			l.w.close()
			wanted := []any{"c_total", inAll, "max", 2, "all", 7}
			if at == (fold.Step{Op: "delete", From: "counter_12~1.db"}) {
				// Claimed in vain, and used again by a process that has ended, too.
				w, _ := write(t, l.dir, "counter_10.db", "other_total", 1)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				wanted = append(wanted, "other_total", 1)
			}
			w := &folder{d: next}
			defer w.close()
			if err := w.round(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			fresh, _ := open(t, l.dir, mmapfile.ProbeAuto)
			want(t, "who took over", values(t, next), wanted...)
			want(t, "who comes", values(t, fresh), wanted...)
			if all := strings.Join(names(t, l.dir), " "); strings.Contains(all, "~") || strings.Contains(all, "counter_10") {
				t.Errorf("left over: %s", all)
			}
		})
	}
}

// TestFoldTwoAtOnce: somebody deletes the file whose lock is the right to fold, and
// another promagg takes that right while the first one is in the middle of a fold.
// One of them folds what there is, to the same values.
func TestFoldTwoAtOnce(t *testing.T) {
	for i, at := range steps(t) {
		if at.Op == "claim" || at.Op == "commit" {
			continue // the other one waits until it has been made
		}
		t.Run(fmt.Sprintf("%d %s", i, at.Op), func(t *testing.T) {
			l := newLitter(t, t.TempDir())
			second, _ := open(t, l.dir, mmapfile.ProbeAuto)
			second.opts.Fold.Retention = Forever
			second.Sync(true)
			w := &folder{d: second}
			defer w.close()
			l.hook = atStep(i, func() error {
				if err := os.Remove(filepath.Join(l.dir, mmapfile.LockName)); err != nil {
					return err
				}
				if err := w.round(t.Context(), 1); err != nil {
					t.Errorf("the second: %v", err)
				}
				// A process that has the id of a dead one comes and goes.
				one, _ := write(t, l.dir, "counter_12.db", "other_total", 1)
				return one.Close()
			})
			all := []any{"c_total", inAll, "max", 2, "all", 7, "other_total", 1}
			_ = l.round(t)
			fresh, _ := open(t, l.dir, mmapfile.ProbeAuto)
			for range 3 {
				want(t, "the first", values(t, l.d), all...)
				want(t, "the second", values(t, second), all...)
				want(t, "who comes", values(t, fresh), all...)
				_, _ = w.round(t.Context(), 1), l.round(t)
			}
			if left := strings.Join(names(t, l.dir), " "); strings.Contains(left, "~") || strings.Contains(left, "counter_10") {
				t.Errorf("left over: %s", left)
			}
		})
	}
}

// TestFoldLateDelete: who has lost the right to fold before it came to delete what it has
// folded deletes nothing: the names may be those of other files by now.
func TestFoldLateDelete(t *testing.T) {
	l := newLitter(t, t.TempDir())
	second, _ := open(t, l.dir, mmapfile.ProbeAuto)
	second.opts.Fold.Retention = Forever
	w := &folder{d: second}
	defer w.close()
	// It stops when it has read another file of the same name.
	claimed, on := make(chan bool), make(chan bool)
	second.opts.Fold.Hook = func(s fold.Step) error {
		if s.Op == "claim" && s.From == "counter_12.db" && s.To != "counter_12~1.db" {
			t.Errorf("the file is claimed as %s", s.To)
		}
		if s.Op == "create" && strings.Contains(s.From, "counter") {
			claimed <- true
			<-on
		}
		return nil
	}
	committed := false
	var folding sync.WaitGroup
	l.hook = func(s fold.Step) error {
		if committed = committed || s.Op == "commit"; !committed || s.Op != "syncdir" || w.f != nil {
			return nil
		}
		if err := os.Remove(filepath.Join(l.dir, mmapfile.LockName)); err != nil {
			return err
		}
		second.Sync(true)
		if err := w.round(t.Context(), 1); err != nil { // which deletes it all
			return err
		}
		one, _ := write(t, l.dir, "counter_12.db", "c_total", 4*inDead*16)
		if err := one.Close(); err != nil {
			return err
		}
		// The archive that says that the name is deleted is replaced before the name is used.
		if err := forgetIncluded(t, l.dir); err != nil {
			return err
		}
		second.Sync(true)
		folding.Go(func() {
			if err := w.round(t.Context(), 1); err != nil {
				t.Errorf("the second: %v", err)
			}
		})
		<-claimed
		return nil
	}
	if err := l.round(t); err == nil {
		t.Error("no error for a fold that was overtaken")
	}
	close(on)
	folding.Wait()
	want(t, "the second", values(t, second), "c_total", inAll+4*inDead*16, "max", 2, "all", 7)
}

// forgetIncluded makes the archive of counters one that names no files any more.
func forgetIncluded(t *testing.T, dir string) error {
	t.Helper()
	path := filepath.Join(dir, "counter_archived.db")
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	used := binary.LittleEndian.Uint32(content)
	if err := os.WriteFile(path+".new", mmapfile.AppendTrailer(content[:used], nil), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// TestFoldDraftDamaged: a draft that is no archive any more when it takes the place of
// one. What the old one had is lost, of which nobody has another copy; the files that
// the new one was to include are kept.
func TestFoldDraftDamaged(t *testing.T) {
	l := newLitter(t, t.TempDir())
	l.hook = func(s fold.Step) error {
		if s.Op == "commit" && s.To == "counter_archived.db" {
			return os.Truncate(filepath.Join(l.dir, s.From), 0)
		}
		return nil
	}
	for range 2 {
		if err := l.round(t); err != nil && !errors.Is(err, mmapfile.ErrTrailer) {
			t.Fatal(err)
		}
		want(t, "without what was in the archive", values(t, l.d), "c_total", inAll-inArchive, "max", 2, "all", 7)
	}
	if l.log.count("level=WARN", "counter_archived.db") != 1 || l.log.count("level=ERROR", "counter_archived.db", "move it away") != 1 {
		t.Errorf("logged:\n%s", l.log)
	}
	if err := os.Remove(filepath.Join(l.dir, "counter_archived.db")); err != nil {
		t.Fatal(err)
	}
	l.hook = func(fold.Step) error { return nil }
	l.wantFolded(t)
	want(t, "in the end", values(t, l.d), "c_total", inAll-inArchive, "max", 2, "all", 7)
}

// TestFoldReturnFails: a claimed file that has a writer after all, and can't be given its
// name back, counts as it is until it has none.
func TestFoldReturnFails(t *testing.T) {
	l := newLitter(t, t.TempDir())
	var w *mmapfile.Writer
	returns := 0
	l.hook = func(s fold.Step) (err error) {
		switch {
		case s.Op == "claim" && s.From == "counter_11.db":
			w, err = mmapfile.Create(filepath.Join(l.dir, s.From), mmapfile.ValueTimestamp, 0)
		case s.Op == "return":
			returns++
			err = syscall.EIO
		}
		return err
	}
	if err := l.round(t); !errors.Is(err, syscall.EIO) || returns != 1 {
		t.Fatalf("%v, given back %d times", err, returns)
	}
	l.wantAll(t, "not given back")
	for range 2 {
		if err := l.round(t); err != nil {
			t.Fatal(err)
		}
		l.wantAll(t, "the others are folded")
		wantNames(t, l.dir, "counter_1.db", "counter_11~1.db", "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_max_archived.db")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l.wantFolded(t)
	l.wantAll(t, "in the end")
}

// lockListing waits as long as most until the directory can be listed in peace.
func lockListing(dir string, most time.Duration) error {
	lister, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(mmapfile.LockListing(lister, most), lister.Close())
}

// TestFoldLetsList: however many files get other names, who wants to list the directory
// has his turn between them.
func TestFoldLetsList(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	const chunks = 20
	for i := range chunks * atOnce {
		archive(t, dir, fmt.Sprintf("counter_%d.db", i), "c_total", 1)
	}
	d.Sync(true)
	w := &folder{d: d}
	defer w.close()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	done, turns := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				turns <- n
				return
			default:
			}
			if err := lockListing(dir, time.Hour); err != nil {
				t.Error(err)
			}
			if !strings.Contains(strings.Join(names(t, dir), " "), "~") {
				n-- // nothing is claimed yet
			}
		}
	}()
	claimed, err := w.claim(w.dead(func(*file) bool { return true }))
	close(done)
	if n := <-turns; err != nil || len(claimed) != chunks*atOnce || n < chunks/2 {
		t.Errorf("claimed %d files, %v; the directory could be listed %d times meanwhile", len(claimed), err, n)
	}
}

// TestFoldWaitsForSnapshot: who folds does not keep others from listing the directory while
// it waits for its own snapshot, and has its turn once that is made.
func TestFoldWaitsForSnapshot(t *testing.T) {
	l := newLitter(t, t.TempDir())
	if _, err := l.w.open(); err != nil {
		t.Fatal(err)
	}
	files := l.w.dead(func(f *file) bool { return f.name.Type == mmapfile.Counter })
	l.d.mu.Lock()
	done := make(chan error)
	go func() {
		claimed, err := l.w.claim(files)
		if err == nil && len(claimed) != len(files) {
			err = fmt.Errorf("claimed %d files, want %d", len(claimed), len(files))
		}
		done <- err
	}()
	for range 100 {
		if err := lockListing(l.dir, 0); err != nil {
			t.Error(err)
			break
		}
		time.Sleep(time.Millisecond)
	}
	l.d.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFoldRightLost: who has had the right to fold, and does not know yet that another one
// has it by now, lists the directory no more while that one gives files other names.
func TestFoldRightLost(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	write(t, dir, "counter_1.db", "c_total", 1)
	write(t, dir, "counter_2.db", "c_total", 2)
	w := &folder{d: d}
	defer w.close()
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
	want(t, "at first", values(t, d), "c_total", 3)
	if err := os.Remove(filepath.Join(dir, mmapfile.LockName)); err != nil {
		t.Fatal(err)
	}
	lockEntries(t, dir)
	if err := os.Rename(filepath.Join(dir, "counter_1.db"), filepath.Join(t.TempDir(), "counter_1.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "while another one folds", values(t, d), "c_total", 3)
}

// TestExpireGoesOn: a file that can't be deleted keeps no other from that.
func TestExpireGoesOn(t *testing.T) {
	l := newLitter(t, t.TempDir())
	l.hook = func(s fold.Step) error {
		if s == (fold.Step{Op: "delete", From: "gauge_livesum_20~1.db"}) {
			return syscall.EIO
		}
		return nil
	}
	for range 2 {
		if err := l.round(t); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%v, want %v", err, syscall.EIO)
		}
		wantNames(t, l.dir, "counter_1.db", "counter_archived.db", "gauge_all_20.db", "gauge_all_21.db", "gauge_livesum_20~1.db", "gauge_max_archived.db")
	}
}

// TestFoldBusy: a process that does not let go of the lock of the directory is what the log
// names, before there is the right to fold and after.
func TestFoldBusy(t *testing.T) {
	for _, has := range []bool{false, true} {
		l := newLitter(t, t.TempDir())
		if !has {
			l.w.close()
		}
		l.d.Sync(true)
		another, err := mmapfile.OpenDirectory(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := another.LockEntries(0); err != nil {
			t.Fatal(err)
		}
		err = l.w.round(t.Context(), 1)
		l.w.report(err)
		if !errors.Is(err, mmapfile.ErrBusy) || l.log.count("level=ERROR", "locked by another process") != 1 {
			t.Errorf("%v; the log has\n%s", err, l.log)
		}
		want(t, "meanwhile", values(t, l.d), "c_total", inAll, "max", 2, "all", 7)
		if err := another.Close(); err != nil {
			t.Fatal(err)
		}
		l.wantFolded(t)
	}
}
