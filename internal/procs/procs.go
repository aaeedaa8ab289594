package procs

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// Source has the writers. It is [multiproc.Dir].
type Source interface {
	Writers() []multiproc.Writer
	// FilesOf returns the files that a writer may still write.
	FilesOf(id string) []mmapfile.FileID
}

// Worker is what /proc tells of a worker.
type Worker struct {
	ID          string // of the writer, which is the PID
	PID         int
	State       mmapfile.State // whether it can still write its files
	Start       float64        // Unix seconds; 0 where it is not known
	CPU         float64        // seconds, user and system, without those of its children
	Resident    int64          // bytes; what it shares with others counts in full
	Threads     int
	Descriptors int // open; -1 where they can't be counted
}

// Reason is why a writer that is not dead is not seen.
type Reason uint8

// The reasons.
const (
	// NoPID: the id is no PID but what the application has chosen.
	NoPID Reason = iota
	// Hidden: /proc has no process of that PID that has one of the files.
	Hidden
	// Denied: /proc does not let this user look.
	Denied
	reasons
)

var reasonNames = [...]string{NoPID: "id", Hidden: "hidden", Denied: "denied"}

// String returns "id", "hidden" or "denied".
func (r Reason) String() string { return reasonNames[r] }

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{NoPID, Hidden, Denied} }

// View is what a look has found.
type View struct {
	Begun   time.Time
	Took    time.Duration
	Workers []Worker // that are seen, in no order
	Unseen  [reasons]int
	// CPU is what all have used that were ever seen, in seconds, and Ever says that
	// there are any.
	CPU  float64
	Ever bool
}

// Watch looks at workers. Its methods are safe for concurrent use.
type Watch struct {
	source Source
	last   atomic.Pointer[View]

	mu    sync.Mutex // held during a look; protects what is below
	proc  *procfs.FS // nil until there is one
	boot  uint64     // Unix seconds; read once, for the clock that it is reckoned from may be set
	known map[int]*process
	turn  uint64 // looks so far
	gone  uint64 // ticks of those that have ended
	ever  bool
}

// process is one that has, or had, the PID of a writer.
type process struct {
	start    uint64 // ticks after boot, which no other process of that PID has
	verified bool   // it has files of the writer
	tries    uint64 // to verify it
	why      Reason // that failed
	ticks    uint64 // of CPU
	turn     uint64 // at which it was looked at last
}

// ticks are in a second (USER_HZ), the same on all of Linux' architectures.
const ticks = 100

// New returns a watch that has not looked yet.
func New(source Source) *Watch {
	return &Watch{source: source, known: make(map[int]*process)}
}

// Last returns what the last look has found, nil before the first. It must not be
// changed.
func (w *Watch) Last() *View { return w.last.Load() }

// Every is how long [Watch.Run] waits between looks at least.
const Every = 2 * time.Second

// share is the part of one core that looks may take: with so many workers that one
// look takes long, there are fewer of them.
const share = 400

// Run looks until ctx ends, now and then with a pause: nobody waits for a look, and a
// scrape must not have to wait for a core either.
func (w *Watch) Run(ctx context.Context) {
	const most, rest = time.Millisecond, 4 * time.Millisecond
	wait := func(how time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(how):
		}
	}
	for ctx.Err() == nil {
		var rested time.Duration
		since := time.Now()
		v := w.look(func() bool {
			if time.Since(since) > most {
				begun := time.Now()
				wait(rest)
				since = time.Now()
				rested += since.Sub(begun)
			}
			return ctx.Err() == nil
		})
		wait(max(Every, (share-1)*(v.Took-rested)))
	}
}

// Look looks at all workers now.
func (w *Watch) Look() *View { return w.look(func() bool { return true }) }

