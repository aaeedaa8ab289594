package multiproc

import (
	"context"
	"sync"

	"github.com/promagg/promagg/internal/merge"
)

// Group is several directories that are served as one, each with a label of its own.
// Of one it adds nothing to what that costs. Its methods are safe for concurrent use.
type Group struct {
	dirs []*Dir

	mu     sync.Mutex // protects all below
	joiner merge.Joiner
	of     []*merge.Snapshot // of which last was made
	last   *merge.Snapshot
}

// NewGroup returns a group of directories. The rules of each have to give its series a
// label that sets them apart, if there are several.
func NewGroup(dirs ...*Dir) *Group { return &Group{dirs: dirs} }

// Dirs returns the directories.
func (g *Group) Dirs() []*Dir { return g.dirs }

// Snapshot is [Dir.Snapshot] of all directories. An error of one is an error.
func (g *Group) Snapshot(ctx context.Context) (*merge.Snapshot, error) {
	if len(g.dirs) == 1 {
		return g.dirs[0].Snapshot(ctx)
	}
	all, err := g.each(func(d *Dir) (*merge.Snapshot, error) { return d.Snapshot(ctx) })
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	same := len(g.of) == len(all)
	for i := 0; same && i < len(all); i++ {
		same = g.of[i] == all[i]
	}
	if !same { // else another caller has had the same ones
		g.of, g.last = all, g.joiner.Join(all)
	}
	return g.last, nil
}

// LeftOut returns how many families of each directory were left out of the last snapshot
// because one of another directory has a name of theirs.
func (g *Group) LeftOut() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil {
		return make([]int, len(g.dirs))
	}
	return g.joiner.LeftOut()
}

// Select is [Dir.Select] of all directories.
func (g *Group) Select(ctx context.Context, choose merge.Choose) (*merge.Snapshot, error) {
	if len(g.dirs) == 1 {
		return g.dirs[0].Select(ctx, choose)
	}
	all, err := g.each(func(d *Dir) (*merge.Snapshot, error) { return d.Select(ctx, choose) })
	if err != nil {
		return nil, err
	}
	return new(merge.Joiner).Join(all), nil
}

// each makes snapshots of all directories at the same time.
func (g *Group) each(do func(*Dir) (*merge.Snapshot, error)) ([]*merge.Snapshot, error) {
	all, errs := make([]*merge.Snapshot, len(g.dirs)), make([]error, len(g.dirs))
	var making sync.WaitGroup
	for i, d := range g.dirs {
		making.Go(func() { all[i], errs[i] = do(d) })
	}
	making.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Run is [Dir.Run] of all directories.
func (g *Group) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, d := range g.dirs {
		running.Go(func() { d.Run(ctx) })
	}
	running.Wait()
}

// Close closes all directories.
func (g *Group) Close() {
	for _, d := range g.dirs {
		d.Close()
	}
}

// Ready reports whether all directories have been looked at for the first time.
func (g *Group) Ready() bool {
	for _, d := range g.dirs {
		if !d.Ready() {
			return false
		}
	}
	return true
}
