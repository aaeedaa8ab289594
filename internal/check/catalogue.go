package check

import (
	"fmt"
	"maps"
	"slices"
)

// kind is all that findings of one id have in common.
type kind struct {
	severity Severity // the worst that one can have
	title    string
	why, do  string
}

// catalogue has all ids. The hundreds are: 1 the directory, 2 processes, 3 who is
// alive, 4 files, 5 metrics, 6 names. An id that is no longer used is not given to
// something else.
var catalogue = map[string]kind{
	"PA101": {Error, "the directory can't be read",
		"there is nothing to merge: a scrape is empty, or an error",
		"create it before the application starts, as the user the workers run as, and give its path to both in PROMETHEUS_MULTIPROC_DIR; where it is there and may not be read, run promagg as that user"},
	"PA102": {Hint, "the directory is on a disk",
		"each value that changes is written back to the disk sooner or later, workers can stall on that, and folding waits for fsync; nothing in the directory has to outlive a boot",
		"put it on tmpfs, such as below /run or /dev/shm, or an emptyDir with medium: Memory"},
	"PA103": {Warning, "the directory is on a network or FUSE filesystem",
		"mappings of the same file on several machines don't see each other's changes, and leases and locks may not work",
		"put it on tmpfs, one directory for each machine"},
	"PA104": {Hint, "the directory is on overlayfs",
		"it fills the container's writable layer, and leases tell there of open descriptors only, not of mappings",
		"mount a tmpfs or an in-memory emptyDir at that path"},
	"PA105": {Error, "free space is low",
		"a Python or Ruby worker that can't get a page for its values is killed by SIGBUS, in the middle of a request; promagg's Go client goes on in its own memory",
		"make the filesystem larger (mount -o remount,size=...), keep other things out of it, and have promagg fold what the dead have left"},
	"PA106": {Error, "free inodes are low",
		"a worker that can't create its files fails when it sets its first value, often while it is starting",
		"mount it with more (nr_inodes= of tmpfs), or have promagg fold what the dead have left"},
	"PA107": {Warning, "this user can't write the directory",
		"a promagg of this user serves but does not fold: files of dead workers remain for ever",
		"run promagg as the user the workers run as, or give that user's group the right to write; if it is not to fold, say --fold=false"},
	"PA108": {Warning, "anybody may delete or replace files in the directory",
		"any user of the machine can take values away, or make up some",
		"chmod 0750 and the workers' owner; for workers of several users a common group and 2770, or at least the sticky bit (chmod +t)"},
	"PA109": {Error, "the filesystem is mounted read-only",
		"no worker can write its values",
		"mount it read-write, or give the workers another directory"},

	"PA201": {Error, "the variable is not set",
		"without PROMETHEUS_MULTIPROC_DIR a client keeps its values in its own process, where nobody reads them",
		"set it in the environment that the server is started with, not in the application's code: a client reads it when it is first imported"},
	"PA202": {Error, "the variable names another directory",
		"the values of these processes go to where this promagg does not look",
		"give promagg and all processes of the application the same absolute path; in containers, the same volume"},
	"PA203": {Hint, "the variable is set in its old spelling only",
		"the Python client warns about prometheus_multiproc_dir and will stop reading it",
		"set PROMETHEUS_MULTIPROC_DIR"},
	"PA204": {Hint, "some processes can't be looked at",
		"what was not seen was not checked",
		"run promagg check as root, or as the user these processes run as"},
	"PA205": {Error, "processes of the application can't write the directory",
		"a client fails when it creates its first file: the worker does not start, or requests fail",
		"chown the directory to the user the workers run as, after it has dropped privileges"},
	"PA206": {Hint, "writers are in another PID namespace",
		"their PIDs mean nothing here: only leases and locks tell who is alive, and --liveness=pid would not",
		"nothing, as long as PA301 to PA303 don't show; else share the PID namespace (shareProcessNamespace in a pod)"},
	"PA207": {Warning, "writers of several PID namespaces share the directory",
		"files are named by PID, and in each namespace the same PIDs come up: two workers then write into one file, and both lose counts",
		"one directory and one promagg for each container, or writers' ids that differ, such as the host's name with the PID"},
	"PA208": {Error, "workers of several PID namespaces write the same file",
		"each overwrites the other's values",
		"stop one of them, and give each container a directory of its own"},
	"PA209": {Hint, "writers are in another user namespace",
		"a promagg in another one needs CAP_LEASE where the filesystem was mounted to ask for leases of their files",
		"run promagg in the same user namespace as the workers, with their uid"},
	"PA210": {Error, "workers write to files that were deleted",
		"what they count is seen by nobody, until they are restarted",
		"delete files only while the application is down (promagg clean looks); restart these workers now"},
	"PA211": {Hint, "no process is known to write here",
		"either the application is not running or has not counted anything yet, or its processes are out of sight from here",
		"if it is running, name one of its processes with --pid and look again"},
	"PA212": {Warning, "the same path is another directory for the writers",
		"a promagg that runs where this check runs and one in their mount namespace would read different directories",
		"give both containers the same volume, mounted at the same path"},

	"PA301": {Warning, "leases don't work on this filesystem",
		"live gauges of dead workers are served on, and nothing is folded",
		"put the directory on tmpfs, ext4 or xfs; else set --liveness=flock or pid, whichever fits the clients"},
	"PA302": {Warning, "leases of the writers' files are not allowed to this user",
		"live gauges of dead workers are served on, and their files are not folded",
		"run promagg as the owner of the files, or give it CAP_LEASE (AmbientCapabilities=CAP_LEASE in the unit); if it runs as another user than this check, check as that one"},
	"PA303": {Warning, "it can't be told whether some writers are alive",
		"they count as alive: their live gauges are served on, and their files are not folded",
		"see the reasons; promagg inspect shows it for each file"},
	"PA304": {Warning, "locks don't work on this filesystem",
		"which promagg folds the directory is decided by a lock: without it none does",
		"put the directory on tmpfs or a local disk"},

	"PA401": {Error, "files are damaged",
		"what stands behind the damage is not served, and a damaged file is not folded",
		"look with promagg inspect; restart its worker if it is alive, else delete the file: its values are lost either way"},
	"PA402": {Error, "a file has the name of an archive and is none",
		"nothing of that type is folded as long as it is there",
		"move it away, or delete it if its values are of no use"},
	"PA403": {Warning, "files have names that are nearly value files'",
		"promagg opens nothing but counter_ID.db, gauge_MODE_ID.db, histogram_ID.db and summary_ID.db: the values of these files are not served",
		"if a client wrote them, rename them or fix the client; keep copies elsewhere"},
	"PA404": {Warning, "files of dead writers are not folded",
		"each worker that ever was leaves its files, which take space, inodes and time at each scrape",
		"run promagg serve on this directory, as a user that may write it and without --fold=false; or promagg fold now and then"},
	"PA405": {Warning, "all writers are dead",
		"what is served are the values of an application that is not running, or that writes elsewhere",
		"clean the directory whenever the application starts (ExecStartPre=promagg clean), and see whether it has the right one"},
	"PA406": {Warning, "several promaggs watch the directory",
		"only one folds, which is safe, but if Prometheus scrapes both every value is there twice",
		"stop all but one"},
	"PA407": {Error, "files can't be opened",
		"their values are not served",
		"run promagg as the workers' user, or have them create files that its group can read (umask 0027)"},
	"PA408": {Hint, "files are in the older layout",
		"clients that write it have no timestamps: they know no gauges of mode mostrecent",
		"nothing, as long as nobody asks for such gauges; else upgrade the Python client to 0.18 or later"},
	"PA409": {Warning, "timestamps of mostrecent gauges are in the future",
		"such a value wins over all that are set from now on, until the clock has caught up",
		"look at the clock of the machine or container that wrote them (NTP), then set the gauge again or remove the files"},
	"PA410": {Error, "a limit is reached",
		"what is past it is left out of the exposition",
		"find out who makes so much of it (PA504); if it is as it should be, raise the limit"},
	"PA411": {Warning, "a limit is nearly reached",
		"what is past it will be left out of the exposition",
		"find out who makes so much of it (PA504); if it is as it should be, raise the limit"},

	"PA501": {Error, "writers disagree on the type of a family",
		"one of the two is served, the other's values are left out",
		"rename one of the two; if one is from before an upgrade, promagg clean at the restart"},
	"PA502": {Hint, "writers disagree on the help text of a family",
		"the first in byte order is served",
		"use one text; if one is from before an upgrade this ends with the files that have it"},
	"PA503": {Warning, "writers disagree on the buckets of a histogram",
		"the union is served, and a bucket that only some writers have lacks the others' counts: quantiles are wrong",
		"use the same buckets everywhere; if one is from before an upgrade, promagg clean at the restart"},
	"PA504": {Warning, "a family has very many series",
		"each one costs memory in every worker, in promagg and in Prometheus, for ever",
		"take out of that label whatever users or requests make up (ids, paths, addresses), or use a label with few values in its place"},
	"PA505": {Hint, "a gauge has a series for each process that ever was",
		"mode all keeps the values of the dead apart by pid, so series grow with each restart of a worker",
		"use another mode in the application (liveall, max, sum), or promagg serve --gauge.retention=24h"},
	"PA506": {Warning, "histograms have negative counts",
		"no parser takes that, so these series are left out",
		"look who observes or sets it by hand; promagg inspect --entries shows the values"},
	"PA507": {Warning, "entries can't be served",
		"their names or labels are none that an exposition can hold, so they are left out",
		"fix the names in the application; promagg inspect --entries shows them"},

	"PA601": {Hint, "names are not what Prometheus' users expect",
		"these are the findings of promlint, which promtool check metrics reports too",
		"give help texts, and rename when you can: a new name is a new series, and queries and alerts have to follow"},
}

