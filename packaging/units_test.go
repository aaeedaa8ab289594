package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/testpeer"
)

const units = "../systemd"

// directives returns the directives of a unit, comments left out, as KEY=VALUE.
func directives(t *testing.T, unit string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(units, unit))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// TestUnitExposure: systemd-analyze finds that the services can do little harm.
func TestUnitExposure(t *testing.T) {
	testpeer.Require(t, testpeer.SystemdAnalyze)
	for _, unit := range []string{"promagg.service", "promagg@.service"} {
		out, err := exec.Command(testpeer.SystemdAnalyze.Path(), "security", "--offline=yes", "--no-pager", "--threshold=15", filepath.Join(units, unit)).CombinedOutput()
		if err != nil {
			t.Errorf("exposure of %s is above 1.5: %v\n%s", unit, err, out)
		}
	}
}

// TestUnitsAreSound: systemd has nothing to say against the units once the program is
// installed.
func TestUnitsAreSound(t *testing.T) {
	testpeer.Require(t, testpeer.SystemdAnalyze)
	dir := t.TempDir()
	for _, name := range []string{"promagg.service", "promagg@.service", "promagg.socket"} {
		b, err := os.ReadFile(filepath.Join(units, name))
		if err != nil {
			t.Fatal(err)
		}
		installed := strings.ReplaceAll(string(b), "/usr/bin/promagg", testpeer.Promagg(t))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(installed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(testpeer.SystemdAnalyze.Path(), "verify", "--man=no", "./promagg.service", "./promagg@shop.service", "./promagg.socket")
	cmd.Dir = dir
	// An instance has no file of its own here; systemd finds the template by its path.
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestUnitsAgree: the template is the service, but for the names of an instance.
func TestUnitsAgree(t *testing.T) {
	instance := strings.NewReplacer(
		"Description=Merge the metrics of the workers of %i into", "Description=Merge the metrics of pre-forked workers into",
		"/run/promagg/%i", "/run/promagg/default",
		"/etc/default/promagg-%i", "/etc/default/promagg",
		"RuntimeDirectory=promagg/%i", "RuntimeDirectory=promagg/default",
	)
	var template []string
	for _, d := range directives(t, "promagg@.service") {
		template = append(template, instance.Replace(d))
	}
	if diff := cmp.Diff(directives(t, "promagg.service"), template); diff != "" {
		t.Errorf("-promagg.service +promagg@.service:\n%s", diff)
	}
}

// TestUnitPromises: what the docs promise of the service.
func TestUnitPromises(t *testing.T) {
	service := directives(t, "promagg.service")
	for _, want := range []string{
		"Type=notify", "WatchdogSec=60s", "Restart=on-failure",
		"ExecStartPre=-/usr/bin/promagg clean", "ExecStopPost=-/usr/bin/promagg clean",
		"AmbientCapabilities=CAP_LEASE", "CapabilityBoundingSet=CAP_LEASE",
		"RuntimeDirectoryMode=2770", "RuntimeDirectoryPreserve=yes", "SystemCallErrorNumber=EPERM",
	} {
		if !slices.Contains(service, want) {
			t.Errorf("promagg.service has no %s", want)
		}
	}
	for _, d := range service {
		if strings.HasPrefix(d, "PrivateUsers=") {
			t.Errorf("%s: there CAP_LEASE gets no lease", d)
		}
	}
}
