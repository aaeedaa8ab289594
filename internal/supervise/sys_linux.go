package supervise

import (
	"os"
	"slices"
	"syscall"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// The signals that have no name and that Go leaves to programs: the C libraries keep the
// first three for themselves.
const firstRealTime, lastRealTime = 35, 64

// reapOrphans makes this process the parent of descendants that lose theirs. PID 1 is
// that anyway.
func reapOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childAttr puts the application into a session of its own: a terminal sends Ctrl-C to
// everybody in its foreground group, and the application would hear of it twice, from
// the terminal and from us. And it dies with us.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// processes are those that can be seen.
func processes() []process {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	var found []process
	for _, p := range all {
		if stat, err := p.Stat(); err == nil {
			found = append(found, process{p.PID, stat.PPID, stat.Starttime, stat.Comm, stat.State})
		}
	}
	return found
}

// children are the children of this process that have not ended. They are none where
// /proc is not there, or not that of our PID namespace.
func children() []process {
	self := os.Getpid()
	return slices.DeleteFunc(processes(), func(p process) bool { return p.parent != self || p.state == "Z" })
}

// executable is the file that a process runs, empty if that is not ours to know.
func executable(pid int) string {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return ""
	}
	exe, err := p.Executable()
	if err != nil {
		return ""
	}
	return exe
}
