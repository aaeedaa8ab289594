package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/check"
	"github.com/promagg/promagg/internal/testpeer"
)

// checked is the answer of `promagg check`, which must exit as it says.
func checked(t *testing.T, under []string, dir string, args ...string) *check.Report {
	t.Helper()
	argv := append(slices.Clone(under), testpeer.Promagg(t), "check", "--json", "--dir", dir)
	cmd := command(append(argv, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	r := new(check.Report)
	if failed := json.Unmarshal(out, r); failed != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v, %v\n%s%s", cmd.Args, err, failed, out, &stderr)
	}
	if failed := new(exec.ExitError); r.Errors > 0 && (!errors.As(err, &failed) || failed.ExitCode() != 1) || r.Errors == 0 && err != nil {
		t.Errorf("%d errors, and it ended with %v", r.Errors, err)
	}
	return r
}

// say checks that a report has a finding, and that this says so.
func say(t *testing.T, r *check.Report, id string, severity check.Severity, want ...string) {
	t.Helper()
	for _, f := range r.Findings {
		text := f.What + "\n" + strings.Join(f.Details, "\n")
		if f.ID != id || !slices.ContainsFunc(append(want, ""), func(s string) bool { return strings.Contains(text, s) }) {
			continue
		}
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s does not say %q:\n%s", id, s, text)
			}
		}
		if f.Severity != severity {
			t.Errorf("%s is of severity %s, want %s", id, f.Severity, severity)
		}
		return
	}
	t.Errorf("no %s among %s", id, ids(r))
}

// ids are those of a report's findings.
func ids(r *check.Report) []string {
	ids := make([]string, 0, len(r.Findings))
	for _, f := range r.Findings {
		ids = append(ids, f.ID)
	}
	return ids
}

// silent checks that a report has no such findings.
func silent(t *testing.T, r *check.Report, not ...string) {
	t.Helper()
	for _, f := range r.Findings {
		if slices.Contains(not, f.ID) {
			t.Errorf("%s: %s\n%s", f.ID, f.What, strings.Join(f.Details, "\n"))
		}
	}
}

// holder is a Python process that has run some code and lives on.
func holder(t *testing.T, under []string, env []string, code string) *testpeer.Process {
	t.Helper()
	testpeer.Require(t, testpeer.Python)
	cmd := command(append(slices.Clone(under), testpeer.Python.Path(), "-c", code+"\nimport signal\nprint('settled', flush=True)\nsignal.pause()")...)
	cmd.Env = append(cmd.Env, env...)
	p := testpeer.Start(t, cmd)
	testpeer.WaitFor(t, "the code to have run", patience, func() error {
		if !strings.Contains(p.Log(), "settled") {
			if ended, err := p.Exited(); ended {
				t.Fatalf("it has ended: %v\n%s", err, p.Log())
			}
			return errors.New(p.Log())
		}
		return nil
	})
	return p
}

const writes = "from prometheus_client import Counter\nCounter('jobs', 'Jobs done.').inc()"

func variable(dir string) []string { return []string{"PROMETHEUS_MULTIPROC_DIR=" + dir} }

// privateDir is a directory as an operator should have it.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := testpeer.Shm(t)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCheckGunicorn: a set-up by the book has neither errors nor warnings, not while
// workers come and go either, and its processes are found.
func TestCheckGunicorn(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	dir := privateDir(t)
	p := serve(t, dir).ready(t)
	g := startGunicorn(t, dir, 2)
	g.request(t, 20)
	good := func() *check.Report {
		t.Helper()
		r := checked(t, nil, dir)
		for _, f := range r.Findings {
			if f.Severity != check.Hint {
				t.Errorf("%s %s: %s\n%s", f.Severity, f.ID, f.What, strings.Join(f.Details, "\n"))
			}
		}
		silent(t, r, "PA102", "PA104", "PA201", "PA202", "PA203", "PA204", "PA206")
		return r
	}
	r := good()
	silent(t, r, "PA211")
	if want := 1 + 2; len(r.Facts.Processes) != want || !slices.Contains(r.Facts.Processes, g.Pid()) || r.Facts.Writers != 2 || r.Facts.Dead != 0 {
		t.Errorf("processes %v, %d writers, %d dead: want gunicorn's %d and the workers", r.Facts.Processes, r.Facts.Writers, r.Facts.Dead, g.Pid())
	}
	if r.Facts.Folder != p.Pid() || r.Facts.Lease != "works" || r.Facts.Flock != "works" || r.Facts.Filesystem != "tmpfs" {
		t.Errorf("facts: %+v", r.Facts)
	}
	for pid := range g.workers(t) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		testpeer.SignalPid(t, "KILL", n)
		testpeer.Ended(t, n)
	}
	good() // whether or not there are others by now that have counted something
}

