package multiproc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/mmapfile"
)

// probe asks whether a file has a writer. What the kernel knows of the file comes
// before what it tells of a process: PIDs looked up in the wrong namespace must not
// make the living dead.
func probe(f *mmapfile.File, name mmapfile.Name, p mmapfile.Probe) mmapfile.Verdict {
	v := f.Probe(p)
	switch {
	case p == mmapfile.ProbePID && v.State == mmapfile.Unknown:
		return probePID(name, f.ID())
	case v.By == mmapfile.ProbeLease && v.State == mmapfile.Dead && f.Layered():
		// A mapping without a descriptor, which the lease does not tell of.
		if w := probePID(name, f.ID()); w.State == mmapfile.Alive {
			return w
		}
	}
	return v
}

// probePID looks for the process that a file's writer is, by its id: one that has
// the file open or mapped writable. Another one that has got the PID since has not,
// so PIDs that are used again do no harm. An id that is no PID, or a process that is
// not for us to look at, leaves it unknown.
func probePID(name mmapfile.Name, id mmapfile.FileID) mmapfile.Verdict {
	v := mmapfile.Verdict{State: mmapfile.Unknown, By: mmapfile.ProbePID}
	pid, err := strconv.Atoi(name.Writer(true))
	if err != nil || pid <= 0 {
		v.Err = fmt.Errorf("%s: %w", name, errNoPID)
		return v
	}
	has, err := Writes(pid, id)
	switch {
	case has:
		v.State = mmapfile.Alive
	case err == nil, !mmapfile.Exists(pid):
		v.State, v.Proven = mmapfile.Dead, true
	default:
		v.Err = fmt.Errorf("process %d: %w", pid, err)
	}
	return v
}

// errNoPID is the fault of ids that the application has chosen.
var errNoPID = errors.New("the writer's id is no PID")

// Writes reports whether a process has one of these files open or mapped writable. An
// error says that it can't be known, or that the process has ended.
func Writes(pid int, files ...mmapfile.FileID) (bool, error) {
	among := func(ino uint64) bool {
		return slices.ContainsFunc(files, func(id mmapfile.FileID) bool { return id.HasInode(ino) })
	}
	if self, err := procfs.Self(); err != nil {
		return false, err
	} else if self.PID != os.Getpid() {
		return false, errors.New("/proc is of another PID namespace")
	}
	p, err := procfs.NewProc(pid)
	if err != nil {
		return false, err
	}
	stat, err := p.Stat()
	if err != nil {
		return false, err
	}
	if ended := stat.State == "Z" || stat.State == "X"; ended && stat.NumThreads <= 1 {
		return false, nil
	} else if ended {
		return false, errors.New("its first thread has ended, others have not")
	}
	maps, err := p.ProcMaps()
	if err != nil {
		return false, err
	}
	for _, m := range maps {
		if m.Inode != 0 && m.Perms.Write && among(m.Inode) {
			return true, nil
		}
	}
	// One that has opened it and is about to map it. These take longer to look at.
	descriptors, err := p.FileDescriptorsInfo()
	for _, d := range descriptors {
		ino, noInode := strconv.ParseUint(d.Ino, 10, 64)
		flags, noFlags := strconv.ParseUint(d.Flags, 8, 64)
		if noInode == nil && noFlags == nil && among(ino) && flags&accessMode != readOnly {
			return true, nil
		}
	}
	return false, err
}

// How a descriptor was opened, in its flags.
const accessMode, readOnly = 3, 0
