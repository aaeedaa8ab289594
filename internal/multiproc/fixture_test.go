package multiproc_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/fixture"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// TestFixtures reads what six versions of other clients wrote and wants the
// values that they read back themselves.
func TestFixtures(t *testing.T) {
	for _, name := range fixture.Names() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fixture.Unpack(t, name, dir)
			d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeOff})
			t.Cleanup(d.Close)
			snapshot, err := d.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if damaged := d.Damaged(); len(damaged) > 0 {
				t.Errorf("damaged files: %v", damaged)
			}
			got, gotHelps := fixture.Parse(t, expose.Append(nil, expose.Text, snapshot, nil))
			want, wantHelps := fixture.Expected(t, name)
			if len(want) < 1000 && name[:2] == "py" || len(want) == 0 {
				t.Fatalf("the fixture expects only %d samples", len(want))
			}
			// Sums of doubles differ by the order in which files are read.
			if diff := cmp.Diff(want, got, cmp.Comparer(nearly)); diff != "" {
				t.Errorf("values differ from what the client reads (-client +promagg):\n%s", diff)
			}
			if diff := cmp.Diff(wantHelps, gotHelps); diff != "" {
				t.Errorf("help texts differ (-client +promagg):\n%s", diff)
			}
		})
	}
}

// nearly reports whether two doubles are equal but for rounding.
func nearly(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-12*math.Max(math.Abs(a), math.Abs(b))
}
