package merge

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// The model is the merge as one would write it without a thought for speed: all
// entries of all files into maps, anew each time.

// modelEntry is an entry as the test wrote it.
type modelEntry struct {
	family, sample string
	labels         []mmapfile.Label // sorted by name
	off            uint32
	value, stamp   float64
}

// modelFile is a value file, in memory.
type modelFile struct {
	name    mmapfile.Name
	ruby    bool
	layout  mmapfile.Layout
	data    []byte
	entries []*modelEntry
	counted bool // its values count
	copied  bool // it is not mapped
	ended   bool // its writer is dead, for gauges that rules make live

	walker mmapfile.Walker
	part   *Part
}

// append adds an entry behind the others, as a writer does.
func (f *modelFile) append(e *modelEntry) {
	key := fmt.Sprintf(`["%s", "%s", {`, e.family, e.sample)
	names, values := "", ""
	for i, l := range e.labels {
		if i > 0 {
			key, names, values = key+", ", names+",", values+","
		}
		key += fmt.Sprintf("%q: %q", l.Name, l.Value)
		names += fmt.Sprintf("%q", l.Name)
		values += fmt.Sprintf("%q", l.Value)
	}
	if key += `}, "help"]`; f.ruby {
		key = fmt.Sprintf(`["%s","%s",[%s],[%s]]`, e.family, e.sample, names, values)
	}
	if len(f.data) == 0 {
		f.data = make([]byte, 8)
	}
	f.data = binary.LittleEndian.AppendUint32(f.data, uint32(len(key)))
	f.data = append(f.data, key...)
	for pad := 8 - (len(key)+4)%8; pad > 0; pad-- {
		f.data = append(f.data, ' ')
	}
	e.off = uint32(len(f.data))
	f.data = append(f.data, make([]byte, 8)...)
	if f.layout == mmapfile.ValueTimestamp {
		f.data = append(f.data, make([]byte, 8)...)
	}
	binary.LittleEndian.PutUint32(f.data, uint32(len(f.data)))
	f.entries = append(f.entries, e)
}

func (f *modelFile) set(e *modelEntry, v, stamp float64) {
	e.value = v
	binary.LittleEndian.PutUint64(f.data[e.off:], math.Float64bits(v))
	if f.layout == mmapfile.ValueTimestamp {
		e.stamp = stamp
		binary.LittleEndian.PutUint64(f.data[e.off+8:], math.Float64bits(stamp))
	}
}

