package check

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// TestLeaseDenied: root without CAP_LEASE, before another user's files.
func TestLeaseDenied(t *testing.T) {
	if !testpeer.IsAgain() {
		dir := testpeer.Shm(t)
		held(t, dir, "counter_1.db", jobs)
		held(t, dir, "counter_worker_2.db", jobs)
		testpeer.Disown(t, filepath.Join(dir, "counter_1.db"), filepath.Join(dir, "counter_worker_2.db"))
		testpeer.Again(t, dir, testpeer.Leaseless(t)...)
		return
	}
	r := lookAt(t, ".")
	tells(t, r, "PA302 warning")
	contains(t, find(t, r, "PA302"), "user 0 may not ask for a lease of 2 files, of other users", "counter_1.db (user 65534)", "counter_worker_2.db")
	if r.Facts.Lease != "works" { // of files of our own
		t.Errorf("lease %s", r.Facts.Lease)
	}
	r = lookAt(t, ".", func(o *Options) { o.Liveness = mmapfile.ProbePID })
	contains(t, find(t, r, "PA303"), "counter_worker_2.db: counter_worker_2.db: the writer's id is no PID")
	tells(t, lookAt(t, ".", func(o *Options) { o.Liveness = mmapfile.ProbeOff }))
}

// TestProbesFail is about filesystems that a test can't have.
func TestProbesFail(t *testing.T) {
	works := outcome{tried: true}
	fails := outcome{tried: true, err: errors.New("function not implemented")}
	unknown := []file{{base: "counter_1.db", verdict: mmapfile.Verdict{State: mmapfile.Unknown, Err: os.ErrInvalid}}}
	for _, tc := range []struct {
		l    liveness
		p    mmapfile.Probe
		want string
	}{
		{liveness{works, works}, mmapfile.ProbeAuto, "PA303 "},
		{liveness{fails, works}, mmapfile.ProbeAuto, "PA301 "},
		{liveness{fails, works}, mmapfile.ProbeFlock, ""},
		{liveness{fails, works}, mmapfile.ProbePID, "PA303 "},
		{liveness{works, fails}, mmapfile.ProbeOff, "PA304 "},
		{liveness{fails, fails}, mmapfile.ProbeLease, "PA304 PA301 "},
		{liveness{}, mmapfile.ProbeLease, "PA303 "},
	} {
		got := ""
		for _, f := range probes(tc.l, unknown, tc.p) {
			got += f.ID + " "
		}
		if got != tc.want {
			t.Errorf("%v with lease %v, flock %v: got %q, want %q", tc.p, tc.l.lease, tc.l.flock, got, tc.want)
		}
	}
}
