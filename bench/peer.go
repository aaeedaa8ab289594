package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// peer is an interpreter that has a Prometheus client.
type peer struct {
	path    string
	eval    string // the option that takes a script
	version string // of it and the client
	missing error  // why there is none
}

// The system's own interpreters are tried before PATH, which may well put one
// first that has no client.
var (
	pythons = []string{"/usr/bin/python3", "python3"}
	rubies  = []string{"/usr/bin/ruby", "ruby"}
)

const pythonVersion = `
import platform, importlib.metadata, prometheus_client.multiprocess
print("Python", platform.python_version() + ", prometheus_client", importlib.metadata.version("prometheus_client"))`

const rubyVersion = `
require "prometheus/client"; require "fast_mmaped_file"
puts "Ruby #{RUBY_VERSION}, prometheus-client-mmap #{Gem.loaded_specs["prometheus-client-mmap"]&.version || Gem::Specification.find_by_name("prometheus-client-mmap").version}"`

func findPython(ctx context.Context, candidates []string) peer {
	return findPeer(ctx, candidates, "-c", pythonVersion, errors.New("no Python with prometheus_client"))
}

func findRuby(ctx context.Context, candidates []string) peer {
	return findPeer(ctx, candidates, "-e", rubyVersion, errors.New("no Ruby with prometheus-client-mmap"))
}

// findPeer returns the first candidate that can run the script, which prints its
// version.
func findPeer(ctx context.Context, candidates []string, eval, script string, tried error) peer {
	for _, name := range candidates {
		path, err := exec.LookPath(name)
		if err != nil {
			tried = fmt.Errorf("%w; %w", tried, err)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		out, err := exec.CommandContext(ctx, path, eval, script).Output()
		cancel()
		if err == nil {
			return peer{path: path, eval: eval, version: strings.TrimSpace(string(out))}
		}
		tried = fmt.Errorf("%w; %s: %w", tried, path, err)
	}
	return peer{missing: tried}
}
