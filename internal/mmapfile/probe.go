package mmapfile

import (
	"bytes"
	"fmt"
	"os"
)

// State is what is known of a file's writer.
type State uint8

// The states of a writer. Unknown counts as alive everywhere: nothing is left
// out, folded or deleted without proof.
const (
	Unknown State = iota
	Alive
	Dead
)

var stateNames = [...]string{Unknown: "unknown", Alive: "alive", Dead: "dead"}

// String returns "alive", "dead" or "unknown".
func (s State) String() string { return stateNames[s] }

// Probe is a way to find out whether anyone can still write a file.
type Probe uint8

// The probes.
const (
	// ProbeAuto asks for a lease, and where that can't be had looks at the lock: a
	// file that is locked has a writer, and one of the Ruby client that is not has
	// none. All else is unknown.
	ProbeAuto Probe = iota
	// ProbeLease asks the kernel for a read lease. It sees every process of the
	// machine in whatever namespace, needs the file's owner uid or CAP_LEASE,
	// and a filesystem with leases (tmpfs, ext4, xfs, overlayfs; not NFS).
	ProbeLease
	// ProbeFlock looks whether the file is locked, as the Ruby client and promagg's
	// Go client keep theirs. It needs no privilege. The Python client locks nothing,
	// and all its files pass for dead.
	ProbeFlock
	// ProbePID looks for a process of the writer's id, which only whoever has the
	// writers in sight can ask for: same PID namespace, ids that are PIDs. It is
	// not a matter of the file, and not done here.
	ProbePID
	// ProbeOff takes every file that exists for alive, as the Python client's
	// collector does.
	ProbeOff
)

var probeNames = [...]string{ProbeAuto: "auto", ProbeLease: "lease", ProbeFlock: "flock", ProbePID: "pid", ProbeOff: "off"}

// String returns the probe as [ParseProbe] reads it.
func (p Probe) String() string { return probeNames[p] }

// ParseProbe reads a probe by its name.
func ParseProbe(s string) (Probe, error) {
	for p, name := range probeNames {
		if name == s {
			return Probe(p), nil
		}
	}
	return 0, fmt.Errorf("liveness probe: want auto, lease, flock, pid or off, got %q", s)
}

// Verdict is what a probe found.
type Verdict struct {
	State State
	By    Probe // the probe that told
	Err   error // why State is Unknown; nil otherwise
}

// Probe tells whether some process can still write the file, by any probe but
// ProbePID. It does not block and takes about a microsecond.
func (f *File) Probe(p Probe) Verdict {
	switch p {
	case ProbeOff:
		return Verdict{Alive, ProbeOff, nil}
	case ProbeFlock:
		return f.probeFlock()
	case ProbePID:
		panic("mmapfile: bug: a process is no matter of the file")
	}
	lease := f.probeLease()
	if p == ProbeLease || lease.State != Unknown {
		return lease
	}
	if flock := f.probeFlock(); flock.State == Alive || flock.State == Dead && f.ruby() {
		return flock
	}
	return lease
}

func (f *File) probeLease() Verdict {
	var writable bool
	err := f.with(func(file *os.File) (err error) {
		writable, err = leased(file)
		return err
	})
	return f.verdict(ProbeLease, writable, err)
}

func (f *File) probeFlock() Verdict {
	var held bool
	err := f.with(func(file *os.File) (err error) {
		held, err = locked(file)
		return err
	})
	return f.verdict(ProbeFlock, held, err)
}

func (f *File) verdict(by Probe, alive bool, err error) Verdict {
	switch {
	case err != nil:
		return Verdict{Unknown, by, fmt.Errorf("probe %s: %w", f.path, err)}
	case alive:
		return Verdict{Alive, by, nil}
	}
	return Verdict{Dead, by, nil}
}

// ruby reports whether the Ruby client wrote the file's first entry.
func (f *File) ruby() bool {
	var first []byte
	find := func(data []byte) error {
		e, _, err := entryAt(data, usedOf(data), headerSize, ValueOnly)
		first = bytes.Clone(e.Key[:min(len(e.Key), MaxKey)])
		return err
	}
	if f.data == nil {
		if f.withContent(2*MaxKey, func(content Bytes) error { return find(content) }) != nil {
			return false
		}
	}
	fault := Guard(func() {
		if f.data != nil {
			_ = find(f.data) // what is no entry is no key either
		}
	})
	key, err := ParseKey(first)
	return fault == nil && err == nil && key.Ruby
}
