package testpeer

import (
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program is the promagg binary under test, built once for all tests of a package.
var program struct {
	dir  string // set by Main
	once sync.Once
	path string
	out  []byte
	err  error
}

// Main runs the tests of a package: its TestMain consists of a call to it. It
// gives Promagg a place to build in, and stops what Start has started if the
// run is interrupted.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "promagg-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	program.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // a test may run it as another user
		panic(err)
	}

	// The processes live in sessions of their own: an interrupt from the
	// terminal does not reach them by itself.
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	go func() {
		<-interrupt
		running.mu.Lock()
		left := make([]*Process, 0, len(running.set))
		for p := range running.set {
			left = append(left, p)
		}
		running.mu.Unlock()
		for _, p := range left {
			p.Signal("KILL")
		}
		os.RemoveAll(dir)
		os.Exit(130)
	}()
	m.Run()
}

// Promagg is the path of the promagg program, built from this tree. The
// environment variable PROMAGG_TEST_BINARY names another one to test in its
// place, an installed package's for instance.
func Promagg(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PROMAGG_TEST_BINARY"); path != "" {
		return path
	}
	if program.dir == "" {
		t.Fatal("TestMain must call testpeer.Main")
	}
	program.once.Do(func() {
		program.path = filepath.Join(program.dir, "promagg")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", program.path, "github.com/promagg/promagg/cmd/promagg")
		program.out, program.err = build.CombinedOutput()
		if program.err == nil {
			program.err = lookAtSources()
		}
	})
	if program.err != nil {
		t.Fatalf("go build promagg: %v\n%s", program.err, program.out)
	}
	return program.path
}

// lookAtSources looks at all that promagg is built from. The go command runs a test
// anew when a file of the module that the test has looked at is another one, and
// would not know otherwise that the test depends on promagg.
func lookAtSources() error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return err
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	for _, dir := range []string{"cmd", "internal", "pkg", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
