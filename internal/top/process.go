package top

import (
	"math"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/procs"
)

// Process is what /proc tells of a worker.
type Process struct {
	Start    time.Time // zero where it is not known
	CPU      float64   // seconds, user and system; NaN where it is not known
	Resident int64     // bytes; -1 where it is not known
	Threads  int       // -1 where it is not known
}

// noProcess is a process of which nothing is known yet.
func noProcess() *Process { return &Process{CPU: math.NaN(), Resident: -1, Threads: -1} }

// writers has the workers of a look, for [procs.Watch].
type writers map[string]*worker

// Writers implements [procs.Source].
func (ws writers) Writers() (list []multiproc.Writer) {
	for id, w := range ws {
		state := w.state
		if w.layered && state == mmapfile.Dead {
			state = mmapfile.Unknown // its process tells, see [mmapfile.File.Layered]
		}
		list = append(list, multiproc.Writer{ID: id, State: state})
	}
	return list
}

// FilesOf implements [procs.Source].
func (ws writers) FilesOf(id string) []mmapfile.FileID { return ws[id].ids }

// processes returns the processes that can be seen, by the worker's id.
func processes(watch *procs.Watch) map[string]*Process {
	found := make(map[string]*Process)
	for _, w := range watch.Look().Workers {
		p := &Process{CPU: w.CPU, Resident: w.Resident, Threads: w.Threads}
		if w.Start > 0 {
			p.Start = time.UnixMilli(int64(w.Start * 1000))
		}
		found[w.ID] = p
	}
	return found
}
