package merge

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestSumsDoNotFall: files freeze, and so come to be added up in another order,
// which with most doubles makes another sum.
func TestSumsDoNotFall(t *testing.T) {
	rnd := testpeer.Rand(t)
	fell := 0
	for range 50 {
		x := New()
		var files []*modelFile
		plain := 0.0
		for i := range 40 {
			f := fileOf(fmt.Sprintf("summary_%d.db", i), false)
			v := rnd.Float64() * 1e3
			f.put("s", "s_sum", v)
			f.put("s", "s_count", 1)
			plain += v
			files = append(files, f)
			f.index(t, x)
		}
		last := samplesOf(t, x)["s_sum"]
		for _, i := range rnd.Perm(len(files)) {
			if !files[i].part.Freeze() {
				t.Fatal("not frozen")
			}
			now := samplesOf(t, x)["s_sum"]
			if now < last {
				t.Fatalf("the sum fell from %v to %v", last, now)
			}
			if raw := x.acc[x.families[familyKey{"s", Summary, 0}].series("").sum]; raw < last {
				fell++ // as it would have been served
			}
			last = now
		}
		if d := last - plain; d > 1e-9 || d < -1e-9 {
			t.Fatalf("the sum has become %v, which is %v", last, plain)
		}
		// Falling for another reason is believed.
		files[0].thaw(x)
		files[0].set(files[0].entries[0], 0, 0)
		files[0].index(t, x)
		if now := samplesOf(t, x)["s_sum"]; now >= last {
			t.Fatalf("a sum of which a part was taken remains %v", now)
		}
	}
	if fell == 0 {
		t.Error("no order of additions made a difference: the test shows nothing")
	}
}

// TestSharedEntries: files with the same keys in the same order have their
// entries once, and each its own as soon as they differ.
func TestSharedEntries(t *testing.T) {
	x := New()
	const files, keys = 100, 1000
	var all []*modelFile
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for i := range files {
		f := fileOf(fmt.Sprintf("counter_%d.db", i), false)
		for k := range keys {
			f.put("c", "c_total", float64(k), "l", fmt.Sprint(k))
		}
		all = append(all, f)
	}
	all[0].index(t, x)
	before := heap()
	for _, f := range all[1:] {
		f.index(t, x)
		f.part.Trim()
	}
	each := float64(heap()-before) / ((files - 1) * keys)
	t.Logf("%.1f bytes an entry", each)
	if each > 6 {
		t.Errorf("%.1f bytes an entry: they are not shared", each)
	}
	for i, f := range all { // now they differ
		if i%2 == 0 {
			f.put("c", "c_total", 1, "l", fmt.Sprint("own", i))
		}
		f.put("c", "c_total", 1, "l", fmt.Sprint("late", i%3))
	}
	got := samplesOf(t, x, all...)
	if got[`c_total l="7"`] != 7*files || got[`c_total l="own4"`] != 1 || got[`c_total l="late1"`] != 33 {
		t.Errorf("got %v, %v, %v", got[`c_total l="7"`], got[`c_total l="own4"`], got[`c_total l="late1"`])
	}
}

// TestSelectionsDoNotFall: the same for selections, in turn with snapshots.
func TestSelectionsDoNotFall(t *testing.T) {
	rnd := testpeer.Rand(t)
	x := New()
	var files []*modelFile
	for i := range 60 {
		f := fileOf(fmt.Sprintf("counter_%d.db", i), false)
		f.put("c", "c_total", rnd.Float64()*1e3)
		files = append(files, f)
		f.index(t, x)
	}
	last := samplesOf(t, x)["c_total"]
	for i, n := range rnd.Perm(len(files)) {
		files[n].part.Freeze()
		var now float64
		if i%3 == 0 {
			now = samplesOf(t, x)["c_total"]
		} else {
			s, _ := x.Select(func(find func(string) *Family) []*Family { return []*Family{find("c_total")} })
			now = flatten(t, s)["c_total"]
		}
		if now < last {
			t.Fatalf("fell from %v to %v", last, now)
		}
		last = now
	}
}
