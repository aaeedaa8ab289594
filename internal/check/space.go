package check

import (
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// need is what the files take up, and how that grows.
type need struct {
	bytes, files int64 // that the largest writer has
	living, dead int   // writers
	// perHour is how many bytes and files writers have come with in the last hour that
	// are dead by now: nothing gives those back but a fold.
	bytesPerHour, filesPerHour int64
	folded                     bool // somebody does that
}

func (w *world) need() need {
	n := need{folded: w.folder.folding()}
	type share struct {
		bytes, files int64
		alive        bool
	}
	writers := make(map[string]*share)
	for i := range w.files {
		f := &w.files[i]
		if f.archive {
			continue
		}
		s := writers[f.writer]
		if s == nil {
			s = new(share)
			writers[f.writer] = s
		}
		s.bytes += f.allocated
		s.files++
		if f.state() != mmapfile.Dead {
			s.alive = true
		} else if f.age < time.Hour {
			n.bytesPerHour += f.allocated
			n.filesPerHour++
		}
	}
	for _, s := range writers {
		n.bytes, n.files = max(n.bytes, s.bytes), max(n.files, s.files)
		if s.alive {
			n.living++
		} else {
			n.dead++
		}
	}
	return n
}

// soon is how long a filesystem should last at the pace seen.
const soon = 24 * time.Hour

// space compares what is free with what is needed. A filesystem without a limit of its
// own, and one of which the files are next to nothing, is somebody else's matter.
func space(fs mmapfile.Filesystem, n need) (found []Finding) {
	if fs.ReadOnly {
		return nil
	}
	if f, ok := room("PA105", "free", fs.Bytes, fs.FreeBytes, n.bytes, n.bytesPerHour, n, bytesText); ok {
		found = append(found, f)
	}
	if f, ok := room("PA106", "free inodes", fs.Inodes, fs.FreeInodes, n.files, n.filesPerHour, n, countText); ok {
		found = append(found, f)
	}
	return found
}

// room looks at one of bytes and inodes: one is what a worker takes.
func room(id, what string, all, free, one, perHour int64, n need, text func(int64) string) (Finding, bool) {
	if all == 0 {
		return Finding{}, false
	}
	left := text(free) + " of " + text(all) + " " + what
	one = max(one, 1)
	switch {
	case free < one:
		return finding(id, nil, "%s: no room for one more worker, of which the largest takes %s", left, text(one)), true
	case n.living > 0 && free/one < int64(n.living):
		return finding(id, nil, "%s: no room for all %s to be replaced by new ones, at %s for the largest", left,
			plural(n.living, "living writer"), text(one)).as(Warning), true
	case !n.folded && perHour > 0 && free/perHour < int64(soon/time.Hour):
		return finding(id, nil, "%s: used up in %s at the pace of the last hour, %s of writers that are dead", left,
			plural(free/perHour, "hour"), text(perHour)).as(Warning), true
	}
	return Finding{}, false
}
