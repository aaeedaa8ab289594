package check

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Hint    Severity = "hint"
)

var severities = []Severity{Error, Warning, Hint}

// Finding is one thing to tell the operator.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`              // what is the matter, in one line
	Details  []string `json:"details,omitempty"` // the files, processes or families, a line each
	Why      string   `json:"why"`               // why it matters
	Do       string   `json:"do"`                // what to do about it
	more     int      // details that are left out; the last of Details says so
}

// Options say what to look at and how.
type Options struct {
	Path     string           // the directory
	Liveness mmapfile.Probe   // as promagg serve would have it
	Limits   multiproc.Limits // as promagg serve would have them
	PIDs     []int            // processes of the application beside those that are found
	ReadOnly bool             // create nothing, for no matter how short a time
	Ignore   []string         // ids of findings that are not wanted
	Now      func() time.Time // default time.Now
}

// Report is what was found.
type Report struct {
	Directory string    `json:"directory"`
	Facts     Facts     `json:"facts"`
	Findings  []Finding `json:"findings"` // by severity, then id
	Errors    int       `json:"errors"`
	Warnings  int       `json:"warnings"`
	Hints     int       `json:"hints"`
	Ignored   int       `json:"ignored"` // findings that were not wanted
}

// Run looks and tells. The error is that of a context that has ended, or of a directory
// that changed too fast to be read.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	w, err := gather(ctx, o)
	if err != nil {
		return nil, err
	}
	return report(o, w), nil
}

// report makes findings of what was seen.
func report(o Options, w *world) *Report {
	r := &Report{Directory: o.Path, Facts: w.facts(), Findings: []Finding{}}
	for _, f := range findings(o, w) {
		if slices.Contains(o.Ignore, f.ID) {
			r.Ignored++
			continue
		}
		r.Findings = append(r.Findings, f)
		switch f.Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		default:
			r.Hints++
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(slices.Index(severities, a.Severity)-slices.Index(severities, b.Severity), cmp.Compare(a.ID, b.ID))
	})
	return r
}

// findings runs all checks. Without a directory there is nothing else to check.
func findings(o Options, w *world) []Finding {
	if w.dir.err != nil {
		return missing(w.dir)
	}
	return slices.Concat(
		place(w.dir), access(w.dir, w.folder), space(w.dir.filesystem, w.need()),
		environment(w.dir, w.procs, w.files), writable(w.dir, w.procs), namespaces(w.dir, w.procs), deletedFiles(w.procs),
		probes(w.live, w.files, o.Liveness),
		damage(w.files), archives(w.files), names(w.others), layouts(w.files), clocks(w.files, o.Now()),
		dead(w.files, w.folder, w.procs), promaggs(w.procs),
		limits(w.files, w.merged, o.Limits), dropped(w.merged),
		conflicts(w.merged, w.files), cardinality(w.merged), invalid(w.merged),
		lint(w.merged),
	)
}
