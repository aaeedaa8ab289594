package merge

import (
	"fmt"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// benchFile is a value file in memory.
type benchFile struct {
	name mmapfile.Name
	data []byte
}

// benchFiles returns the files of writers that all have the same series of one
// type: counters, gauges in mode all, or label sets of a histogram of 15 buckets.
func benchFiles(t mmapfile.Type, m mmapfile.Mode, writers, series int) []benchFile {
	var keys [][]byte
	add := func(i int, suffix, le string) {
		k := mmapfile.Key{Family: "http_requests", Sample: "http_requests" + suffix, Help: "What it is about.", Labels: []mmapfile.Label{
			{Name: "method", Value: "GET"}, {Name: "path", Value: fmt.Sprintf("/api/v1/orders/%d", i)},
		}}
		if le != "" {
			k.Labels = append(k.Labels, mmapfile.Label{Name: "le", Value: le})
		}
		keys = append(keys, mmapfile.AppendKey(nil, k))
	}
	for i := range series {
		switch t {
		case mmapfile.Counter:
			add(i, "_total", "")
		case mmapfile.Gauge:
			add(i, "", "")
		default:
			add(i, "_sum", "")
			for bound := range 14 {
				add(i, "_bucket", mmapfile.FormatBound(float64(bound)))
			}
			add(i, "_bucket", "+Inf")
		}
	}
	files := make([]benchFile, writers)
	for w := range files {
		im := mmapfile.NewImage(mmapfile.ValueOnly)
		for i, key := range keys {
			im.Append(key, float64(w*i%1_000_000), 0)
		}
		files[w] = benchFile{mmapfile.Name{Type: t, Mode: m, ID: fmt.Sprint(1000 + w)}, im.Bytes()}
	}
	return files
}

// add indexes a file.
func (f *benchFile) add(b *testing.B, x *Index) *Part {
	p := x.Add(f.name)
	var walk mmapfile.Walker
	if err := walk.Walk(f.data, func(e mmapfile.Entry) error { _, _, err := p.Add(e); return err }); err != nil {
		b.Fatal(err)
	}
	p.Map(f.data, walk.Layout())
	return p
}

var benchShapes = []struct {
	name            string
	typ             mmapfile.Type
	mode            mmapfile.Mode
	writers, series int
}{
	{"counter", mmapfile.Counter, mmapfile.NoMode, 64, 2500},
	{"gauge-all", mmapfile.Gauge, mmapfile.All, 64, 500},
	{"gauge-max", mmapfile.Gauge, mmapfile.Max, 64, 2500},
	{"histogram", mmapfile.Histogram, mmapfile.NoMode, 64, 160},
}

// BenchmarkIndex adds all entries of a directory to an empty index. With
// keys=new each key is seen for the first time, with keys=known another file had
// the same.
func BenchmarkIndex(b *testing.B) {
	for _, s := range benchShapes {
		files := benchFiles(s.typ, s.mode, s.writers, s.series)
		perEntry := func(b *testing.B, entries int) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
		}
		b.Run("type="+s.name+"/keys=new", func(b *testing.B) {
			b.ReportAllocs()
			entries := 0
			for b.Loop() {
				entries = files[0].add(b, New()).Entries()
			}
			perEntry(b, entries)
		})
		b.Run("type="+s.name+"/keys=known", func(b *testing.B) {
			b.ReportAllocs()
			entries := 0
			for b.Loop() {
				b.StopTimer()
				x := New()
				files[0].add(b, x)
				b.StartTimer()
				entries = 0
				for i := range files[1:] {
					entries += files[1+i].add(b, x).Entries()
				}
			}
			perEntry(b, entries)
		})
	}
}

// BenchmarkMergePass merges directories of each kind, on which nothing has
// changed since the last time but the values.
func BenchmarkMergePass(b *testing.B) {
	for _, s := range benchShapes {
		x, entries := New(), 0
		for _, f := range benchFiles(s.typ, s.mode, s.writers, s.series) {
			entries += f.add(b, x).Entries()
		}
		b.Run("type="+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Snapshot()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
		})
	}
}

// BenchmarkSelect reads one of a hundred families that 64 writers have, beside all
// of them.
func BenchmarkSelect(b *testing.B) {
	const families, series, writers = 100, 500, 64
	image := mmapfile.NewImage(mmapfile.ValueOnly)
	for f := range families {
		for i := range series {
			name := fmt.Sprint("requests_", f)
			image.Append(mmapfile.AppendKey(nil, mmapfile.Key{Family: name, Sample: name + "_total", Help: "What it is about.",
				Labels: []mmapfile.Label{{Name: "path", Value: fmt.Sprintf("/api/v1/orders/%d", i)}}}), 1, 0)
		}
	}
	x := New()
	for w := range writers {
		f := benchFile{mmapfile.Name{Type: mmapfile.Counter, ID: fmt.Sprint(w)}, append([]byte(nil), image.Bytes()...)}
		f.add(b, x)
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			x.Snapshot()
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.Select(func(find func(string) *Family) []*Family { return []*Family{find("requests_7_total")} })
		}
	})
}