// index brings the file's part up to date.
func (f *modelFile) index(t *testing.T, x *Index) {
	if !f.counted || f.part != nil && f.part.Frozen() {
		return
	}
	if f.part == nil {
		f.part, f.walker = x.Add(f.name), mmapfile.Walker{}
		f.part.Ended(f.ended)
	}
	if err := f.walker.Walk(f.data, func(e mmapfile.Entry) error {
		dropped, reason, err := f.part.Add(e)
		if dropped {
			t.Fatalf("dropped for its %v: %s", reason, e.Key)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.part.Map(mmapfile.Bytes(f.data), f.walker.Layout())
	if f.copied {
		f.part.MapBy(func(scratch *[]byte) (mmapfile.Bytes, error) {
			*scratch = append((*scratch)[:0], f.data...)
			return mmapfile.Bytes(*scratch), nil
		}, f.walker.Layout())
	}
}

// thaw makes a frozen part a read one again, as for a new writer.
func (f *modelFile) thaw(x *Index) {
	if f.part != nil && f.part.Frozen() {
		f.remove(x)
	}
}

func (f *modelFile) remove(x *Index) {
	if f.part != nil {
		x.Remove(f.part)
		f.part = nil
	}
}

// modelSeries is what the model knows of one series of one family.
type modelSeries struct {
	value, stamp float64
	set          bool
	buckets      map[float64]float64
	count, sum   float64
	hasCount     bool
	hasSum       bool
}

func stale(v float64) bool { return math.Float64bits(v) == mmapfile.StaleBits }

// equalFloats has NaNs equal, too.
var equalFloats = gocmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })

// naive merges all files that count into samples by name and labels.
func naive(files []*modelFile, rules *modelRules) map[string]float64 {
	families := make(map[familyKey]map[string]*modelSeries)
	files = slices.SortedFunc(slices.Values(files), func(a, b *modelFile) int { return cmp.Compare(a.name.String(), b.name.String()) })
	for _, f := range files {
		if !f.counted {
			continue
		}
		type source struct {
			s    *modelSeries
			full string
		}
		cumulative := make(map[source][]*modelEntry)
		for _, e := range f.entries {
			k := familyKey{e.family, f.name.Type, f.name.Mode}
			if f.name.Type == mmapfile.Counter {
				k.name = e.sample
			}
			labels := make(map[string]string)
			for _, l := range e.labels {
				labels[l.Name] = l.Value
			}
			le, bucket := labels["le"]
			delete(labels, "le")
			full := modelLabels(labels)
			if rules.drop[k.name] || !rules.apply(&k, labels, f.ended) {
				continue
			}
			if k.mode.Base() == mmapfile.All {
				labels["pid"] = f.name.Writer(f.ruby)
			}
			if families[k] == nil {
				families[k] = make(map[string]*modelSeries)
			}
			id := modelLabels(labels)
			s := families[k][id]
			if s == nil {
				s = &modelSeries{buckets: make(map[float64]float64)}
				families[k][id] = s
			}
			if stale(e.value) {
				continue
			}
			switch {
			case f.ruby && f.name.Type == mmapfile.Histogram && e.sample != e.family+"_sum":
				cumulative[source{s, full}] = append(cumulative[source{s, full}], e)
			case bucket:
				bound, _ := strconv.ParseFloat(le, 64)
				s.buckets[bound] += e.value
			case e.sample == e.family+"_count":
				s.count += e.value
				s.hasCount = true
			case e.sample == e.family+"_sum":
				s.sum += e.value
				s.hasSum = true
			default:
				s.add(k, e)
			}
		}
		for s, entries := range cumulative {
			s.s.addCumulative(entries)
		}
	}
	return modelServe(families)
}

func (s *modelSeries) add(k familyKey, e *modelEntry) {
	first := !s.set
	s.set = true
	switch base := k.mode.Base(); {
	case k.typ == mmapfile.Counter, base == mmapfile.Sum, base == mmapfile.All && !first:
		s.value += e.value
	case base == mmapfile.All:
		s.value = e.value
	case base == mmapfile.Min:
		if first || e.value < s.value || math.IsNaN(s.value) {
			s.value = e.value
		}
	case base == mmapfile.Max:
		if first || e.value > s.value || math.IsNaN(s.value) {
			s.value = e.value
		}
	case base == mmapfile.MostRecent:
		s.set = !first
		if e.stamp > 0 && (e.stamp > s.stamp || e.stamp == s.stamp && (e.value > s.value || math.IsNaN(s.value))) {
			s.value, s.stamp, s.set = e.value, e.stamp, true
		}
	}
}

func (s *modelSeries) addCumulative(entries []*modelEntry) {
	upTo := make(map[float64]float64)
	for _, e := range entries {
		bound := math.Inf(1) // _count
		for _, l := range e.labels {
			if l.Name == "le" {
				bound, _ = strconv.ParseFloat(l.Value, 64)
			}
		}
		upTo[bound] = max(upTo[bound], e.value)
	}
	below := 0.0
	for _, bound := range slices.Sorted(maps.Keys(upTo)) {
		s.buckets[bound] += max(0, upTo[bound]-below)
		below = max(below, upTo[bound])
	}
}

func modelLabels(labels map[string]string) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		text += fmt.Sprintf(" %s=%q", name, labels[name])
	}
	return text
}

