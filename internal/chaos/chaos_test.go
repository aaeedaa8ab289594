package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

func TestMain(m *testing.M) { testpeer.Main(m) }

// TestChaos is the harness for some time: a minute, or $CHAOSTIME. Workers and the
// parent are a build of their own, without the race detector, which would make each
// worker's start ten times as long.
func TestChaos(t *testing.T) {
	runs := "1m"
	if testing.Short() {
		runs = "5s"
	}
	if s := os.Getenv("CHAOSTIME"); s != "" {
		runs = s
	}
	program := filepath.Join(t.TempDir(), "chaos")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(program, "-time", runs, "-seed", strconv.FormatUint(testpeer.Seed(t), 10), "-promagg", testpeer.Promagg(t)).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
