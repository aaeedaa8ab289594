package top

import (
	"math"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/mmapfile"
)

// processes finds the processes that workers are. One that has the PID and none of the
// worker's files open or mapped is another one: of another PID namespace, or a later one.
type processes struct {
	fs    *procfs.FS // nil where /proc is not there, or another namespace's
	boot  uint64
	known map[int]*known
	turn  int
}

// known is what was found out about a PID.
type known struct {
	start uint64 // ticks after boot, which tells it from later ones of that PID
	has   bool   // it has files of the worker
	tries int
	turn  int
}

// ticks are in a second (USER_HZ), on all of Linux' architectures.
const ticks = 100

func newProcesses() *processes {
	p := &processes{known: make(map[int]*known)}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return p
	}
	if self, err := fs.Self(); err != nil || self.PID != os.Getpid() {
		return p
	}
	if stat, err := fs.Stat(); err == nil {
		p.boot = stat.BootTime
	}
	p.fs = &fs
	return p
}

// of returns the process that a worker is, nil if there is none to be seen.
func (p *processes) of(id string, files []mmapfile.FileID) *Process {
	pid, err := strconv.Atoi(id)
	if p.fs == nil || err != nil || pid <= 0 {
		return nil
	}
	proc, err := p.fs.Proc(pid)
	if err != nil {
		return nil
	}
	stat, err := proc.Stat()
	if err != nil || stat.State == "Z" && stat.NumThreads <= 1 {
		return nil
	}
	k := p.known[pid]
	if k == nil || k.start != stat.Starttime {
		k = &known{start: stat.Starttime}
		p.known[pid] = k
	}
	k.turn = p.turn
	if !k.has {
		// To read mappings takes longer than all else: who has none is asked less often
		// the longer that is so.
		if k.tries++; k.tries&(k.tries-1) == 0 || k.tries%64 == 0 {
			k.has = has(proc, files)
		}
	}
	if !k.has {
		return nil
	}
	found := &Process{CPU: float64(stat.UTime+stat.STime) / ticks, Resident: int64(stat.ResidentMemory()), Threads: stat.NumThreads}
	if p.boot > 0 {
		found.Start = time.Unix(int64(p.boot), 0).Add(time.Duration(stat.Starttime) * time.Second / ticks)
	}
	return found
}

// forget ends a look: who was not asked for has gone.
func (p *processes) forget() {
	for pid, k := range p.known {
		if k.turn != p.turn {
			delete(p.known, pid)
		}
	}
	p.turn++
}

// has reports whether a process has one of the files mapped writable, or open.
func has(proc procfs.Proc, files []mmapfile.FileID) bool {
	is := func(ino uint64) bool {
		for _, f := range files {
			if ino != 0 && f.HasInode(ino) {
				return true
			}
		}
		return false
	}
	maps, _ := proc.ProcMaps()
	for _, m := range maps {
		if m.Perms.Write && is(m.Inode) {
			return true
		}
	}
	descriptors, _ := proc.FileDescriptorsInfo()
	for _, d := range descriptors {
		if ino, err := strconv.ParseUint(d.Ino, 10, 64); err == nil && is(ino) {
			return true
		}
	}
	return false
}

// noProcess is a process of which nothing is known yet.
func noProcess() *Process { return &Process{CPU: math.NaN(), Resident: -1, Threads: -1} }
