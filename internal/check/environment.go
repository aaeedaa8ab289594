package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promagg/promagg/internal/mmapfile"
)

func (q *process) String() string { return fmt.Sprintf("PID %d (%s)", q.pid, q.command) }

// environment tells of processes of the application whose values go elsewhere.
func environment(d directory, p processes, files []file) (found []Finding) {
	var unset, other, old, blind []string
	byCode := slices.ContainsFunc(p.app, func(q process) bool {
		return q.blind == nil && len(q.dirs) == 0 && len(q.files)+len(q.deleted) > 0
	})
	holding := 0
	for i := range p.app {
		q := &p.app[i]
		holding += len(q.files) + len(q.deleted)
		_, modern := q.dirs[variables[0]]
		switch {
		case q.blind != nil:
			blind = append(blind, fmt.Sprintf("can't see the environment of %v: run as its user (%d) or root", q, q.uid))
		case len(q.files) > 0 && q.otherDir != "":
			// It has set another one since, or has two.
		case q.otherDir != "":
			other = append(other, fmt.Sprintf("%v: %s", q, q.otherDir))
		case len(q.dirs) == 0 && len(q.files)+len(q.deleted) == 0 && !byCode:
			unset = append(unset, q.String())
		case len(q.dirs) > 0 && !modern && strings.Contains(q.exe, "python"):
			old = append(old, q.String())
		}
	}
	if len(unset) > 0 {
		found = append(found, finding("PA201", unset, "%s is not set in %s of the application", variables[0], counted(len(unset), "process", "processes")))
	}
	if len(other) > 0 {
		found = append(found, finding("PA202", other, "%s %s set to another directory than %s", counted(len(other), "process of the application has", "processes of the application have"), variables[0], d.path))
	}
	if len(old) > 0 {
		found = append(found, finding("PA203", old, "%s only %s set", counted(len(old), "process has", "processes have"), variables[1]))
	}
	seeing := len(blind) == 0
	if unseen := unheld(p, files); p.hidden > 0 && unseen > 0 {
		blind = append(blind, fmt.Sprintf("can't see the files of %s of other users, and who writes %s was not found: run as root", counted(p.hidden, "process", "processes"), plural(unseen, "file")))
		seeing = false
	}
	if p.err != nil {
		blind = append(blind, fmt.Sprintf("no process was looked at: %v", p.err))
	}
	if len(blind) > 0 {
		found = append(found, finding("PA204", blind, "not all processes could be looked at"))
	}
	if holding == 0 && p.err == nil && seeing {
		what := "no process that can be seen from here has value files of the directory mapped"
		if n := len(p.app); n > 0 {
			what = fmt.Sprintf("%s of the application, but none has value files of the directory mapped", counted(n, "process", "processes"))
		}
		found = append(found, finding("PA211", nil, "%s", what))
	}
	return found
}

// unheld counts the files that may have a living writer which is none of the processes.
func unheld(p processes, files []file) (n int) {
	held := make(map[string]bool)
	for i := range p.app {
		for _, base := range p.app[i].files {
			held[base] = true
		}
	}
	for i := range files {
		if f := &files[i]; f.state() != mmapfile.Dead && !f.archive && !held[f.base] {
			n++
		}
	}
	return n
}

// writable tells of processes that can't make files in the directory, as its owner and
// bits have it.
func writable(d directory, p processes) []Finding {
	var denied []string
	for i := range p.app {
		q := &p.app[i]
		if d.allows(q) || q.spaces["user"] != p.self["user"] { // there the ids are others
			continue
		}
		denied = append(denied, fmt.Sprintf("%v: user %d, groups %v", q, q.uid, q.gids))
	}
	if len(denied) == 0 {
		return nil
	}
	return []Finding{finding("PA205", denied, "%s can't write the directory, which belongs to user %d, group %d, mode %v",
		counted(len(denied), "process of the application", "processes of the application"), d.uid, d.gid, d.mode)}
}

// allows reports whether a process may make files in the directory.
func (d directory) allows(q *process) bool {
	const owner, group, others = 0o300, 0o030, 0o003 // write and search
	bits := d.mode.Perm()
	switch {
	case q.root:
		return true
	case q.uid == d.uid:
		return bits&owner == owner
	case slices.Contains(q.gids, d.gid):
		return bits&group == group
	}
	return bits&others == others
}

// namespaces tells of writers that are somewhere else than this process, or than each
// other.
func namespaces(d directory, p processes) (found []Finding) {
	var pids, users, mounts []string
	in := make(map[uint32][]string)             // PID namespace: processes
	of := make(map[string]map[uint32][]process) // file, PID namespace: processes
	for i := range p.app {
		q := &p.app[i]
		if len(q.files) == 0 || q.spaces == nil {
			continue
		}
		space := q.spaces["pid"]
		in[space] = append(in[space], q.String())
		for _, base := range q.files {
			if of[base] == nil {
				of[base] = make(map[uint32][]process)
			}
			of[base][space] = append(of[base][space], *q)
		}
		if space != p.self["pid"] {
			pids = append(pids, q.String())
		}
		if q.spaces["user"] != p.self["user"] {
			users = append(users, q.String())
		}
		if q.spaces["mnt"] != p.self["mnt"] && q.elsewhere {
			mounts = append(mounts, q.String())
		}
	}
	if len(pids) > 0 {
		found = append(found, finding("PA206", pids, "%s in another PID namespace than promagg check", are(len(pids), "writer")))
	}
	if len(in) > 1 {
		var lines []string
		for space, who := range in {
			lines = append(lines, fmt.Sprintf("namespace %d: %s", space, strings.Join(some(who, 3), ", ")))
		}
		slices.Sort(lines)
		found = append(found, finding("PA207", lines, "writers of %d PID namespaces share the directory", len(in)))
	}
	var shared []string
	for base, by := range of {
		if len(by) < 2 {
			continue
		}
		var who []string
		for _, some := range by {
			who = append(who, some[0].String())
		}
		slices.Sort(who)
		shared = append(shared, base+": "+strings.Join(who, ", "))
	}
	if len(shared) > 0 {
		slices.Sort(shared)
		found = append(found, finding("PA208", shared, "%s written by workers of several PID namespaces", are(len(shared), "file")))
	}
	if len(users) > 0 {
		found = append(found, finding("PA209", users, "%s in another user namespace than promagg check", are(len(users), "writer")))
	}
	if len(mounts) > 0 {
		found = append(found, finding("PA212", mounts, "for %s %s is another directory, or none", plural(len(mounts), "writer"), d.path))
	}
	return found
}

// deletedFiles tells of workers whose files are gone.
func deletedFiles(p processes) []Finding {
	var lines []string
	for i := range p.app {
		if q := &p.app[i]; len(q.deleted) > 0 {
			lines = append(lines, fmt.Sprintf("%v: %s", q, strings.Join(some(q.deleted, 3), ", ")))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return []Finding{finding("PA210", lines, "%s to files that were deleted", counted(len(lines), "worker writes", "workers write"))}
}
