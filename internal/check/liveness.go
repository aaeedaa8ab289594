package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/promagg/promagg/internal/mmapfile"
)

// outcome is what became of trying something.
type outcome struct {
	tried bool
	err   error
}

const notTried = "not tried"

func (o outcome) String() string {
	switch {
	case !o.tried:
		return notTried
	case o.err != nil:
		return "fails"
	}
	return "works"
}

// liveness is what was tried on a file of our own.
type liveness struct{ lease, flock outcome }

// errBlind is a probe that answers, and wrongly.
var errBlind = errors.New("it does not tell a file that is open for writing from one that is not")

// try makes a file that no reader takes for a value file, asks the probes about it, and
// removes it.
func try(dir string, readOnly bool) (l liveness) {
	if readOnly || mmapfile.MayWrite(dir) != nil {
		return l
	}
	f, err := os.CreateTemp(dir, mmapfile.OwnPrefix+"_check_*.tmp")
	if err != nil {
		return l // a full filesystem, which is another finding
	}
	defer os.Remove(f.Name())
	reader, err := mmapfile.OpenFile(f.Name())
	if err != nil {
		_ = f.Close() // nothing was written
		return l
	}
	defer reader.Close()
	open := reader.Probe(mmapfile.ProbeLease)
	closed := f.Close()
	shut := reader.Probe(mmapfile.ProbeLease)
	l.lease = outcome{true, errors.Join(open.Err, shut.Err, closed)}
	if l.lease.err == nil && (open.State != mmapfile.Alive || shut.State != mmapfile.Dead) {
		l.lease.err = errBlind
	}
	l.flock = outcome{true, reader.Probe(mmapfile.ProbeFlock).Err}
	return l
}

// probes tells whether it can be known who is alive, as it was tried on our own file and
// on those of the writers.
func probes(l liveness, files []file, p mmapfile.Probe) (found []Finding) {
	if l.flock.err != nil {
		found = append(found, finding("PA304", nil, "flock fails on a file of our own: %v", l.flock.err))
	}
	if p == mmapfile.ProbeOff || p == mmapfile.ProbeFlock {
		return found // leases are not asked for, and nothing remains unknown
	}
	if l.lease.err != nil && p != mmapfile.ProbePID {
		found = append(found, finding("PA301", nil, "a lease of a file of our own fails: %v", l.lease.err))
	}
	var denied, unknown []string
	for i := range files {
		f := &files[i]
		switch {
		case f.archive || f.verdict.State != mmapfile.Unknown || f.unopened != nil:
		case errors.Is(f.verdict.Err, fs.ErrPermission):
			denied = append(denied, fmt.Sprintf("%s (user %d)", f.base, f.uid))
		case l.lease.err == nil || p == mmapfile.ProbePID: // else that is the reason
			unknown = append(unknown, fmt.Sprintf("%s: %v", f.base, f.verdict.Err))
		}
	}
	if len(denied) > 0 {
		found = append(found, finding("PA302", denied, "user %d may not ask for a lease of %s, of other users", os.Geteuid(), plural(len(denied), "file")))
	}
	if len(unknown) > 0 {
		found = append(found, finding("PA303", unknown, "it can't be told of %s whether the writer is alive", plural(len(unknown), "file")))
	}
	return found
}