// TestCheckVariable: gunicorn without the variable, with another directory's, and with
// the old spelling.
func TestCheckVariable(t *testing.T) {
	testpeer.Require(t, testpeer.Gunicorn)
	dir, other := privateDir(t), privateDir(t)
	g := startGunicorn(t, other, 1)
	g.request(t, 1)
	r := checked(t, nil, dir, "--pid", strconv.Itoa(g.Pid()))
	say(t, r, "PA202", check.Error, "2 processes of the application have", "to another directory than "+dir, fmt.Sprintf("PID %d", g.Pid()), other)
	silent(t, r, "PA201")
	say(t, r, "PA211", check.Hint, "2 processes of the application")

	unset := holder(t, nil, nil, "import prometheus_client")
	r = checked(t, nil, dir, "--pid", strconv.Itoa(unset.Pid()))
	say(t, r, "PA201", check.Error, "PROMETHEUS_MULTIPROC_DIR is not set in 1 process", fmt.Sprintf("PID %d (%s", unset.Pid(), testpeer.Python.Path()))
	r = checked(t, nil, dir)
	silent(t, r, "PA201", "PA202")
	say(t, r, "PA211", check.Hint, "no process that can be seen")

	old := holder(t, nil, []string{"prometheus_multiproc_dir=" + dir}, writes)
	r = checked(t, nil, dir)
	say(t, r, "PA203", check.Hint, fmt.Sprintf("PID %d", old.Pid()))
	silent(t, r, "PA201", "PA202", "PA211")

	// Who sets it for itself does it right, as far as can be seen.
	holder(t, nil, nil, "import os\nos.environ['PROMETHEUS_MULTIPROC_DIR'] = "+strconv.Quote(dir)+"\n"+writes)
	silent(t, checked(t, nil, dir), "PA201", "PA202", "PA211")
}

// TestCheckUsers: an application of another user that can't write the directory, and
// one that can't be looked at.
func TestCheckUsers(t *testing.T) {
	dir := privateDir(t)
	p := holder(t, testpeer.Nobody(t), variable(dir), "pass")
	r := checked(t, nil, dir)
	say(t, r, "PA205", check.Error, fmt.Sprintf("PID %d", p.Pid()), "user 65534", "belongs to user 0, group 0, mode drwxr-x---")
	testpeer.Disown(t, dir)
	silent(t, checked(t, nil, dir), "PA205")

	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writer := holder(t, nil, variable(dir), writes)
	r = checked(t, testpeer.Nobody(t), dir, "--pid", strconv.Itoa(writer.Pid()))
	say(t, r, "PA204", check.Hint, fmt.Sprintf("can't see the environment of PID %d", writer.Pid()), "run as its user (0) or root")
	say(t, r, "PA302", check.Warning, "user 65534 may not ask for a lease of 1 file", "(user 0)")
	silent(t, r, "PA201", "PA202", "PA211")
}

// TestCheckPIDNamespaces: two containers share a directory, and the first process of
// each is PID 1.
func TestCheckPIDNamespaces(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	dir := privateDir(t)
	container := []string{testpeer.Unshare.Path(), "--pid", "--fork", "--kill-child", "--mount-proc"}
	holder(t, container, variable(dir), writes)
	r := checked(t, nil, dir)
	say(t, r, "PA206", check.Hint, "1 writer is in another PID namespace")
	silent(t, r, "PA207", "PA208", "PA209", "PA212", "PA201", "PA302", "PA303")

	holder(t, container, variable(dir), writes)
	r = checked(t, nil, dir)
	say(t, r, "PA207", check.Warning, "writers of 2 PID namespaces share the directory")
	say(t, r, "PA208", check.Error, "counter_1.db: PID ")

	// Seen from within one of them, there is nobody.
	r = checked(t, container, dir)
	say(t, r, "PA211", check.Hint)
	silent(t, r, "PA206", "PA207", "PA208")
}