// look calls on after each process, and looks at no more of them once that says no.
func (w *Watch) look(on func() bool) *View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &View{Begun: time.Now()}
	w.turn++
	w.open()
	for _, writer := range w.source.Writers() {
		if writer.State == mmapfile.Dead {
			continue
		}
		if pid, err := strconv.Atoi(writer.ID); err != nil || pid <= 0 || strconv.Itoa(pid) != writer.ID {
			v.Unseen[NoPID]++
		} else if worker, why, ok := w.see(pid, writer); ok {
			v.Workers = append(v.Workers, worker)
		} else {
			v.Unseen[why]++
		}
		if !on() {
			break
		}
	}
	sum := w.gone
	for pid, p := range w.known {
		if p.turn != w.turn {
			if !p.verified {
				delete(w.known, pid)
				continue
			}
			// It writes no more, but may live on; then it has its part in the sum still, so
			// that it does not count anew should it write again.
			p.turn = w.turn
			if w.stat(pid); w.known[pid] == nil {
				sum += p.ticks // which is among what is gone by now
				continue
			}
		}
		if p.verified {
			sum += p.ticks
		}
	}
	v.CPU, v.Ever = float64(sum)/ticks, w.ever
	v.Took = time.Since(v.Begun)
	w.last.Store(v)
	return v
}

// open finds /proc.
func (w *Watch) open() {
	if w.proc != nil {
		return
	}
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return // nobody is seen, which is counted
	}
	if stat, err := proc.Stat(); err == nil {
		w.boot = stat.BootTime
	}
	w.proc = &proc
}

// see looks at the process that a writer should be.
func (w *Watch) see(pid int, writer multiproc.Writer) (seen Worker, why Reason, ok bool) {
	stat, proc, err := w.stat(pid)
	if err != nil {
		return seen, reasonOf(err), false
	}
	p := w.known[pid]
	if p == nil {
		p = &process{start: stat.Starttime}
		w.known[pid] = p
	}
	p.turn = w.turn
	if !p.verified && !w.verify(p, pid, writer.ID) {
		return seen, p.why, false
	}
	p.ticks = max(p.ticks, ticksOf(stat))
	if stat.State == "Z" && stat.NumThreads <= 1 {
		return seen, Hidden, false // it has ended, which the files do not tell yet
	}
	seen = Worker{ID: writer.ID, PID: pid, State: writer.State, CPU: float64(p.ticks) / ticks,
		Resident: int64(stat.ResidentMemory()), Threads: stat.NumThreads, Descriptors: -1}
	if w.boot > 0 {
		seen.Start = float64(w.boot) + float64(p.start)/ticks
	}
	if n, err := proc.FileDescriptorsLen(); err == nil {
		seen.Descriptors = n
	}
	return seen, 0, true
}

// stat reads how a process fares, and takes leave of one that had its PID before.
func (w *Watch) stat(pid int) (procfs.ProcStat, procfs.Proc, error) {
	if w.proc == nil {
		return procfs.ProcStat{}, procfs.Proc{}, fs.ErrNotExist
	}
	proc, err := w.proc.Proc(pid)
	var stat procfs.ProcStat
	if err == nil {
		stat, err = proc.Stat()
	}
	p := w.known[pid]
	switch ended := errors.Is(err, fs.ErrNotExist) || err == nil && p != nil && p.start != stat.Starttime; {
	case p == nil:
	case ended:
		if p.verified {
			w.gone += p.ticks
		}
		delete(w.known, pid)
	case err == nil && p.verified:
		p.ticks = max(p.ticks, ticksOf(stat))
	}
	return stat, proc, err
}

// verify reports whether a process has files of the writer. One that has not is asked
// the less often the longer it has not: its mappings take longer to read than all else.
func (w *Watch) verify(p *process, pid int, id string) bool {
	p.tries++
	if p.tries&(p.tries-1) != 0 && p.tries%64 != 0 {
		return false
	}
	has, err := multiproc.Writes(pid, w.source.FilesOf(id)...)
	if has {
		p.verified, w.ever = true, true
	} else {
		p.why = reasonOf(err)
	}
	return has
}

// reasonOf tells why a process is not seen. That there is none is no error.
func reasonOf(err error) Reason {
	if errors.Is(err, fs.ErrPermission) {
		return Denied
	}
	return Hidden
}

func ticksOf(stat procfs.ProcStat) uint64 { return uint64(stat.UTime) + uint64(stat.STime) }
