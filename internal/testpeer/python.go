package testpeer

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// PythonWriter runs Python code that uses the Python client in a process which
// then lives until end is called, or the test is over. It returns once the code
// has run.
func PythonWriter(t testing.TB, dir, code string) (pid int, end func()) {
	t.Helper()
	Require(t, Python)
	return writer(t, dir, exec.Command(Python.Path(), "-c", code+`
import os, sys
print(os.getpid(), flush=True)
sys.stdin.read()
`))
}

// RubyWriter is the same for Ruby code that uses the Ruby mmap client.
func RubyWriter(t testing.TB, dir, code string) (pid int, end func()) {
	t.Helper()
	Require(t, Ruby)
	return writer(t, dir, exec.Command(Ruby.Path(), "-e", "require 'prometheus/client'\n"+code+`
$stdout.sync = true
puts Process.pid
$stdin.read
`))
}

// writer runs a program that prints its PID once it has written, and ends with its
// input.
func writer(t testing.TB, dir string, cmd *exec.Cmd) (pid int, end func()) {
	t.Helper()
	cmd.Env = append(os.Environ(), "PROMETHEUS_MULTIPROC_DIR="+dir, "prometheus_multiproc_dir="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	}
	t.Cleanup(end)
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	return pid, end
}
