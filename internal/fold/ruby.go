package fold

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// rubyHistograms are the buckets and counts of histograms that the Ruby client has
// cumulated. Two writers may have different bounds, so each writer's buckets are
// taken apart, added bound by bound, and cumulated again over all bounds.
type rubyHistograms map[string]*rubyHistogram // by family and labels

// rubyHistogram is one series.
type rubyHistogram struct {
	buckets []rubyBucket // by bound
	count   string       // key of its _count, if it has one
}

// rubyBucket is what has been observed between two bounds.
type rubyBucket struct {
	upper float64
	key   string // empty where a writer has only a _count
	own   float64
}

// rubyPart is one series of one file.
type rubyPart struct {
	series string
	upper  float64
	key    []byte
	value  float64
	count  bool // a _count
}

// add takes the buckets and counts that are cumulative out of a file's entries and returns the
// others.
func (h *rubyHistograms) add(a *Archive, content []byte, entries []mmapfile.Entry) (others []mmapfile.Entry) {
	var parts []rubyPart
	others = entries[:0:0]
	for _, e := range entries {
		part, ok := rubyPartOf(e.Key)
		if !ok {
			others = append(others, e)
			continue
		}
		part.value = mmapfile.Float64(content, e.Value)
		parts = append(parts, part)
	}
	slices.SortStableFunc(parts, func(a, b rubyPart) int {
		return cmp.Or(strings.Compare(a.series, b.series), cmp.Compare(a.upper, b.upper))
	})
	for i := 0; i < len(parts); {
		from := i
		for i < len(parts) && parts[i].series == parts[from].series {
			i++
		}
		h.addSeries(a, parts[from:i])
	}
	return others
}

// addSeries adds one file's buckets of one series, which are in order. A higher one
// that is less than a lower one has not caught up with it when its writer died.
func (h *rubyHistograms) addSeries(a *Archive, parts []rubyPart) {
	if *h == nil {
		*h = make(rubyHistograms)
	}
	s := (*h)[parts[0].series]
	if s == nil {
		s = new(rubyHistogram)
		(*h)[parts[0].series] = s
	}
	below := 0.0
	for _, p := range parts {
		e, b := a.at(p.key), s.at(p.upper)
		if p.count {
			s.count = e.key
		} else if b.key == "" {
			b.key = e.key
		}
		if math.Float64bits(p.value) != mmapfile.StaleBits && p.value > below {
			b.own += p.value - below
			below = p.value
		}
	}
}

// at returns the bucket of a bound.
func (s *rubyHistogram) at(upper float64) *rubyBucket {
	i, ok := slices.BinarySearchFunc(s.buckets, upper, func(b rubyBucket, upper float64) int { return cmp.Compare(b.upper, upper) })
	if !ok {
		s.buckets = slices.Insert(s.buckets, i, rubyBucket{upper: upper})
	}
	return &s.buckets[i]
}

// finish gives the entries their cumulated values.
func (h *rubyHistograms) finish(a *Archive) {
	for _, s := range *h {
		total := 0.0
		for _, b := range s.buckets {
			total += b.own
			if b.key != "" {
				a.set(b.key, total)
			}
		}
		if s.count != "" {
			a.set(s.count, total)
		}
	}
}

func (a *Archive) set(key string, v float64) {
	e := &a.entries[a.index[key]]
	e.value, e.rest, e.fed = v, 0, true
}

// rubyPartOf tells whether a key is that of a bucket or count in Ruby's form, and
// whose.
func rubyPartOf(text []byte) (p rubyPart, ok bool) {
	key, err := mmapfile.ParseKey(text)
	if err != nil || !key.Ruby {
		return p, false
	}
	p.key = text
	switch key.Sample {
	case key.Family + "_bucket":
		i := slices.IndexFunc(key.Labels, func(l mmapfile.Label) bool { return l.Name == "le" })
		if i < 0 {
			return p, false
		}
		if p.upper, err = strconv.ParseFloat(key.Labels[i].Value, 64); err != nil || math.IsNaN(p.upper) {
			return p, false
		}
		key.Labels = slices.Delete(key.Labels, i, i+1)
	case key.Family + "_count":
		p.upper, p.count = math.Inf(1), true
	default:
		return p, false
	}
	var b strings.Builder
	b.WriteString(strconv.Quote(key.Family))
	for _, l := range key.Labels {
		b.WriteString(strconv.Quote(l.Name))
		b.WriteString(strconv.Quote(l.Value))
	}
	p.series = b.String()
	return p, true
}
