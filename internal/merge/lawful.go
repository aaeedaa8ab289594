package merge

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Reason says why an entry is not served.
type Reason uint8

// The reasons for which an entry is dropped.
const (
	// BadName is a metric name outside [a-zA-Z_:][a-zA-Z0-9_:]*.
	BadName Reason = iota
	// BadSample is a sample name that the family's type does not have.
	BadSample
	// BadLabel is a label name outside [a-zA-Z_][a-zA-Z0-9_]*, one that begins
	// with "__", a quantile of a summary, or a value that is not UTF-8.
	BadLabel
	// BadBound is a histogram bucket whose le is missing or no number.
	BadBound
	// The limits that an entry is past, see [Limits].
	PastKeyLength
	PastLabels
	PastBuckets
	PastEntries
	PastSeries
	PastSeriesBytes
	reasonCount
)

var reasonNames = [...]string{
	BadName: "name", BadSample: "sample", BadLabel: "label", BadBound: "bound",
	PastKeyLength: limitPrefix + "key-length", PastLabels: limitPrefix + "labels", PastBuckets: limitPrefix + "buckets",
	PastEntries: limitPrefix + "entries", PastSeries: limitPrefix + "series", PastSeriesBytes: limitPrefix + "series-bytes",
}

// limitPrefix is how a reason begins that is a limit; what follows names its flag.
const limitPrefix = "limit."

// String returns the reason as a label value.
func (r Reason) String() string { return reasonNames[r] }

// Limit reports whether the entry is left out for a limit, and not because no
// exposition can hold it.
func (r Reason) Limit() bool { return strings.HasPrefix(reasonNames[r], limitPrefix) }

// Reasons returns all reasons.
func Reasons() []Reason {
	reasons := make([]Reason, reasonCount)
	for i := range reasons {
		reasons[i] = Reason(i)
	}
	return reasons
}

// role is what an entry is to its series.
type role uint8

const (
	roleValue  role = iota // a counter's or gauge's value
	roleCount              // the count of a summary or histogram
	roleSum                // the sum of a summary or histogram
	roleBucket             // a bucket of a histogram
)

const (
	infixBucket = "_bucket"
	infixCount  = "_count"
	infixSum    = "_sum"
	infixTotal  = "_total"
)

// identity is what a lawful key says: whose value the entry is.
type identity struct {
	family string // the name under # TYPE in the text format
	labels []mmapfile.Label
	role   role
	bound  float64 // of a bucket
	le     string  // its spelling
}

// identify checks a key against what an exposition may hold. The labels of the
// result are k's.
func identify(k *mmapfile.Key, t mmapfile.Type) (id identity, bad Reason, ok bool) {
	id.family, id.labels = k.Family, k.Labels
	if !mmapfile.ValidName(k.Family, true) || !mmapfile.ValidName(k.Sample, true) {
		return id, BadName, false
	}
	if id.role, ok = roleOf(k, t); !ok {
		return id, BadSample, false
	}
	if t == mmapfile.Counter {
		// In the text format a counter's family has the name of its samples.
		id.family = k.Sample
	}
	for i, l := range k.Labels {
		if !mmapfile.ValidName(l.Name, false) || strings.HasPrefix(l.Name, "__") || !utf8.ValidString(l.Value) {
			return id, BadLabel, false
		}
		switch {
		case t == mmapfile.Summary && l.Name == "quantile":
			return id, BadLabel, false
		case t == mmapfile.Histogram && l.Name == "le":
			if id.role != roleBucket {
				return id, BadBound, false
			}
			id.le = l.Value
			id.labels = append(k.Labels[:i:i], k.Labels[i+1:]...)
		}
	}
	if id.role == roleBucket {
		var err error
		id.bound, err = strconv.ParseFloat(id.le, 64)
		if err != nil || math.IsNaN(id.bound) {
			return id, BadBound, false
		}
		if strings.ContainsAny(id.le, "pP_") || len(id.le) > maxBoundText {
			id.le = mmapfile.FormatBound(id.bound) // hexadecimal, which not every parser reads, or made to be long
		}
	}
	return id, 0, true
}

// maxBoundText is more than any number needs.
const maxBoundText = 32

// roleOf tells by the sample's name what it is to a family of type t.
func roleOf(k *mmapfile.Key, t mmapfile.Type) (role, bool) {
	suffix, ok := strings.CutPrefix(k.Sample, k.Family)
	if !ok {
		return 0, false
	}
	switch t {
	case mmapfile.Counter:
		return roleValue, suffix == "" || suffix == infixTotal
	case mmapfile.Gauge:
		return roleValue, suffix == ""
	}
	switch suffix {
	case infixCount:
		return roleCount, true
	case infixSum:
		return roleSum, true
	case infixBucket:
		return roleBucket, t == mmapfile.Histogram
	}
	return 0, false
}
