package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

// directory is the directory that is measured.
type directory struct {
	path      string
	name      string // of its shape; "found" if it was not built
	generator string
	truth     truth
	built     bool // by us, and so ours to remove
	made      bool // the directory itself, too
}

// obtain builds the directory, or takes the one that -dir names as it is.
func obtain(ctx context.Context, o options, s shape, py python, log io.Writer) (directory, error) {
	d := directory{path: o.dir, name: s.name, generator: o.generator}
	if o.dir != "" {
		old, err := os.ReadDir(o.dir)
		if err == nil && len(old) > 0 {
			return directory{path: o.dir, name: "found"}, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			d.made, err = true, os.Mkdir(o.dir, 0o755)
		}
		if err != nil {
			return d, err
		}
	} else {
		var err error
		if d.path, err = os.MkdirTemp(roomFor(ctx, s.bytes(o.writers, o.entries)), "promagg-bench-"); err != nil {
			return d, err
		}
		d.made = true
	}
	d.built = true
	fmt.Fprintf(log, "bench: building %d writers x %d entries in %s, seed %d\n", o.writers, o.entries, d.path, o.seed)
	var err error
	switch {
	case o.generator == "go":
		d.truth, err = s.build(d.path, o.writers, o.entries, o.seed)
	case py.missing != nil:
		err = fmt.Errorf("-generator python: %w", py.missing)
	default:
		d.truth, err = s.buildPython(ctx, py, d.path, o.writers, o.entries, o.seed)
	}
	if err != nil {
		d.remove(false, log)
		return d, fmt.Errorf("build the directory: %w", err)
	}
	return d, nil
}

// remove deletes what obtain built.
func (d *directory) remove(keep bool, log io.Writer) {
	switch {
	case !d.built:
	case keep:
		fmt.Fprintf(log, "bench: the directory is left at %s\n", d.path)
	case d.made:
		if err := os.RemoveAll(d.path); err != nil {
			fmt.Fprintf(log, "bench: %v\n", err)
		}
	default: // somebody else's directory, which was empty
		names, _ := filepath.Glob(filepath.Join(d.path, "*.db"))
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				fmt.Fprintf(log, "bench: %v\n", err)
			}
		}
	}
}

// files returns the paths of the value files, and their size together.
func (d *directory) files() (paths []string, bytes int64, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if _, ok := mmapfile.ParseName(e.Name()); !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		paths = append(paths, filepath.Join(d.path, e.Name()))
		bytes += info.Size()
	}
	if len(paths) == 0 {
		return nil, 0, fmt.Errorf("%s has no value files", d.path)
	}
	return paths, bytes, nil
}

// roomFor returns where a directory of that size is built: on tmpfs, which is
// where multiprocess directories belong, unless that would fill it.
func roomFor(ctx context.Context, bytes int64) string {
	const shm = "/dev/shm"
	avail, err := strconv.ParseInt(df(ctx, "avail", shm), 10, 64)
	if err == nil && df(ctx, "fstype", shm) == "tmpfs" && avail/2 > bytes {
		return shm
	}
	return "" // os.MkdirTemp's default
}

// df asks df(1), since statfs(2) takes a package that promagg leaves to
// internal/mmapfile. It returns the empty string where df can't tell.
func df(ctx context.Context, field, path string) string {
	out, err := exec.CommandContext(ctx, "df", "-B1", "--output="+field, path).Output()
	lines := strings.Fields(string(out)) // the header is the field's name
	if err != nil || len(lines) < 2 {
		return ""
	}
	return lines[len(lines)-1]
}
