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
	// file that is locked has a writer. All else is unknown. That a file is not locked
	// tells nothing, not even of clients that lock theirs: a child that the Ruby client
	// finds itself in gives up its parent's lock, for both have it by one descriptor.
	ProbeAuto Probe = iota
	// ProbeLease asks the kernel for a read lease. It sees every process of the
	// machine in whatever namespace, needs the file's owner uid or CAP_LEASE,
	// and a filesystem with leases (tmpfs, ext4, xfs, overlayfs; not NFS).
	ProbeLease
	// ProbeFlock looks whether the file is locked, as the Ruby client and promagg's
	// Go client keep theirs. It needs no privilege. What is not locked passes for dead,
	// without proof: the Python client locks nothing.
	ProbeFlock
	// ProbePID looks for a process of the writer's id where ProbeAuto can't tell,
	// which only whoever has the writers in sight can ask for: same PID namespace,
	// ids that are PIDs. The process is not a matter of the file, and not looked
	// for here.
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

// Probes returns all ways by which a state can be known.
func Probes() []Probe { return []Probe{ProbeLease, ProbeFlock, ProbePID, ProbeOff} }

// States returns all states.
func States() []State { return []State{Alive, Dead, Unknown} }

// Verdict is what a probe found.
type Verdict struct {
	State State
	By    Probe // the probe that told
	// Proven says of a dead writer that there is none for certain: the file can be
	// deleted once its values are safe. Else it only passes for dead.
	Proven bool
	Err    error // why State is Unknown; nil otherwise
}

// Probe tells whether some process can still write the file, as far as the file
// tells it: ProbePID does what ProbeAuto does. It does not block and takes about a
// microsecond.
func (f *File) Probe(p Probe) Verdict {
	switch p {
	case ProbeOff:
		return Verdict{State: Alive, By: ProbeOff}
	case ProbeFlock:
		return f.probeFlock()
	}
	lease := f.probeLease()
	if p == ProbeLease || lease.State != Unknown {
		return lease
	}
	if flock := f.probeFlock(); flock.State == Alive {
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
		return Verdict{State: Unknown, By: by, Err: fmt.Errorf("probe %s: %w", f.path, err)}
	case alive:
		return Verdict{State: Alive, By: by}
	}
	return Verdict{State: Dead, By: by, Proven: by == ProbeLease}
}

// Layered reports whether the file is on overlayfs, whose leases tell of descriptors
// only: a process that has closed all it had, and has the file mapped still, is not
// seen.
func (f *File) Layered() bool {
	var yes bool
	err := f.with(func(file *os.File) (err error) {
		yes, err = layered(file)
		return err
	})
	return yes && err == nil
}

// Ruby reports whether the Ruby client wrote the file's first entry.
func (f *File) Ruby() bool {
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
