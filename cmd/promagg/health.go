package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/promagg/promagg/internal/multiproc"
)

// stuckAfter is how long something may take that takes no time, or have no news
// that comes every few seconds, before promagg counts as unhealthy.
const stuckAfter = 30 * time.Second

// stuckFirst is the same for the first look at the directory, at which all there is
// must be read: who restarts what is unhealthy would begin it anew, and for ever.
const stuckFirst = 10 * time.Minute

// stuck returns what a directory is stuck at, if one is.
func stuck(dirs *multiproc.Group) error {
	for _, dir := range dirs.Dirs() {
		limit := stuckAfter
		if !dir.Ready() {
			limit = stuckFirst
		}
		if err := dir.Stuck(limit); err != nil {
			return err
		}
	}
	return nil
}

// healthy answers whether promagg does its work. It waits for nothing.
func healthy(dirs *multiproc.Group) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := stuck(dirs); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "promagg is healthy.")
	})
}
