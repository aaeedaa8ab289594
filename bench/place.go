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
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// directory is the directory that is measured.
type directory struct {
	path      string
	shape     shape // its name is "found" if the directory was not built
	generator string
	written   written
	truth     truth
	built     bool // by us, and so ours to remove
	made      bool // the directory itself, too
	holder    *helper
}

// obtain builds the directory, or takes the one that -dir names as it is.
func (b *bench) obtain(ctx context.Context, s shape) (err error) {
	o := b.options
	d := directory{path: o.dir, shape: s, generator: o.generator}
	if s.ruby {
		d.generator = "ruby"
	}
	if o.dir != "" {
		old, err := os.ReadDir(o.dir)
		if err == nil && len(old) > 0 {
			b.dir = directory{path: o.dir, shape: shape{name: "found", about: o.dir}}
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			d.made, err = true, os.Mkdir(o.dir, 0o755)
		}
		if err != nil {
			return err
		}
	} else {
		if d.path, err = os.MkdirTemp(roomFor(ctx, s.bytes()), "promagg-bench-"); err != nil {
			return err
		}
		d.made = true
	}
	d.built = true
	defer func() {
		if err != nil {
			d.remove(false, b.log)
			err = fmt.Errorf("build the directory: %w", err)
		}
	}()
	if s.churn {
		s.writers = len(s.living()) // the others come later
	}
	fmt.Fprintf(b.log, "bench: %s: building %d writers x %d series in %s, seed %d\n", s.name, s.writers, s.entries, d.path, o.seed)
	missing := func(p peer) error { return notMeasured{fmt.Errorf("generator %s: %w", d.generator, p.missing)} }
	switch {
	case d.generator == "go":
		d.written, err = generateGo(s, d.path, o.seed)
	case d.generator == "python" && b.python.missing == nil:
		d.written, err = generatePeer(ctx, b.python, generatePython, d.path, s, o.seed)
	case d.generator == "python":
		err = missing(b.python)
	case b.ruby.missing == nil:
		d.written, err = generatePeer(ctx, b.ruby, generateRuby, d.path, s, o.seed)
	default:
		err = missing(b.ruby)
	}
	if err != nil {
		return err
	}
	d.truth = d.truthNow()
	// Nothing changes from here on, so there is no need to wait until promagg
	// trusts the modification time.
	past := time.Now().Add(-trusted)
	if err = os.Chtimes(d.path, past, past); err != nil {
		return err
	}
	if s.live > 0 {
		if d.holder, err = hold(ctx, d.live()); err != nil {
			return err
		}
	}
	b.dir = d
	return nil
}

// truthNow works out the truth from what was written so far.
func (d *directory) truthNow() truth {
	living := d.shape.living()
	if d.shape.churn {
		for i := range living {
			living[i] = i // they were there first
		}
	}
	return d.written.truth(d.shape.families(d.shape.entries), living)
}

// live returns the paths of the files whose writers live; none where that makes
// no difference.
func (d *directory) live() []string {
	var paths []string
	for _, i := range d.shape.living() {
		if d.shape.churn {
			i = len(paths) // they were there first
		}
		paths = append(paths, filepath.Join(d.path, d.shape.fileName(writerID(i))))
	}
	return paths
}

// remove ends the writers that live and deletes what obtain built.
func (d *directory) remove(keep bool, log io.Writer) {
	if d.holder != nil {
		if err := d.holder.stop(); err != nil {
			fmt.Fprintf(log, "bench: %v\n", err)
		}
	}
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
