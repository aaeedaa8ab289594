package multiproc_test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
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
			want, wantHelps := fixture.Expected(t, name)
			if len(want) < 1000 && name[:2] == "py" || len(want) == 0 {
				t.Fatalf("the fixture expects only %d samples", len(want))
			}
			wantRead(t, dir, want, wantHelps)
		})
	}
}

// wantRead wants a directory to have these values and help texts, whoever is alive.
func wantRead(t *testing.T, dir string, want map[string]float64, wantHelps map[string]string) {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeOff})
	defer d.Close()
	snapshot, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if damaged := d.Damaged(); len(damaged) > 0 {
		t.Errorf("damaged files: %v", damaged)
	}
	got, gotHelps := fixture.Parse(t, expose.Append(nil, expose.Text, snapshot, nil))
	// Sums of doubles differ by the order in which files are read.
	if diff := cmp.Diff(want, got, cmp.Comparer(nearly)); diff != "" {
		t.Errorf("values differ from what the client reads (-client +promagg):\n%s", diff)
	}
	if diff := cmp.Diff(wantHelps, gotHelps); diff != "" {
		t.Errorf("help texts differ (-client +promagg):\n%s", diff)
	}
}

// TestFixturesFolded folds them, whose writers are dead long since. What is left is the
// same, but for live gauges; in archives of the layout and with the keys of the files.
func TestFixturesFolded(t *testing.T) {
	for _, name := range fixture.Names() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fixture.Unpack(t, name, dir)
			files := fixture.ValueFiles(t, name)
			forms := make(map[string]form) // by archive
			live := make(map[string]bool)  // by sample
			for base, content := range files {
				file, _ := mmapfile.ParseName(base)
				forms[file.Archive().String()] = formOf(t, content, func(k mmapfile.Key) {
					if file.Mode.Live() {
						live[k.Sample] = true
					}
				})
			}
			want, wantHelps := fixture.Expected(t, name)
			maps.DeleteFunc(want, func(key string, _ float64) bool {
				sample, _, _ := strings.Cut(key, " ")
				return live[sample]
			})
			maps.DeleteFunc(wantHelps, func(family, _ string) bool { return live[family] })

			d := multiproc.Open(multiproc.Options{Path: dir, Fold: multiproc.Folding{Retention: multiproc.Forever}})
			defer d.Close()
			first, err := d.FoldOnce(t.Context())
			if err != nil || first.Folds == 0 || first.Failed > 0 {
				t.Fatalf("%+v, %v", first, err)
			}
			wantRead(t, dir, want, wantHelps)
			if s, err := d.FoldOnce(t.Context()); err != nil || s.Folds != first.Folds {
				t.Errorf("with nothing to do: %+v, %v", s, err)
			}

			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			archives := 0
			for _, e := range left {
				file, ok := mmapfile.ParseName(e.Name())
				switch {
				case mmapfile.Own(e.Name()):
				case file.Mode == mmapfile.All:
					if files[e.Name()] == nil {
						t.Errorf("%s is new", e.Name())
					}
				case !ok || !file.IsArchive():
					t.Errorf("%s is left", e.Name())
				default:
					archives++
					content, err := os.ReadFile(filepath.Join(dir, e.Name()))
					if err != nil {
						t.Fatal(err)
					}
					if got := formOf(t, content, func(mmapfile.Key) {}); got != forms[e.Name()] {
						t.Errorf("%s is %+v, the files were %+v", e.Name(), got, forms[e.Name()])
					}
				}
			}
			if archives < 3 {
				t.Errorf("%d archives", archives)
			}
		})
	}
}

// form is what readers must know of a file.
type form struct {
	layout mmapfile.Layout
	items  int  // of a key
	ruby   bool // form of the key
}

// formOf returns what form a file has, and calls each for each of its keys.
func formOf(t *testing.T, content []byte, each func(mmapfile.Key)) (f form) {
	t.Helper()
	var walker mmapfile.Walker
	if err := walker.Walk(content, func(e mmapfile.Entry) error {
		k, err := mmapfile.ParseKey(e.Key)
		if f.items != 0 && (f.items != k.Items || f.ruby != k.Ruby) {
			t.Errorf("keys of different forms, such as %q", e.Key)
		}
		f.items, f.ruby = k.Items, k.Ruby
		each(k)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.layout = walker.Layout()
	return f
}

// nearly reports whether two doubles are equal but for rounding.
func nearly(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-12*math.Max(math.Abs(a), math.Abs(b))
}
