package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// soakSettings are those of a run in which workers are recycled all the time.
type soakSettings struct {
	settings
	time     time.Duration
	recycle  time.Duration // how often one ends and another comes
	interval time.Duration // of folding
	sample   time.Duration
}

// soakSample is what there is in a stretch of time.
type soakSample struct {
	at            time.Duration
	deaths        int
	files         [2]int   // the least and the most
	size          [2]int64 // of all files, in bytes
	disk          string   // blocks of the whole directory, in KiB, at its end
	rss, anon     string   // of promagg, at its end
	entries       float64
	median, worst time.Duration // of scrapes; worst is the 99th of 100
}

// soak is such a run.
func (h *harness) soak(ctx context.Context, s soakSettings) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	timed, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	fmt.Fprintf(h.out, "soak: seed %d, %d workers, one recycled every %s for %s, fold interval %s, in %s\n", h.seed, s.workers, s.recycle, s.time, s.interval, h.base)
	for _, slot := range h.fleet.slots {
		if _, err := h.fleet.start(slot); err != nil {
			return err
		}
	}
	d, err := h.daemons.start(s.interval)
	if err != nil {
		return err
	}
	if !d.listens(timed) {
		return fmt.Errorf("promagg %d does not listen, see its log", d.n)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.recycle(timed, s.recycle); err != nil {
			stop(err)
		}
	})
	samples, err := h.watchSoak(timed, d, s.sample)
	if err != nil {
		stop(err)
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := h.daemons.kill(d, true); err != nil {
		return err
	}
	if err := h.finish(ctx, time.Second); err != nil {
		return err
	}
	if n := len(samples); n > 0 {
		fmt.Fprintln(h.out, "start, middle and end:")
		h.row(soakSample{}, true)
		for _, i := range []int{0, n / 2, n - 1} {
			h.row(samples[i], false)
		}
	}
	return nil
}

// recycle ends a worker and starts another at this interval, alternately by a kill
// and by its own exit.
func (h *harness) recycle(ctx context.Context, every time.Duration) error {
	f := h.fleet
	in := make(map[*slot]*worker)
	for _, w := range f.all() {
		in[w.slot] = w
	}
	begun := time.Now()
	for n := 0; ; n++ {
		if !sleep(ctx, time.Until(begun.Add(time.Duration(n)*every))) {
			return nil
		}
		s := f.slots[n%len(f.slots)]
		end := f.kill
		// So that neither way is always that of the same slots.
		if (n+n/len(f.slots))%2 == 0 {
			end = f.dismiss
		}
		err := end(in[s])
		if err == nil {
			in[s], err = f.start(s)
		}
		if err != nil {
			return err
		}
	}
}

// watchSoak scrapes once a second, and prints a sample at its interval.
func (h *harness) watchSoak(ctx context.Context, d *daemon, every time.Duration) (all []soakSample, err error) {
	h.row(soakSample{}, true)
	begun := time.Now()
	current, next := soakSample{}, begun.Add(every)
	var took []time.Duration
	for n := 1; sleep(ctx, time.Until(begun.Add(time.Duration(n)*time.Second))); n++ {
		got, t, err := h.scrape(ctx, d)
		if errors.Is(err, errRefused) {
			if ctx.Err() != nil {
				return all, nil
			}
			return all, h.violated([]string{err.Error()}, "")
		}
		if err != nil {
			return all, err
		}
		took = append(took, t)
		current.entries = got["promagg_entries"]
		files, size, err := h.usage()
		if err != nil {
			return all, err
		}
		if len(took) == 1 {
			current.files, current.size = [2]int{files, files}, [2]int64{size, size}
		}
		current.files = [2]int{min(current.files[0], files), max(current.files[1], files)}
		current.size = [2]int64{min(current.size[0], size), max(current.size[1], size)}
		if time.Now().Before(next) {
			continue
		}
		next = next.Add(every)
		slices.Sort(took)
		current.at = time.Since(begun)
		current.median, current.worst = took[len(took)/2], took[len(took)*99/100]
		h.fleet.mu.Lock()
		current.deaths = h.fleet.kills + h.fleet.exits
		h.fleet.mu.Unlock()
		if err := h.measure(&current, d); err != nil {
			return all, err
		}
		h.row(current, false)
		all = append(all, current)
		current, took = soakSample{}, nil
	}
	return all, nil
}

// usage counts the files of the directory.
func (h *harness) usage() (files int, size int64, err error) {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		files++
		size += info.Size()
	}
	return files, size, nil
}

// measure asks what is only to be known from outside.
func (h *harness) measure(s *soakSample, d *daemon) error {
	out, err := exec.Command("du", "-s", "-k", h.dir).Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) { // a file that has gone meanwhile
		return err
	}
	s.disk, _, _ = strings.Cut(string(out), "\t")
	status, err := os.ReadFile("/proc/" + strconv.Itoa(d.cmd.Process.Pid) + "/status")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(status) {
		name, v, _ := strings.Cut(string(line), ":")
		v = strings.TrimSuffix(strings.TrimSpace(v), " kB")
		switch name {
		case "VmRSS":
			s.rss = v
		case "RssAnon":
			s.anon = v
		}
	}
	return nil
}

// row prints a sample, or the head of the table.
func (h *harness) row(s soakSample, head bool) {
	if head {
		fmt.Fprintf(h.out, "%8s %8s %13s %17s %9s %9s %9s %9s %9s %9s\n", "time", "deaths", "files", "bytes (KiB)", "du (KiB)", "RSS (KiB)", "anon(KiB)", "entries", "median", "p99")
		return
	}
	fmt.Fprintf(h.out, "%8s %8d %6d–%-6d %8d–%-8d %9s %9s %9s %9.0f %9s %9s\n", s.at.Round(time.Second), s.deaths, s.files[0], s.files[1], s.size[0]>>10, s.size[1]>>10,
		s.disk, s.rss, s.anon, s.entries, s.median.Round(10*time.Microsecond), s.worst.Round(10*time.Microsecond))
}
