package merge

import (
	"fmt"
	"testing"
)

// TestPendingSweep: a part that is made ready goes on after others have gone meanwhile
// and what was known of their keys is forgotten.
func TestPendingSweep(t *testing.T) {
	x := New()
	others := fileOf("counter_1.db", false)
	for i := range 3000 {
		others.put("c", "c_total", 1, "i", fmt.Sprint(i))
	}
	others.index(t, x)
	f := fileOf("counter_archived.db", false)
	f.part = x.AddPending(f.name)
	f.put("d", "d_total", 1)
	f.index(t, x)
	x.Remove(others.part)
	if n := len(x.keys.nodes); n > 2 {
		t.Fatalf("%d keys are known: nothing was forgotten", n)
	}
	f.put("d", "d_total", 2, "i", "second")
	f.put("d", "d_total", 3, "i", "third")
	f.index(t, x)
	f.part.Start()
	if got := samplesOf(t, x); len(got) != 3 || got["d_total"] != 1 || got[`d_total i="third"`] != 3 {
		t.Errorf("got %v", got)
	}
}
