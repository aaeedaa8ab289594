package top

import (
	"context"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// Source looks at what is to be shown. It is for one goroutine at a time.
type Source interface {
	Look(ctx context.Context) (*Look, error)
	Close() error
}

// Look is what a source saw at one instant. It does not change any more.
type Look struct {
	At       time.Time
	Of       string             // the directory or URL
	Workers  map[string]*Worker // by id; only those that are known one by one
	Families map[FamilyID]*Family
	Notes    []string // what could not be read
	// Apart says that all values are known by worker; else only those of families that
	// have shares.
	Apart bool
}

// Worker is a process that has value files, or that the endpoint tells of.
type Worker struct {
	ID      string
	State   mmapfile.State
	Files   int // -1 where it is not known, as below
	Entries int
	Process *Process // nil where it can't be seen
}

// FamilyID tells families apart: a directory may have one name with several types.
type FamilyID struct {
	Name string
	Type string // counter, gauge, histogram, summary or untyped
}

// counts reports whether the values of a family are counts, which have a rate.
func (id FamilyID) counts() bool {
	return id.Type == "counter" || id.Type == "histogram" || id.Type == "summary"
}

// Family is one family with what each worker has of it.
type Family struct {
	Share
	By map[string]Share // by worker
}

// Share is what there is of a family.
type Share struct {
	Entries int
	Value   float64 // the sum of counts; of a gauge the sum of values
	Rise    float64 // 0 for a gauge
}

// rise returns by how much a count has grown from one look to the next. One that fell
// was begun anew, or read while it was written: then nothing is known.
func rise(from, to float64) float64 {
	if d := to - from; d > 0 && d <= maxFloat { // not NaN, not Inf
		return d
	}
	return 0
}

const maxFloat = 1e300
