package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// harness is a run: a directory, the workers, the promaggs, and what checks them.
type harness struct {
	base    string // all that the run has on disk; kept if something is wrong
	dir     string // the directory in question
	seed    uint64
	began   time.Time
	out     io.Writer
	events  events
	fleet   *fleet
	daemons *daemons
	checker *checker
	scraper *scraper

	answered   atomic.Int64
	mu         sync.Mutex // protects what follows
	violations []string
	refused    map[string]int // scrapes that were not answered, by the reason
}

// settings of a run.
type settings struct {
	base    string
	program string
	level   string
	seed    uint64
	workers int
	every   time.Duration
	burst   int
}

func newHarness(s settings, out io.Writer) (*harness, error) {
	base, err := os.MkdirTemp(s.base, "promagg-chaos-")
	if err != nil {
		return nil, err
	}
	if base, err = filepath.EvalSymlinks(base); err != nil {
		return nil, err
	}
	h := &harness{base: base, dir: filepath.Join(base, "dir"), seed: s.seed, began: time.Now(), out: out, scraper: newScraper()}
	progress, logs := filepath.Join(base, "progress"), filepath.Join(base, "logs")
	for _, dir := range []string{h.dir, progress, logs} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(logs, "workers.log"))
	if err != nil {
		return nil, err
	}
	common := workerSettings{dir: h.dir, progress: progress, every: s.every, burst: s.burst, began: h.began}
	if h.fleet, err = newFleet(common, s.workers, s.seed, log, &h.events); err != nil {
		return nil, err
	}
	h.daemons = &daemons{program: s.program, lowest: func() map[string]float64 { return h.checker.lowest() }, dir: h.dir, logs: logs, level: s.level, events: &h.events, running: make(map[*daemon]bool), self: make(map[string]float64), says: make(map[string]int)}
	h.checker = newChecker(h.began)
	return h, nil
}

// errRefused is returned for a scrape that was not answered.
var errRefused = errors.New("scrape refused")

// violation is what is wrong with an answer.
type violation struct{ wrong []string }

func (v *violation) Error() string { return strings.Join(v.wrong, "\n") }

// scrape scrapes a daemon and checks what it answers. What is wrong with that is a
// violation, of which the evidence is there when it returns.
func (h *harness) scrape(ctx context.Context, d *daemon) (got map[string]float64, took time.Duration, err error) {
	v := h.fleet.begin()
	h.checker.lift(d.floor)
	begun := time.Now()
	body, err := h.scraper.fetch(ctx, d.url())
	took = time.Since(begun)
	h.fleet.endView(v)
	if err == nil {
		err = ctx.Err() // the run is over: workers end and nobody takes note of it
	}
	if err != nil {
		h.refuse(refusal(err))
		h.events.add("promagg %d: %v", d.n, err)
		return nil, took, fmt.Errorf("%w: %w", errRefused, err)
	}
	got, err = parse(body)
	wrong := []string{}
	if err != nil {
		wrong = append(wrong, err.Error())
	} else {
		wrong = h.checker.check(got, v, d.floor)
	}
	if len(wrong) > 0 {
		wrong = append(wrong, fmt.Sprintf("(promagg %d, scrape begun at %s, took %s)", d.n, begun.Format("15:04:05.000000"), took))
		return nil, took, h.violated(wrong, body)
	}
	raise(d.floor, got)
	h.checker.answered(got)
	h.answered.Add(1)
	d.said(got)
	return got, took, nil
}

func (h *harness) refuse(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refused == nil {
		h.refused = make(map[string]int)
	}
	h.refused[reason]++
}

