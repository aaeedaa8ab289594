package multiproc

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/mmapfile"
)

// probe asks whether a file has a writer.
func probe(f *mmapfile.File, name mmapfile.Name, p mmapfile.Probe) mmapfile.Verdict {
	if p == mmapfile.ProbePID {
		return probePID(name, f.ID())
	}
	return f.Probe(p)
}

// probePID looks for the process that a file's writer is, by its id: one that has
// the file mapped writable. Another one that has got the PID since has not, so PIDs that are
// used again do no harm. An id that is no PID, or a process whose mappings are not
// for us to see, leaves it unknown.
func probePID(name mmapfile.Name, id mmapfile.FileID) mmapfile.Verdict {
	unknown := func(err error) mmapfile.Verdict {
		return mmapfile.Verdict{State: mmapfile.Unknown, By: mmapfile.ProbePID, Err: err}
	}
	// Whoever chooses this probe vouches for it.
	dead := mmapfile.Verdict{State: mmapfile.Dead, By: mmapfile.ProbePID, Proven: true}
	pid, err := strconv.Atoi(name.Writer(true))
	if err != nil || pid <= 0 {
		return unknown(fmt.Errorf("%s: the writer's id is no PID", name))
	}
	p, err := procfs.NewProc(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return dead
	}
	if err != nil {
		return unknown(err)
	}
	stat, err := p.Stat()
	if errors.Is(err, fs.ErrNotExist) || err == nil && (stat.State == "Z" || stat.State == "X") {
		return dead
	}
	if err != nil {
		return unknown(err)
	}
	maps, err := p.ProcMaps()
	if err != nil {
		return unknown(fmt.Errorf("process %d: %w", pid, err))
	}
	for _, m := range maps {
		if m.Inode != 0 && id.HasInode(m.Inode) && m.Perms.Write {
			return mmapfile.Verdict{State: mmapfile.Alive, By: mmapfile.ProbePID}
		}
	}
	return dead
}
