package check

import (
	"context"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/multiproc"
)

// world is all that was seen, which the checks are functions of.
type world struct {
	dir    directory
	files  []file   // value files, by name
	others []string // names that are no value files', in order
	folder folder
	live   liveness
	procs  processes
	merged merged
}

// merged is what comes of the files.
type merged struct {
	*merge.Snapshot
	stats multiproc.Stats
}

// Facts are what a report says whatever the findings.
type Facts struct {
	Filesystem string `json:"filesystem,omitempty"`
	Bytes      int64  `json:"filesystem_bytes"`       // 0: no limit of its own
	FreeBytes  int64  `json:"filesystem_free_bytes"`  // for who is not root
	Inodes     int64  `json:"filesystem_inodes"`      // 0: no limit of its own
	FreeInodes int64  `json:"filesystem_free_inodes"` // for who is not root
	Files      int    `json:"files"`                  // value files, archives not among them
	Archives   int    `json:"archives"`
	FileBytes  int64  `json:"file_bytes"`     // that all of these take up
	Oldest     int64  `json:"oldest_seconds"` // since the oldest file was made, or grew
	Writers    int    `json:"writers"`        // that are alive, or not known to be dead
	Dead       int    `json:"dead"`           // writers that are dead and have left files
	Worker     int64  `json:"largest_worker_bytes"`
	Processes  []int  `json:"processes"` // of the application, as far as they were found
	Folder     int    `json:"folder"`    // the process that folds here; 0: none was seen
	Lease      string `json:"lease"`     // whether it works here: works, fails, not tried
	Flock      string `json:"flock"`
	Families   int    `json:"families"`
	Series     int    `json:"series"` // label sets
	Lines      int    `json:"lines"`  // of the exposition, as Prometheus counts series
}

func (w *world) facts() Facts {
	if w.dir.err != nil {
		return Facts{Processes: []int{}, Lease: notTried, Flock: notTried}
	}
	fs, n := w.dir.filesystem, w.need()
	f := Facts{
		Filesystem: fs.Name, Bytes: fs.Bytes, FreeBytes: fs.FreeBytes, Inodes: fs.Inodes, FreeInodes: fs.FreeInodes,
		Writers: n.living, Dead: n.dead, Worker: n.bytes, Processes: []int{}, Folder: w.folder.pid,
		Lease: w.live.lease.String(), Flock: w.live.flock.String(), Families: len(w.merged.Families),
	}
	for i := range w.files {
		f.FileBytes += w.files[i].allocated
		f.Oldest = max(f.Oldest, int64(w.files[i].age/time.Second))
		if w.files[i].archive {
			f.Archives++
		} else {
			f.Files++
		}
	}
	for _, p := range w.procs.app {
		f.Processes = append(f.Processes, p.pid)
	}
	for i := range w.merged.Families {
		f.Series += len(w.merged.Families[i].Series)
		f.Lines += lines(&w.merged.Families[i])
	}
	return f
}

// gather looks at everything once. The processes come last: what they hold is told by
// the files that were found.
func gather(ctx context.Context, o Options) (*world, error) {
	w := &world{dir: lookAtDirectory(o.Path)}
	if w.dir.err != nil {
		return w, nil
	}
	d := multiproc.Open(multiproc.Options{Path: o.Path, Liveness: o.Liveness, Limits: &o.Limits, Now: o.Now})
	defer d.Close()
	snapshot, err := d.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	w.merged = merged{snapshot, d.Stats()}
	if w.files, w.others, err = lookAtFiles(ctx, o, suspects(snapshot)); err != nil {
		return nil, err
	}
	w.live = try(o.Path, o.ReadOnly || w.dir.filesystem.ReadOnly)
	w.procs = lookAtProcesses(ctx, w.dir, w.files, o.PIDs)
	w.folder = lookAtFolder(w.dir)
	return w, ctx.Err()
}
