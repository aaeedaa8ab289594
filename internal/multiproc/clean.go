package multiproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// ErrWriters is returned by [Clean] when a writer of the directory is alive or
// can't be shown to be dead.
var ErrWriters = errors.New("writers may be alive")

// Clean removes the value files of a directory and nothing else, and returns
// the names of those it removed, in their order. As long as a writer may be
// alive it removes nothing, unless forced; dryRun only says what it would do.
// A process that takes up a file between the look at it and its removal goes on
// writing a file that has no name.
func Clean(path string, dryRun, force bool) (removed []string, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files, alive []string
	for _, e := range entries {
		if _, ok := mmapfile.ParseName(e.Name()); !ok || !e.Type().IsRegular() {
			continue
		}
		files = append(files, e.Name())
		if force {
			continue
		}
		state, err := probeFile(filepath.Join(path, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			alive = append(alive, fmt.Sprintf("%s (%v)", strings.Trim(strconv.Quote(e.Name()), `"`), err))
		} else if state != mmapfile.Dead {
			alive = append(alive, fmt.Sprintf("%s (%v)", strings.Trim(strconv.Quote(e.Name()), `"`), state))
		}
	}
	if len(alive) > 0 {
		const most = 3
		if n := len(alive); n > most {
			alive = append(alive[:most], fmt.Sprintf("%d more", n-most))
		}
		return nil, fmt.Errorf("%w: %s", ErrWriters, strings.Join(alive, ", "))
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

func probeFile(path string) (mmapfile.State, error) {
	f, err := mmapfile.OpenFile(path)
	if err != nil {
		return mmapfile.Unknown, err
	}
	defer f.Close()
	v := f.Probe(mmapfile.ProbeAuto)
	return v.State, v.Err
}
