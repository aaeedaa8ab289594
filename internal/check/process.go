package check

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/promagg/promagg/internal/mmapfile"
)

// process is one process as far as it can be seen.
type process struct {
	pid, parent int
	command     string // its command line, cut short
	title       string // what a command line and those of its forks have in common
	exe         string
	uid         int
	gids        []int // its group and all others that it is in
	root        bool  // it may write where the bits say that it may not
	named       bool  // by --pid, or a descendant of one that is
	blind       error // why its environment can't be seen
	dirs        map[string]string
	sameDir     bool              // its variable leads to the directory
	otherDir    string            // its variable leads there, not to the directory
	elsewhere   bool              // the directory's path is another one for it, or none
	spaces      map[string]uint32 // its namespaces
	files       []string          // value files of the directory that it can write
	deleted     []string          // value files that were there, and that it can write still
}

// processes are those that have to do with the directory.
type processes struct {
	self     map[string]uint32 // the namespaces of this process
	app      []process         // the application's, by PID
	promaggs []process         // that watch the directory
	hidden   int               // processes of which this user can't see what files they have
	err      error             // why there is nothing to see at all
}

// variables name the directory, the first one that is set in the Python client's order.
var variables = []string{"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"}

// look is a walk over /proc.
type look struct {
	dir    directory
	inodes map[uint64]string // of value files, with their names
	all    map[int]*process
	procs  map[int]procfs.Proc
}

// lookAtProcesses finds the application's processes: those that have value files of the
// directory mapped for writing, those whose variable names it, those that were
// named, and the parents, children and siblings of all these that run the same program.
func lookAtProcesses(ctx context.Context, dir directory, files []file, named []int) (found processes) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return processes{err: err}
	}
	if self, err := procfs.Self(); err == nil {
		found.self = spaces(self)
	}
	l := look{dir: dir, inodes: make(map[uint64]string), all: make(map[int]*process), procs: make(map[int]procfs.Proc)}
	for i := range files {
		l.inodes[files[i].inode] = files[i].base
	}
	for _, p := range procs {
		if ctx.Err() != nil {
			return found
		}
		q, ok := l.see(p)
		if !ok {
			continue
		}
		l.all[p.PID], l.procs[p.PID] = q, p
		if q.blind != nil && len(q.files) == 0 && q.uid != os.Geteuid() {
			found.hidden++
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(l.all)) {
		if q := l.all[pid]; pid != os.Getpid() && l.watches(q, l.procs[pid]) {
			found.promaggs = append(found.promaggs, *q)
		}
	}
	for _, pid := range named {
		l.name(pid)
	}
	member := func(q *process) bool { return q.named || q.sameDir || len(q.files)+len(q.deleted) > 0 }
	// Forks have their parent's program and command line. Other programs that the same
	// supervisor or shell has started, in the same language perhaps, don't.
	type fork struct {
		parent     int
		exe, title string
	}
	forks, parents := make(map[fork]bool), make(map[fork]bool)
	for _, q := range l.all {
		if member(q) && !isPromagg(q) {
			forks[fork{q.parent, q.exe, q.title}] = q.parent > 1
			forks[fork{q.pid, q.exe, q.title}] = true
			parents[fork{q.parent, q.exe, q.title}] = true
		}
	}
	for _, pid := range slices.Sorted(maps.Keys(l.all)) {
		q := l.all[pid]
		related := q.exe != "" && (forks[fork{q.parent, q.exe, q.title}] || parents[fork{pid, q.exe, q.title}])
		if isPromagg(q) || pid == os.Getpid() || !member(q) && !related {
			continue
		}
		q.spaces = spaces(l.procs[pid])
		l.compare(q)
		found.app = append(found.app, *q)
	}
	return found
}

// isPromagg reports whether a process is a promagg, and none of those that write (promagg
// demo has some).
func isPromagg(q *process) bool {
	return len(q.files) == 0 && (strings.HasPrefix(filepath.Base(q.exe), "promagg") || strings.HasPrefix(filepath.Base(q.command), "promagg"))
}

// name marks a process that was named, and all that descend from it.
func (l *look) name(pid int) {
	q := l.all[pid]
	if q == nil || q.named {
		return
	}
	q.named = true
	for child, c := range l.all {
		if c.parent == pid {
			l.name(child)
		}
	}
}

// see looks at one process. It reports false if that is gone, or has ended.
func (l *look) see(p procfs.Proc) (*process, bool) {
	stat, err := p.Stat()
	if err != nil || stat.State == "Z" || stat.State == "X" || stat.VSize == 0 { // kernel threads have no memory
		return nil, false
	}
	q := &process{pid: p.PID, parent: stat.PPID, command: stat.Comm}
	if status, err := p.NewStatus(); err == nil {
		const mayAll = 1 << 1 // CAP_DAC_OVERRIDE
		q.uid, q.gids = int(status.UIDs[1]), []int{int(status.GIDs[1])}
		q.root = status.CapEff&mayAll != 0
	}
	q.gids = append(q.gids, groups(p.PID)...)
	q.exe, _ = p.Executable()
	q.exe = strings.TrimSuffix(q.exe, " (deleted)") // upgraded under way
	if args, err := p.CmdLine(); err == nil && len(args) > 0 {
		q.command, q.title = short(strings.Join(args, " ")), title(args)
	}
	l.environment(q, p)
	l.holds(q, p)
	return q, true
}

