package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what the times were measured on.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Go     string `json:"go"`
	Kernel string `json:"kernel"`
	// Load is the number of running processes, averaged over the minute before.
	Load string `json:"load"`
}

// thisMachine asks /proc; what it can't tell is "unknown".
func thisMachine() machine {
	m := machine{
		CPU:    "unknown",
		Cores:  runtime.NumCPU(),
		Go:     runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: firstWord("/proc/sys/kernel/osrelease"),
		Load:   firstWord("/proc/loadavg"),
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

func firstWord(path string) string {
	b, _ := os.ReadFile(path)
	if words := strings.Fields(string(b)); len(words) > 0 {
		return words[0]
	}
	return "unknown"
}

// tick is the unit of CPU time in /proc, on every platform that Go runs on.
const tick = time.Second / 100

// cpuTime returns the CPU time that a process has used, all its threads
// together, in user and kernel mode. It asks /proc because getrusage(2) tells
// nothing of a child before it has ended.
func cpuTime(pid int) (time.Duration, error) {
	if used, ok := scheduled(pid); ok {
		return used, nil
	}
	return ticked(pid)
}

// scheduled is cpuTime by what the scheduler counts, in nanoseconds. It reports
// false where the kernel does not tell.
func scheduled(pid int) (used time.Duration, ok bool) {
	// The kernel counts a thread's time when it leaves a core: so must our own first.
	time.Sleep(time.Millisecond)
	threads, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return 0, false
	}
	for _, t := range threads {
		n, err := strconv.ParseInt(firstWord(procPath(pid, "task/"+t.Name()+"/schedstat")), 10, 64)
		if err != nil {
			return 0, false
		}
		used += time.Duration(n)
	}
	return used, used > 0
}

// ticked is cpuTime by the clock of 100 ticks a second.
func ticked(pid int) (time.Duration, error) {
	path := procPath(pid, "stat")
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The program's name, the second field, may hold anything, but nothing behind
	// it has a parenthesis. The 14th and 15th field are utime and stime.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: want at least 15 fields, got %q", path, b)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
