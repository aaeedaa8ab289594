package multiproc

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promagg/promagg/internal/duration"
	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
)

// Options are the settings of a directory. All but Path may be zero.
type Options struct {
	Path     string           // the directory; need not exist yet
	Name     string           // what its owner calls it, if anything
	Liveness mmapfile.Probe   // how to tell whether a writer is alive
	Logger   *slog.Logger     // default: none
	Rescan   time.Duration    // how often to look without being told; default 5 s
	Budget   *mmapfile.Budget // of descriptors and mappings; default that of the process
	Limits   *Limits          // default DefaultLimits()
	Now      func() time.Time // default time.Now
	Fold     Folding          // what Run does with dead writers' files; default nothing
	Rules    merge.Rules      // how families are served otherwise than their writers have it
}

// Dir is a watched directory. Its methods are safe for concurrent use.
type Dir struct {
	opts Options
	log  *slog.Logger

	// next is the snapshot that callers may still join; nextMu protects it and
	// is taken inside mu, never around it.
	nextMu sync.Mutex
	next   *flight

	synced atomic.Pointer[time.Time] // end of the last sync
	pulse  pulse

	// mu protects all below. It is held during a snapshot or a sync, across the
	// system calls that look at the directory.
	mu     sync.Mutex
	index  *merge.Index
	files  map[string]*file // by name
	byPart map[*merge.Part]*file
	// order has all files, active those that a snapshot has to look at; neither in
	// any order.
	order, active []*file
	idle          [mmapfile.Summary + 1]idleStats // by type
	tended, turn  int                             // how many of order have had their turn, and how often all had
	growing       []*file                         // that had new entries when they were looked at last
	// idleBy counts the files of idle by what has told that they are dead.
	idleBy [mmapfile.ProbeOff + 1]int
	// running says that Run tends to what snapshots leave alone, and freezing that it
	// is told of files that somebody lets go of.
	running, freezing bool
	// starved is why a file could not be looked at that is not to blame for it.
	starved error
	seen    sighting
	// failure is why the directory, which is there, could not be listed.
	failure  error
	stats    Stats    // what is counted since the start; the rest is counted when asked for
	unprobed []string // hints that were logged for probes that don't work
	invalid  []string // histograms that were named in the log as invalid
	closed   bool
	// included are the files that an archive says it includes, lingering those of them
	// that are still there. regroup says that an archive has come or gone since.
	included, lingering map[string]bool
	regroup             bool
	folds               FoldStats
	right               *fold.Folder // to fold the directory, nil without
	roll                roll
	merges              duration.Histogram
	// leftOut counts the files that the last listing left out, outs has the names of
	// some. While it is returning, files that have only another name than those that
	// have vanished get their places back. See nameLocked for naming.
	leftOut     int
	outs        map[string]bool
	vanished    map[uint64]bool
	returning   bool
	naming      map[string]int
	namingSince time.Time
}

// maxNamed bounds how many names the log has of what comes from the files.
const maxNamed = 100

// flight is one snapshot that several callers wait for.
type flight struct {
	done     chan struct{}
	snapshot *merge.Snapshot
	err      error
}

// Stats counts what a directory holds and what went wrong with it.
type Stats struct {
	Files   int   // value files that count, damaged ones included
	Alive   int   // of these, with a writer that is alive or not known to be dead
	Dead    int   // with a writer that is dead
	Frozen  int   // of the dead, those that are not read any more
	Mapped  int   // that are mapped
	Read    int   // that are read instead, for want of mappings
	Corrupt int   // that can't be read, or not to their end
	LeftOut int   // that are past the limit on files, and not among Files
	CutOff  int   // that are larger than the limit, and read up to that
	Ignored int   // directory entries that are no value files
	Bytes   int64 // that are mapped
	Entries int
	Series  int
	// Archives are what dead writers' files have been folded into, which Files does
	// not count, and ArchiveBytes their size.
	Archives     int
	ArchiveBytes int64
	Fold         FoldStats
	// ByType has what each type of file comes to, living writers' and dead ones' apart.
	ByType [mmapfile.Summary + 1]struct{ Alive, Dead Amount }
	// Writers counts the writers by state, and Started and Ended those that have been
	// seen to start and end.
	Writers        [mmapfile.Dead + 1]int
	Started, Ended uint64
	Merges         duration.Histogram      // how long it took to look and to merge
	Dropped        map[merge.Reason]uint64 // entries that can't be served, since the start
	Damages        uint64                  // times that a file was found damaged, since the start
	Scans          uint64                  // times that the whole directory was listed, since the start
	// Probed counts the files by what is known of their writers, and by which probe.
	Probed map[Probed]int
	// Conflicts counts the families on which writers disagreed at the last snapshot.
	Conflicts map[merge.ConflictKind]int
	Invalid   int  // histograms of which series were left out of the last snapshot
	Watching  bool // whether the kernel tells of new files; else rescans find them
	// Watches counts how often the kernel was asked to tell, Overflows how often it
	// had more to tell than it could keep.
	Watches, Overflows uint64
}

// Amount is so many files, and their bytes.
type Amount struct {
	Files int
	Bytes int64
}

// Probed is what is known of a file's writer.
type Probed struct {
	By    mmapfile.Probe
	State mmapfile.State
}