// title is what a process has in common with those that it forks, whose titles a server
// may set: "gunicorn: master [app]" and "gunicorn: worker [app]".
func title(args []string) string {
	if first, _, set := strings.Cut(args[0], " "); set {
		return strings.TrimSuffix(first, ":")
	}
	return strings.Join(args, "\x00")
}

// groups are the other groups that a process is in.
func groups(pid int) (gids []int) {
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Groups:"); ok {
			for _, word := range strings.Fields(rest) {
				if gid, err := strconv.Atoi(word); err == nil {
					gids = append(gids, gid)
				}
			}
		}
	}
	return gids
}

func procPath(pid int, rest ...string) string {
	return filepath.Join(append([]string{procfs.DefaultMountPoint, strconv.Itoa(pid)}, rest...)...)
}

// environment looks where the variables of a process lead, which are those that it was
// started with: what it has set itself since is not there.
func (l *look) environment(q *process, p procfs.Proc) {
	env, err := p.Environ()
	if err != nil {
		q.blind = err
		return
	}
	q.dirs = make(map[string]string)
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); slices.Contains(variables, name) && value != "" {
			q.dirs[name] = value
		}
	}
	value := cmp.Or(q.dirs[variables[0]], q.dirs[variables[1]])
	if value == "" {
		return
	}
	// As the process sees it: its root and working directory may be others.
	path := value
	if !filepath.IsAbs(path) {
		cwd, err := p.Cwd()
		if err != nil {
			return
		}
		path = filepath.Join(cwd, path)
	}
	info, err := os.Stat(filepath.Join(procPath(q.pid, "root"), path))
	switch {
	case err == nil && mmapfile.ID(info) == l.dir.id:
		q.sameDir = true
	case errors.Is(err, fs.ErrPermission):
		q.sameDir = filepath.Clean(path) == l.dir.path
	}
	if !q.sameDir {
		q.otherDir = value
	}
}

// holds looks which value files a process can write.
func (l *look) holds(q *process, p procfs.Proc) {
	mappings, err := p.ProcMaps()
	if err != nil {
		if q.blind == nil && errors.Is(err, fs.ErrPermission) {
			q.blind = err
		}
		return
	}
	held := make(map[string]bool)
	for _, m := range mappings {
		if m.Inode == 0 || !m.Perms.Write || !m.Perms.Shared || !l.dir.has(m.Dev) {
			continue
		}
		path, gone := strings.CutSuffix(m.Pathname, " (deleted)")
		base := l.inodes[m.Inode]
		switch name, ok := mmapfile.ParseName(filepath.Base(path)); {
		case !ok || held[path]:
		case base != "" && (base == name.String() || unclaimed(base) == unclaimed(name.String())):
			held[path] = true
			q.files = append(q.files, base)
		case gone && filepath.Dir(path) == l.dir.path:
			held[path] = true
			q.deleted = append(q.deleted, filepath.Base(path))
		}
	}
}

// unclaimed is the name that a file had before it was claimed for a fold.
func unclaimed(base string) string {
	name, _ := mmapfile.ParseName(base)
	return name.Unclaimed().String()
}

// watches reports whether a process is a promagg that has the directory watched.
func (l *look) watches(q *process, p procfs.Proc) bool {
	if !isPromagg(q) {
		return false
	}
	descriptors, _ := p.FileDescriptorsInfo() // what can't be seen is not counted
	for _, d := range descriptors {
		for _, in := range d.InotifyInfos {
			inode, noInode := strconv.ParseUint(in.Ino, 16, 64)
			dev, noDev := strconv.ParseUint(in.Sdev, 16, 32)
			const minorBits = 20 // as the kernel itself has them, and nobody else
			if noInode == nil && noDev == nil && l.dir.id.HasInode(inode) &&
				l.dir.has(mmapfile.Device(uint32(dev)>>minorBits, uint32(dev)&(1<<minorBits-1))) {
				return true
			}
		}
	}
	return false
}

// compare looks whether the directory's path leads there for a process, too.
func (l *look) compare(q *process) {
	info, err := os.Stat(filepath.Join(procPath(q.pid, "root"), l.dir.path))
	q.elsewhere = err == nil && mmapfile.ID(info) != l.dir.id || errors.Is(err, fs.ErrNotExist)
}

// spaces are the namespaces of a process that matter here.
func spaces(p procfs.Proc) map[string]uint32 {
	all, err := p.Namespaces()
	if err != nil {
		return nil
	}
	of := make(map[string]uint32)
	for _, kind := range []string{"pid", "mnt", "user"} {
		if ns, ok := all[kind]; ok {
			of[kind] = ns.Inode
		}
	}
	return of
}
