package mmapfile

import (
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
	// ProbeAuto uses the best probe that works here.
	ProbeAuto Probe = iota
	// ProbeLease asks the kernel for a read lease. It sees every process of the
	// machine in whatever namespace, needs the file's owner uid or CAP_LEASE,
	// and a filesystem with leases (tmpfs, ext4, xfs, overlayfs; not NFS).
	ProbeLease
	// ProbeOff takes every file that exists for alive, as the Python client's
	// collector does.
	ProbeOff
)

var probeNames = [...]string{ProbeAuto: "auto", ProbeLease: "lease", ProbeOff: "off"}

// String returns the probe as [ParseProbe] reads it.
func (p Probe) String() string { return probeNames[p] }

// ParseProbe reads a probe by its name.
func ParseProbe(s string) (Probe, error) {
	for p, name := range probeNames {
		if name == s {
			return Probe(p), nil
		}
	}
	return 0, fmt.Errorf("liveness probe: want auto, lease or off, got %q", s)
}

// Verdict is what a probe found.
type Verdict struct {
	State State
	By    Probe // the probe that told
	Err   error // why State is Unknown; nil otherwise
}

// Probe tells whether some process can still write the file. It does not block
// and takes about a microsecond.
func (f *File) Probe(p Probe) Verdict {
	if p == ProbeOff {
		return Verdict{Alive, ProbeOff, nil}
	}
	var writable bool
	err := f.with(func(file *os.File) (err error) {
		writable, err = leased(file)
		return err
	})
	switch {
	case err != nil:
		return Verdict{Unknown, ProbeLease, fmt.Errorf("probe %s: %w", f.path, err)}
	case writable:
		return Verdict{Alive, ProbeLease, nil}
	}
	return Verdict{Dead, ProbeLease, nil}
}