// Open returns a directory that has not been looked at yet.
func Open(opts Options) *Dir {
	opts.Rescan = cmp.Or(opts.Rescan, 5*time.Second)
	opts.Budget = cmp.Or(opts.Budget, mmapfile.DefaultBudget())
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Limits == nil {
		limits := DefaultLimits()
		opts.Limits = &limits
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Fold.MinFiles = max(1, opts.Fold.MinFiles)
	d := &Dir{
		opts:  opts,
		log:   opts.Logger.With("dir", opts.Path),
		index: merge.New(),
		files: make(map[string]*file), byPart: make(map[*merge.Part]*file), lingering: make(map[string]bool),
	}
	d.index.Limit(opts.Limits.Limits)
	d.index.Rule(opts.Rules)
	d.pulse.opened = opts.Now()
	return d
}

// Snapshot merges all files as they are at some instant after the call. Callers
// that come while a snapshot is being made share the next one. The snapshot of a
// directory that does not exist is empty; one that exists and can't be listed is
// an error, lest it pass for empty. The only other error is ctx's.
func (d *Dir) Snapshot(ctx context.Context) (*merge.Snapshot, error) {
	d.nextMu.Lock()
	f := d.next
	lead := f == nil
	if lead {
		f = &flight{done: make(chan struct{})}
		d.next = f
	}
	d.nextMu.Unlock()
	if lead {
		d.fly(f)
	}
	select {
	case <-f.done:
		return f.snapshot, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fly makes the snapshot that the callers of f wait for.
func (d *Dir) fly(f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(f.done)
	// Who comes from here on may have seen a file that we are about to miss.
	d.nextMu.Lock()
	d.next = nil
	d.nextMu.Unlock()
	f.err = errors.New("the merge did not end") // should it panic
	if f.snapshot, f.err = d.mergeLocked(d.index.Snapshot); f.err != nil {
		return
	}
	d.stats.Conflicts = make(map[merge.ConflictKind]int)
	for _, c := range f.snapshot.Conflicts {
		d.stats.Conflicts[c.Kind]++
	}
	d.stats.Invalid = len(f.snapshot.Invalid)
	for _, name := range f.snapshot.Invalid {
		if !slices.Contains(d.invalid, name) && len(d.invalid) < maxNamed {
			d.invalid = append(d.invalid, name)
			d.log.Warn("histogram series with negative counts are left out", "family", name)
		}
	}
}

// Select is Snapshot for some families only, which choose chooses. It costs what
// reading theirs does. It is not shared.
func (d *Dir) Select(ctx context.Context, choose merge.Choose) (*merge.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err // gone while it waited
	}
	return d.mergeLocked(func() (*merge.Snapshot, []merge.Fault) { return d.index.Select(choose) })
}

// mergeLocked looks at the directory and merges it.
func (d *Dir) mergeLocked(merged func() (*merge.Snapshot, []merge.Fault)) (s *merge.Snapshot, err error) {
	d.pulse.merging.set(&d.pulse, d.opts.Now())
	defer d.pulse.merging.clear()
	begun := d.opts.Now()
	defer func() { d.merges.Observe(d.opts.Now().Sub(begun)) }()
	d.starved = nil
	d.syncLocked(false)
	if d.failure != nil {
		return nil, d.failure
	}
	// A file that lost pages under the merge has been counted in part. It is
	// merged again without them; if it is cut off time and again, so be it.
	for range 3 {
		var faulted []merge.Fault
		if s, faulted = merged(); len(faulted) == 0 {
			return s, d.starved
		}
		var gone error
		for _, fault := range faulted {
			if errors.Is(fault.Err, fs.ErrNotExist) {
				gone = fault.Err
			} else {
				d.faultedLocked(fault)
			}
		}
		if gone != nil {
			// It is not held open and has another name by now, or its values are in
			// another file: another process folds the directory.
			d.seen.stale = true
			d.lookLocked(false)
		}
		err = gone
	}
	if err != nil {
		return nil, err
	}
	// Half of the values must not pass for all of them.
	return s, d.starved
}

// Sync looks at the directory without making a snapshot: all of it if full,
// else only if there may be news.
func (d *Dir) Sync(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncLocked(full)
}

// Rule changes the rules. All files are read anew for that, as at the start.
func (d *Dir) Rule(r merge.Rules) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tallyLocked()
	d.roll.paused = true // nobody comes or goes for that
	died := make(map[mmapfile.FileID]time.Time)
	for _, f := range d.files {
		if f.verdict.State == mmapfile.Dead {
			died[f.id] = f.died
		}
	}
	d.dropAllLocked()
	d.index = d.index.Anew(r)
	d.seen.stale, d.seen.whole = true, false
	d.syncLocked(false)
	for _, f := range d.files {
		if at, ok := died[f.id]; ok && f.verdict.State == mmapfile.Dead {
			f.died = at
		}
	}
	d.roll.paused = false
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.opts.Path }

// Name returns what the directory's owner calls it, if anything.
func (d *Dir) Name() string { return d.opts.Name }

// Ready reports whether the directory has been looked at for the first time.
func (d *Dir) Ready() bool { return d.synced.Load() != nil }

// Behind returns how long ago the directory was last looked at, 0 before the
// first time. [Dir.Run] keeps it below twice the rescan interval; it grows where
// the filesystem hangs.
func (d *Dir) Behind() time.Duration {
	last := d.synced.Load()
	if last == nil {
		return 0
	}
	return d.opts.Now().Sub(*last)
}

// Stats counts what the directory held when it was last looked at.
func (d *Dir) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statsLocked()
}

// Close forgets all files. Snapshots that were made before stay good.
func (d *Dir) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.dropAllLocked()
}

// Damaged returns the files that can't be read, or not to their end, and why,
// as of the last look.
func (d *Dir) Damaged() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	damaged := make(map[string]string)
	for base, f := range d.files {
		if f.damage != "" {
			damaged[base] = f.damage
		}
	}
	return damaged
}