// violated notes what is wrong, and keeps what there is to see of it.
func (h *harness) violated(wrong []string, body string) error {
	v := &violation{wrong}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violations = append(h.violations, v.Error())
	if len(h.violations) > 1 {
		return v // the first one is what to look at
	}
	h.events.add("violation: %s", v.Error())
	to := filepath.Join(h.base, "evidence")
	err := os.Mkdir(to, 0o755)
	if err == nil {
		out, cpErr := exec.Command("cp", "-a", h.dir, filepath.Join(to, "dir")).CombinedOutput()
		if cpErr != nil {
			h.events.add("cp: %v: %s", cpErr, out) // files come and go
		}
		err = os.WriteFile(filepath.Join(to, "scrape.txt"), []byte(body), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "violation.txt"), []byte(v.Error()+"\n"), 0o644)
	}
	if err == nil {
		var text strings.Builder
		if err = h.events.write(&text); err == nil {
			err = os.WriteFile(filepath.Join(to, "events.txt"), []byte(text.String()), 0o644)
		}
	}
	return errors.Join(v, err)
}

// leftovers returns an error that tells what is in the directory that should not be:
// it is to have the files of the living, the archives and the lock.
func (h *harness) leftovers() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	want := map[string]bool{mmapfile.LockName: true}
	for _, w := range h.fleet.all() {
		for _, k := range kinds {
			want[k.file(w.id)] = true
		}
	}
	var extra []string
	for _, e := range entries {
		n, ok := mmapfile.ParseName(e.Name())
		if ok && n.IsArchive() {
			continue
		}
		name := e.Name()
		if ok {
			name = n.Unclaimed().String() // a living writer's file keeps a claim's name where it can't be given back
		}
		if !want[name] {
			extra = append(extra, e.Name())
		}
		delete(want, name)
	}
	delete(want, mmapfile.LockName)
	if len(extra)+len(want) == 0 {
		return nil
	}
	var missing []string
	for name := range want {
		missing = append(missing, name)
	}
	slices.Sort(missing)
	return fmt.Errorf("the directory has too many: %q, and lacks %q", extra, missing)
}

// finish checks that nothing is lost or doubled when all is quiet: with the workers
// paused, and with them gone, before and after promagg starts anew.
func (h *harness) finish(ctx context.Context, interval time.Duration) error {
	if err := h.fleet.pause(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"workers paused", func() error { return nil }},
		{"promagg started anew", func() error { return nil }},
		{"workers gone", h.fleet.dismissAll},
	} {
		if err := step.do(); err != nil {
			return err
		}
		if err := h.quiet(ctx, step.what, interval); err != nil {
			return err
		}
	}
	return nil
}

// quiet starts a promagg while nobody makes updates, waits until it has folded all
// there is, and compares totals.
func (h *harness) quiet(ctx context.Context, what string, interval time.Duration) error {
	d, err := h.daemons.start(interval)
	if err != nil {
		return err
	}
	if !d.listens(ctx) {
		return fmt.Errorf("promagg %d does not listen, see promagg-%d.log", d.n, d.n)
	}
	if err := until(ctx, "the directory has no more than it needs ("+what+")", h.leftovers); err != nil {
		return errors.Join(h.violated([]string{err.Error()}, ""), h.daemons.kill(d, false))
	}
	got, _, err := h.scrape(ctx, d)
	if err == nil {
		if wrong := h.fleet.inexact(got); wrong != nil {
			err = h.violated(wrong, fmt.Sprint(got))
		}
	}
	if err != nil {
		return errors.Join(err, h.daemons.kill(d, false))
	}
	fmt.Fprintf(h.out, "%s: exact, %.0f updates (%s)\n", what, got[samples[0].line], h.fleet.doubts())
	return h.daemons.kill(d, true)
}

// close ends what is left, and removes the run's files if all is well.
func (h *harness) close(keep bool) error {
	h.fleet.killAll()
	h.daemons.killAll()
	if keep {
		fmt.Fprintf(h.out, "kept: %s\n", h.base)
		return h.fleet.log.Close()
	}
	return errors.Join(h.fleet.log.Close(), os.RemoveAll(h.base))
}
