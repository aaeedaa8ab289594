package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memory is what a process takes, in bytes.
type memory struct {
	RSS  int64 `json:"rss"`
	Peak int64 `json:"peak_rss"`
	// Heap is the part of RSS that is the process' own, File the part that is
	// files, be they on a disk or on tmpfs: mostly pages that the writers have too.
	Heap int64 `json:"rss_anonymous"`
	File int64 `json:"rss_files"`
	// Mapped is how much of the value files is mapped.
	Mapped int64 `json:"mapped"`
}

// memoryOf asks /proc what a process takes, and what it has mapped of dir.
func memoryOf(pid int, dir string) (m memory, err error) {
	path := procPath(pid, "status")
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &m.RSS
		case "VmHWM":
			into = &m.Peak
		case "RssAnon":
			into = &m.Heap
		case "RssFile", "RssShmem": // files of a disk and of tmpfs
			into = &m.File
		default:
			continue
		}
		kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, fmt.Errorf("%s: %w", path, err)
		}
		*into += kB << 10
		found++
	}
	if found != 5 {
		return m, fmt.Errorf("%s: want VmRSS, VmHWM, RssAnon, RssFile and RssShmem, got %d of them", path, found)
	}
	m.Mapped, err = mapped(pid, dir)
	return m, err
}

// mapped adds up a process' mappings of the files in dir.
func mapped(pid int, dir string) (bytes int64, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, err
	}
	path := procPath(pid, "maps")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		// 7f00-7f20 r--s 00000000 00:1a 42    /dev/shm/x/counter_1.db
		span, _, _ := strings.Cut(line, " ")
		i := strings.IndexByte(line, '/')
		if i < 0 || filepath.Dir(strings.TrimSuffix(line[i:], "\n")) != dir {
			continue
		}
		from, to, _ := strings.Cut(span, "-")
		a, errA := strconv.ParseUint(from, 16, 64)
		z, errZ := strconv.ParseUint(to, 16, 64)
		if errA != nil || errZ != nil {
			return 0, fmt.Errorf("%s: want addresses, got %q", path, span)
		}
		bytes += int64(z - a)
	}
	return bytes, nil
}
