package merge

import (
	"fmt"
	"testing"
	"time"
)

// TestGrowth: a snapshot costs in proportion to the entries of living writers, not
// more, and no more for those of the dead. The times are the least of many, taken
// in turn, and far apart enough that a busy machine does not matter.
func TestGrowth(t *testing.T) {
	const series = 200
	build := func(live, dead int) *Index {
		x := New()
		for i := range live + dead {
			f := fileOf(fmt.Sprintf("counter_%d.db", i), false)
			for k := range series {
				f.put("c", "c_total", 1, "l", fmt.Sprint(k))
			}
			f.index(t, x)
			if i >= live && !f.part.Freeze() {
				t.Fatal("not frozen")
			}
		}
		x.Snapshot()
		return x
	}
	small, large, withDead := build(20, 0), build(320, 0), build(20, 300)
	least := map[*Index]time.Duration{}
	for range 50 {
		for _, x := range []*Index{small, large, withDead} {
			begun := time.Now()
			x.Snapshot()
			if took := time.Since(begun); least[x] == 0 || took < least[x] {
				least[x] = took
			}
		}
	}
	t.Logf("%v for 4000 entries, %v for 64000, %v for 4000 and 60000 of the dead", least[small], least[large], least[withDead])
	if least[large] > 3*16*least[small] {
		t.Errorf("16 times the entries take %.1f times as long", float64(least[large])/float64(least[small]))
	}
	if least[withDead] > 3*least[small] {
		t.Errorf("with 15 times as many of the dead it takes %.1f times as long", float64(least[withDead])/float64(least[small]))
	}
}
