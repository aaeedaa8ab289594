package check

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// folder is who folds the directory.
type folder struct {
	held    bool
	pid     int  // 0: not seen from here
	unknown bool // it can't be told whether somebody does
}

// folding reports whether somebody folds, as far as it can be told.
func (f folder) folding() bool { return f.held || f.unknown }

// lookAtFolder asks who holds the lock. /proc/locks tells without touching it, of
// processes that can be seen from here.
func lookAtFolder(d directory) folder {
	path := filepath.Join(d.path, mmapfile.LockName)
	info, err := os.Lstat(path)
	if err != nil {
		return folder{unknown: !errors.Is(err, fs.ErrNotExist)}
	}
	if pid, ok := d.lockedBy("/proc/locks", mmapfile.ID(info).Inode()); ok {
		return folder{held: true, pid: pid}
	}
	f, err := mmapfile.OpenFile(path)
	if err != nil {
		return folder{unknown: true}
	}
	defer f.Close()
	v := f.Probe(mmapfile.ProbeFlock)
	return folder{held: v.State == mmapfile.Alive, unknown: v.State == mmapfile.Unknown}
}

// lockedBy looks for the process that has an exclusive flock on an inode of the
// directory's filesystem.
func (d directory) lockedBy(locks string, inode uint64) (pid int, ok bool) {
	f, err := os.Open(locks)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 708 00:1c:1234 0 EOF
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[3] != "WRITE" {
			continue
		}
		var major, minor uint32
		var n uint64
		if _, err := fmt.Sscanf(fields[5], "%x:%x:%d", &major, &minor, &n); err != nil || n != inode || !d.has(mmapfile.Device(major, minor)) {
			continue
		}
		if pid, err = strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return pid, true
		}
	}
	return 0, false
}

// dead tells of what the dead have left: files that nobody folds, and a directory that
// nobody uses any more.
func dead(files []file, by folder, p processes) (found []Finding) {
	var left []string
	var bytes int64
	writers, alive := make(map[string]bool), 0
	var oldest time.Duration
	youngest := time.Duration(1<<63 - 1)
	for i := range files {
		f := &files[i]
		if f.archive || f.unopened != nil {
			continue
		}
		if f.state() != mmapfile.Dead {
			alive++
			continue
		}
		writers[f.writer] = true
		youngest = min(youngest, f.age)
		if f.verdict.Proven && f.name.Foldable() {
			left = append(left, f.base)
			bytes += f.allocated
			oldest = max(oldest, f.age)
		}
	}
	if len(left) > 0 && !by.folding() {
		found = append(found, finding("PA404", left, "%s of dead writers, %s, the oldest %s old, and no promagg that folds them",
			plural(len(left), "file"), bytesText(bytes), ageText(oldest)))
	}
	// Workers that have just been replaced have not counted anything yet.
	running := slices.ContainsFunc(p.app, func(q process) bool { return q.sameDir })
	if len(writers) > 0 && alive == 0 && !running {
		found = append(found, finding("PA405", nil, "%s dead; the last one's files are of %s ago",
			counted(len(writers), "writer has left files, and is", "writers have left files, and all are"), ageText(youngest)))
	}
	return found
}

// promaggs tells of more than one that watches the directory.
func promaggs(p processes) []Finding {
	if len(p.promaggs) < 2 {
		return nil
	}
	var lines []string
	for _, q := range p.promaggs {
		lines = append(lines, fmt.Sprintf("PID %d: %s", q.pid, q.command))
	}
	return []Finding{finding("PA406", lines, "%d promaggs watch the directory", len(p.promaggs))}
}