// modelServe settles conflicts and cumulates histograms.
func modelServe(families map[familyKey]map[string]*modelSeries) map[string]float64 {
	order := []mmapfile.Type{mmapfile.Histogram, mmapfile.Summary, mmapfile.Counter, mmapfile.Gauge}
	keys := slices.SortedFunc(maps.Keys(families), func(a, b familyKey) int {
		return cmp.Or(slices.Index(order, a.typ)-slices.Index(order, b.typ), int(a.mode)-int(b.mode), cmp.Compare(a.name, b.name))
	})
	taken := make(map[string]bool)
	samples := make(map[string]float64)
	for _, k := range keys {
		names := []string{k.name}
		switch k.typ {
		case mmapfile.Histogram:
			names = append(names, k.name+"_bucket", k.name+"_count", k.name+"_sum")
		case mmapfile.Summary:
			names = append(names, k.name+"_count", k.name+"_sum")
		}
		if slices.ContainsFunc(names, func(n string) bool { return taken[n] }) {
			continue
		}
		for _, n := range names {
			taken[n] = true
		}
		for labels, s := range families[k] {
			s.serve(k, labels, samples)
		}
	}
	return samples
}

func (s *modelSeries) serve(k familyKey, labels string, samples map[string]float64) {
	if s.hasSum {
		samples[k.name+"_sum"+labels] = s.sum
	}
	switch {
	case k.typ == mmapfile.Histogram:
		if len(s.buckets) == 0 && !s.hasCount && !s.hasSum {
			return
		}
		total := 0.0
		for _, bound := range slices.Sorted(maps.Keys(s.buckets)) {
			total += s.buckets[bound]
			samples[fmt.Sprintf("%s_bucket%s le=%v", k.name, labels, bound)] = total
		}
		if len(s.buckets) == 0 && s.hasCount {
			total = s.count
		}
		samples[fmt.Sprintf("%s_bucket%s le=+Inf", k.name, labels)] = total
		samples[k.name+"_count"+labels] = total
	case s.hasCount:
		samples[k.name+"_count"+labels] = s.count
	case s.set && k.typ != mmapfile.Summary:
		samples[k.name+labels] = s.value
	}
}

// flatten turns a snapshot into samples as the model has them, and checks that
// families and series are in order.
func flatten(t *testing.T, s *Snapshot) map[string]float64 {
	t.Helper()
	samples := make(map[string]float64)
	put := func(key string, v float64) {
		if Absent(v) {
			return
		}
		if _, twice := samples[key]; twice {
			t.Fatalf("sample %s twice", key)
		}
		samples[key] = v
	}
	for i := range s.Families {
		f := &s.Families[i]
		if i > 0 && s.Families[i-1].Name >= f.Name {
			t.Fatalf("family %s stands before %s", s.Families[i-1].Name, f.Name)
		}
		values := s.Values(f)
		for j, series := range f.Series {
			if j > 0 && compareLabels(f.Series[j-1].Labels, series.Labels) >= 0 {
				t.Fatalf("%s: series %s stands before %s", f.Name, f.Series[j-1].Labels, series.Labels)
			}
			v := values[:f.Width(series)]
			values = values[len(v):]
			all := make(map[string]string)
			for name, value := range series.Labels.All() {
				all[name] = value
			}
			labels := modelLabels(all)
			switch f.Type {
			case Summary:
				put(f.Name+"_count"+labels, v[0])
				put(f.Name+"_sum"+labels, v[1])
			case Histogram:
				if Absent(v[0]) {
					continue
				}
				put(f.Name+"_count"+labels, v[0])
				put(f.Name+"_sum"+labels, v[1])
				for k, b := range series.Buckets {
					put(fmt.Sprintf("%s_bucket%s le=%v", f.Name, labels, f.Bounds[b.Bound].Upper), v[2+k])
				}
			default:
				put(f.Name+labels, v[0])
			}
		}
	}
	return samples
}