// IDs returns all ids, in order.
func IDs() []string { return slices.Sorted(maps.Keys(catalogue)) }

// finding makes a finding of a kind, with the kind's severity. what is a format.
func finding(id string, details []string, what string, args ...any) Finding {
	k, ok := catalogue[id]
	if !ok {
		panic("check: bug: no kind " + id)
	}
	f := Finding{ID: id, Severity: k.severity, What: fmt.Sprintf(what, args...), Details: some(details, most), Why: k.why, Do: k.do}
	if len(details) > most {
		f.more = len(details) - most + 1
	}
	return f
}

// as gives a finding another severity than the worst of its kind.
func (f Finding) as(s Severity) Finding {
	f.Severity = s
	return f
}

// counted is a number of things.
func counted[T int | int64](n T, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// plural is counted for words that get an s.
func plural[T int | int64](n T, word string) string { return counted(n, word, word+"s") }

// are and have are plural with a verb.
func are(n int, word string) string  { return counted(n, word+" is", word+"s are") }
func have(n int, word string) string { return counted(n, word+" has", word+"s have") }

// most is how many details a finding has at most: there may be a file for each of a
// hundred thousand workers.
const most = 100

// some returns the first so many lines and, for the rest, how many there are.
func some(lines []string, n int) []string { return someOf(lines, n, len(lines)) }

// someOf is some where lines are not all that there are.
func someOf(lines []string, n, all int) []string {
	if all <= n {
		return lines
	}
	return append(slices.Clone(lines[:n-1]), fmt.Sprintf("and %d more", all-n+1))
}