func TestCheckUserNamespace(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	dir := privateDir(t)
	holder(t, []string{testpeer.Unshare.Path(), "--user", "--map-root-user"}, variable(dir), writes)
	r := checked(t, nil, dir)
	say(t, r, "PA209", check.Hint, "1 writer is in another user namespace")
	silent(t, r, "PA206", "PA205")
}

// TestCheckMountNamespace: for the writer the directory has another path, and its own
// path is another directory.
func TestCheckMountNamespace(t *testing.T) {
	testpeer.Require(t, testpeer.Mounts)
	dir, elsewhere := privateDir(t), privateDir(t)
	container := []string{testpeer.Mounts.Path(), "--mount", "sh", "-c", `mount --bind "$0" "$1" && mount -t tmpfs tmpfs "$0" && shift && exec "$@"`, dir, elsewhere}
	p := holder(t, container, variable(elsewhere), writes)
	r := checked(t, nil, dir)
	say(t, r, "PA212", check.Warning, "for 1 writer "+dir+" is another directory", fmt.Sprintf("PID %d", p.Pid()))
	silent(t, r, "PA201", "PA202", "PA206", "PA210", "PA211")
}

func TestCheckDeletedFiles(t *testing.T) {
	dir := privateDir(t)
	p := holder(t, nil, variable(dir), writes)
	name := fmt.Sprintf("counter_%d.db", p.Pid())
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	r := checked(t, nil, dir)
	say(t, r, "PA210", check.Error, "1 worker writes to files that were deleted", fmt.Sprintf("PID %d", p.Pid()), name)
}

func TestCheckTwoPromaggs(t *testing.T) {
	dir := privateDir(t)
	a := serve(t, dir).ready(t)
	silent(t, checked(t, nil, dir), "PA406")
	b := serve(t, dir).ready(t)
	serve(t, privateDir(t)).ready(t) // which is nobody's business
	r := checked(t, nil, dir)
	say(t, r, "PA406", check.Warning, "2 promaggs watch the directory", fmt.Sprintf("PID %d: ", a.Pid()), fmt.Sprintf("PID %d: ", b.Pid()))
	if r.Facts.Folder != a.Pid() {
		t.Errorf("the folder is %d, want the first one, %d", r.Facts.Folder, a.Pid())
	}
}

// TestCheckConflicts: two versions of an application at the same time.
func TestCheckConflicts(t *testing.T) {
	dir := privateDir(t)
	version := func(code string) *testpeer.Process {
		return holder(t, nil, variable(dir), "from prometheus_client import Counter, Gauge, Histogram\n"+code)
	}
	a := version("Counter('jobs', 'Jobs done.').inc()\nHistogram('took_seconds', 'Time.', buckets=(1, 5)).observe(1)\nGauge('size', 'Size.', multiprocess_mode='max').set(1)")
	b := version("Counter('jobs', 'All jobs.').inc()\nHistogram('took_seconds', 'Time.', buckets=(1, 2.5)).observe(1)\nCounter('other', 'Others.').inc()\nGauge('size', 'Size.', multiprocess_mode='sum').set(1)")
	r := checked(t, nil, dir)
	say(t, r, "PA501", check.Error, "size", fmt.Sprintf("gauge of mode max size: gauge_max_%d.db", a.Pid()), fmt.Sprintf("gauge of mode sum size: gauge_sum_%d.db", b.Pid()))
	say(t, r, "PA502", check.Hint, "jobs_total", fmt.Sprintf(`"Jobs done.": counter_%d.db`, a.Pid()), fmt.Sprintf(`"All jobs.": counter_%d.db`, b.Pid()))
	say(t, r, "PA503", check.Warning, "took_seconds", fmt.Sprintf("1.0 5.0 +Inf: histogram_%d.db", a.Pid()), fmt.Sprintf("1.0 2.5 +Inf: histogram_%d.db", b.Pid()))
	if text := fmt.Sprint(r.Findings); strings.Contains(text, "other_total") {
		t.Errorf("it names a family that nobody disagrees on: %s", text)
	}
}