// world is a directory of model files under random operations.
type world struct {
	rnd   *rand.Rand
	files []*modelFile
	next  int
	rules *modelRules
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// addFile makes a new writer's file, or a dead one's id again.
func (w *world) addFile() {
	f := &modelFile{counted: true, ruby: w.rnd.IntN(4) == 0}
	f.name.Type = pick(w.rnd, mmapfile.Counter, mmapfile.Gauge, mmapfile.Gauge, mmapfile.Histogram, mmapfile.Summary)
	if f.name.Type == mmapfile.Gauge {
		f.name.Mode = pick(w.rnd, mmapfile.Modes()...)
	}
	w.next++
	f.name.ID = pick(w.rnd, "", "w_") + strconv.Itoa(w.next)
	if f.ruby {
		f.name.ID += "-0"
	}
	f.copied = w.rnd.IntN(4) == 0
	f.layout = pick(w.rnd, mmapfile.ValueOnly, mmapfile.ValueTimestamp)
	if f.ruby {
		f.layout = mmapfile.ValueOnly
	}
	w.files = append(w.files, f)
}

// addEntry makes a file declare a series that it does not have yet.
func (w *world) addEntry(f *modelFile) {
	e := &modelEntry{family: pick(w.rnd, "a", "b", "c", "a_count", "b_sum", "c_total")}
	for _, name := range []string{"l", "m"} {
		if w.rnd.IntN(2) == 0 {
			e.labels = append(e.labels, mmapfile.Label{Name: name, Value: pick(w.rnd, "", "x", "y z", `q"\`)})
		}
	}
	switch e.sample = e.family; f.name.Type {
	case mmapfile.Counter:
		e.sample += pick(w.rnd, "", "_total")
	case mmapfile.Summary:
		e.sample += pick(w.rnd, "_count", "_sum")
	case mmapfile.Histogram:
		if e.sample += pick(w.rnd, "_bucket", "_bucket", "_bucket", "_sum", "_count"); e.sample == e.family+"_bucket" {
			le := mmapfile.Label{Name: "le", Value: pick(w.rnd, "1", "1.0", "2.5", "10", "+Inf")}
			e.labels = slices.Insert(e.labels, len(e.labels), le)
			slices.SortFunc(e.labels, func(a, b mmapfile.Label) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
	same := func(o *modelEntry) bool {
		return o.family == e.family && o.sample == e.sample && slices.Equal(o.labels, e.labels)
	}
	if !slices.ContainsFunc(f.entries, same) {
		f.append(e)
	}
}

// update changes a value. Halves add up without rounding, in whatever order.
func (w *world) update(f *modelFile) {
	if len(f.entries) == 0 {
		return
	}
	e := pick(w.rnd, f.entries...)
	v, stamp := float64(w.rnd.IntN(2000)-1000)/2, float64(w.rnd.IntN(5))
	switch {
	case w.rnd.IntN(20) == 0:
		v = math.Float64frombits(mmapfile.StaleBits)
	case f.name.Type != mmapfile.Gauge:
		v = math.Abs(v)
		if !stale(e.value) {
			v += e.value
		}
	case w.rnd.IntN(20) == 0:
		v = pick(w.rnd, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1))
	}
	f.set(e, v, stamp)
}

// step does one random thing.
func (w *world) step(t *testing.T, x *Index) {
	if len(w.files) == 0 || w.rnd.IntN(25) == 0 && len(w.files) < 30 {
		w.addFile()
		return
	}
	f := pick(w.rnd, w.files...)
	switch n := w.rnd.IntN(100); {
	case n < 35:
		f.thaw(x)
		w.addEntry(f)
	case n < 84:
		f.thaw(x)
		w.update(f)
	case n < 88: // its writer dies, and it is read a last time
		if f.index(t, x); f.part != nil && !f.part.Frozen() && !f.part.Freeze() {
			t.Fatal("a part in plain memory can't be frozen")
		}
	case n < 89:
		if f.part != nil {
			f.part.Trim()
		}
	case n < 90:
		f.copied = !f.copied
	case n < 94: // its writer dies: a live gauge's values do not count any more
		if f.ended = true; f.part != nil && !f.part.Frozen() {
			f.part.Ended(true)
		} else {
			f.remove(x)
		}
		if f.name.Mode.Live() {
			f.counted = false
			f.remove(x)
		}
	case n < 97: // a new process takes the file up
		f.counted, f.ended = true, false
		if f.part != nil && f.part.Lost() {
			f.remove(x)
		} else if f.part != nil {
			f.part.Ended(false)
		}
	case n < 99: // somebody deletes the file
		if f.part != nil {
			x.Remove(f.part)
		}
		w.files = slices.DeleteFunc(w.files, func(o *modelFile) bool { return o == f })
	}
}

func TestModel(t *testing.T) {
	seed := testpeer.Seed(t)
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	defer func(was int) { share = was }(share)
	for round := range rounds {
		share = []int{1, 20, 1 << 15}[round%3] // so that a few entries are work for several cores
		x := New()
		w := &world{rnd: rand.New(rand.NewPCG(seed, uint64(round))), rules: new(modelRules)}
		if round%2 == 1 {
			w.rules = newModelRules(w.rnd)
			x.Rule(w.rules.rules(t))
		}
		for range 12 {
			for range w.rnd.IntN(120) {
				w.step(t, x)
				if w.rnd.IntN(10) == 0 { // entries are found at any time, not only at snapshots
					for _, f := range w.files {
						f.index(t, x)
					}
				}
			}
			for _, f := range w.files {
				f.index(t, x)
			}
			s, faulted := x.Snapshot()
			if len(faulted) > 0 {
				t.Fatal("faults in plain memory")
			}
			got, want := flatten(t, s), naive(w.files, w.rules)
			if diff := gocmp.Diff(want, got, equalFloats); diff != "" {
				t.Fatalf("round %d (-model +index):\n%s", round, diff)
			}
			checkFresh(t, w, got)
			checkSelect(t, w, x, s)
			checkCells(t, x)
		}
	}
}

// checkFresh builds the same index anew, from files in another order.
func checkFresh(t *testing.T, w *world, want map[string]float64) {
	t.Helper()
	x := New()
	x.Rule(w.rules.rules(t))
	for _, i := range w.rnd.Perm(len(w.files)) {
		f := *w.files[i]
		f.part = nil
		f.index(t, x)
	}
	s, _ := x.Snapshot()
	if diff := gocmp.Diff(want, flatten(t, s), equalFloats); diff != "" {
		t.Fatalf("an index made anew differs (-old +new):\n%s", diff)
	}
}

// checkSelect selects some of the families of a snapshot.
func checkSelect(t *testing.T, w *world, x *Index, s *Snapshot) {
	t.Helper()
	part := &Snapshot{catalog: &catalog{}, values: s.values}
	for _, f := range s.Families {
		if w.rnd.IntN(3) == 0 {
			part.Families = append(part.Families, f)
		}
	}
	got, faulted := x.Select(func(find func(string) *Family) (chosen []*Family) {
		for _, f := range part.Families {
			chosen = append(chosen, find(f.Name), find("other"))
		}
		return chosen
	})
	if len(faulted) > 0 {
		t.Fatal("faults in plain memory")
	}
	if diff := gocmp.Diff(flatten(t, part), flatten(t, got), equalFloats); diff != "" {
		t.Fatalf("a selection differs (-whole +selection):\n%s", diff)
	}
	for _, f := range s.Families {
		if !got.Has(f.Name) {
			t.Fatalf("%s is not there for a selection", f.Name)
		}
	}
}

// checkCells checks the index's books.
func checkCells(t *testing.T, x *Index) {
	t.Helper()
	x.tidy()
	refs := make(map[uint32]uint32)
	for _, p := range x.parts {
		for cell := range p.cells {
			refs[cell]++
		}
	}
	free := 0
	for cell, owner := range x.owner {
		if x.refs[cell] != refs[uint32(cell)] {
			t.Fatalf("cell %d has %d refs, %d entries feed it", cell, x.refs[cell], refs[uint32(cell)])
		}
		if owner == nil {
			free++
		}
	}
	if free != len(x.free) {
		t.Fatalf("%d cells without owner, %d in the free list", free, len(x.free))
	}
	entries, text := 0, int64(0)
	for _, p := range x.parts {
		entries += p.Entries()
	}
	for _, fam := range x.families {
		text += int64(len(fam.help))
		for s := range fam.byLabels.all {
			text += int64(fam.lines(s)) * lineBytes(fam, s.Labels)
		}
	}
	if lines := len(x.owner) - free; x.entries.taken != int64(entries) || x.lines.taken != int64(lines) || x.text.taken != text {
		t.Fatalf("%d entries, %d lines and %d bytes are taken, there are %d, %d and %d", x.entries.taken, x.lines.taken, x.text.taken, entries, lines, text)
	}
}

// lines is how many lines a series takes.
func (f *family) lines(s *Series) int {
	switch f.typ {
	case Histogram:
		return 2 + len(s.Buckets)
	case Summary:
		return 2
	}
	return 1
}
