package supervise

import (
	"cmp"
	"slices"
)

// process is a process as /proc has it.
type process struct {
	pid, parent int
	start       uint64 // against reuse of the PID
	name, state string
}

type processID struct {
	pid   int
	start uint64
}

func (p process) id() processID { return processID{p.pid, p.start} }

// upgrade is what is known when the application is asked, by SIGUSR2, to start itself
// anew beside itself, as gunicorn, Unicorn and nginx do: the new one is a child of the
// old one, and ours when the old one is told to go.
type upgrade struct {
	exe    string
	before map[processID]bool // the processes that were there
}

// beginUpgrade looks at the application. It is nil where that can't be done.
func beginUpgrade(app int) *upgrade {
	exe := executable(app)
	if exe == "" {
		return nil
	}
	u := &upgrade{exe, map[processID]bool{}}
	for _, p := range processes() {
		u.before[p.id()] = true
	}
	return u
}

// successor returns the process that the application has handed over to, or 0. It is
// one that the application has left behind, that has begun since SIGUSR2 and runs the
// same program; of several the oldest, as the others are its children's sort. An
// application that fails, or is asked to stop, has handed over to nobody.
func (s *supervisor) successor() int {
	if s.upgrade == nil || s.end.Asked || s.killing || s.end.Status != 0 {
		return 0
	}
	left := slices.DeleteFunc(children(), func(p process) bool {
		return s.upgrade.before[p.id()] || executable(p.pid) != s.upgrade.exe
	})
	if len(left) == 0 {
		return 0
	}
	return slices.MinFunc(left, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid))
	}).pid
}
