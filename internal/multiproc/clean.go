package multiproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/fold"
	"github.com/promagg/promagg/internal/mmapfile"
)

// ErrWriters is returned by [Clean] and [MarkDead] when a writer of what they are
// to remove is alive or can't be shown to be dead.
var ErrWriters = errors.New("writers may be alive")

// Clean removes the value files of a directory and nothing else, but for what folding
// has left of itself, and returns the names of those it removed, in their order. As long as a writer may be
// alive it removes nothing, unless forced; dryRun only says what it would do.
// A process that takes up a file between the look at it and its removal goes on
// writing a file that has no name.
func Clean(path string, dryRun, force bool) (removed []string, err error) {
	removed, err = remove(path, dryRun, force, func(string, mmapfile.Name) bool { return true })
	if err == nil && !dryRun {
		err = fold.Sweep(path)
	}
	return removed, err
}

// MarkDead is Clean for the live gauges of some writers, by their ids: what the
// Python client's mark_process_dead does when a worker has ended. Ruby's slots of a
// worker are all meant.
func MarkDead(path string, ids []string, dryRun, force bool) (removed []string, err error) {
	return remove(path, dryRun, force, func(base string, n mmapfile.Name) bool {
		switch {
		case !n.Mode.Live():
			return false
		case slices.Contains(ids, n.Unclaimed().ID):
			return true
		}
		return slices.Contains(ids, n.Writer(true)) && ruby(filepath.Join(path, base))
	})
}

func ruby(path string) bool {
	f, err := mmapfile.OpenFile(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Ruby()
}

// remove is Clean for the files of which which reports true.
func remove(path string, dryRun, force bool, which func(string, mmapfile.Name) bool) (removed []string, err error) {
	dir, err := mmapfile.OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// While it is locked no promagg gives files other names. Who does not let go of it is
	// none.
	if dir.LockEntries(maxBusy) == nil {
		defer dir.UnlockEntries()
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files, alive []string
	denied := false
	for _, e := range entries {
		name, ok := mmapfile.ParseName(e.Name())
		if !ok || !e.Type().IsRegular() || !which(e.Name(), name) {
			continue
		}
		files = append(files, e.Name())
		if force {
			continue
		}
		state, err := probeFile(filepath.Join(path, e.Name()), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			alive = append(alive, fmt.Sprintf("%s (%v)", strings.Trim(strconv.Quote(e.Name()), `"`), err))
			denied = denied || errors.Is(err, fs.ErrPermission)
		} else if state != mmapfile.Dead {
			alive = append(alive, fmt.Sprintf("%s (%v)", strings.Trim(strconv.Quote(e.Name()), `"`), state))
		}
	}
	if len(alive) > 0 {
		const most = 3
		if n := len(alive); n > most {
			alive = append(alive[:most], fmt.Sprintf("%d more", n-most))
		}
		hint := ""
		if denied {
			hint = "; this user may not ask who writes these: run promagg as their owner, or as root"
		}
		return nil, fmt.Errorf("%w: %s%s", ErrWriters, strings.Join(alive, ", "), hint)
	}
	for _, name := range files {
		if !dryRun {
			err := os.Remove(filepath.Join(path, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue // somebody else was faster
			}
			if err != nil {
				return removed, err
			}
		}
		removed = append(removed, name)
	}
	return removed, nil
}

func probeFile(path string, name mmapfile.Name) (mmapfile.State, error) {
	f, err := mmapfile.OpenFile(path)
	if err != nil {
		return mmapfile.Unknown, err
	}
	defer f.Close()
	v := probe(f, name, mmapfile.ProbeAuto)
	return v.State, v.Err
}
