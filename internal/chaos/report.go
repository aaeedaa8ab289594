package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// doubt tells of how many workers it is not known what they had under way.
func (f *fleet) doubts() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d workers in doubt, by %v updates", f.doubtful, f.doubt)
}

// report prints what has happened so far.
func (h *harness) report() {
	f, ds := h.fleet, h.daemons
	f.mu.Lock()
	kills, exits, unready := f.kills, f.exits, f.unready
	f.mu.Unlock()
	ds.mu.Lock()
	started, dkills, folding := ds.started, ds.kills, ds.folding
	self, says := maps.Clone(ds.self), maps.Clone(ds.says)
	ds.mu.Unlock()
	h.mu.Lock()
	violations, refused := len(h.violations), counts(h.refused)
	h.mu.Unlock()
	fmt.Fprintf(h.out, "%s: workers killed %d (%d before their first update), exited %d; promagg started %d, killed %d (%d at a sign of a fold)\n",
		time.Since(h.began).Round(time.Second), kills, unready, exits, started, dkills, folding)
	fmt.Fprintf(h.out, "   folds at least %.0f, files folded %.0f, expired %.0f, failed rounds %.0f; scrapes answered %d, refused: %s; violations %d\n",
		self["promagg_folds_total"], self["promagg_folded_files_total"], self["promagg_expired_files_total"], self["promagg_fold_failures_total"],
		h.answered.Load(), cmp.Or(refused, "none"), violations)
	if n := f.backlog.held.Load(); n > 0 {
		fmt.Fprintf(h.out, "   workers held back %d times, until the files of dead ones were folded\n", n)
	}
	if said := counts(says); said != "" {
		fmt.Fprintf(h.out, "   promagg warned: %s\n", said)
	}
}

// counts are how often there was what.
func counts(of map[string]int) string {
	var list []string
	for _, what := range slices.Sorted(maps.Keys(of)) {
		list = append(list, fmt.Sprintf("%d × %s", of[what], what))
	}
	return strings.Join(list, ", ")
}
