package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/multiproc"
)

// TestHealthOfStuckMerge: while a merge holds the directory and does not end, health
// checks are answered, and say so after a while. Readiness stays as it is.
func TestHealthOfStuckMerge(t *testing.T) {
	var ahead atomic.Int64
	dir := multiproc.Open(multiproc.Options{
		Path: jobs(t, false),
		Now:  func() time.Time { return time.Unix(1000, 0).Add(time.Duration(ahead.Load())) },
	})
	defer dir.Close()
	ask := func(what string, status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		healthy(multiproc.NewGroup(dir)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/-/healthy", nil))
		if w.Code != status || !strings.HasPrefix(w.Body.String(), body) {
			t.Errorf("%s: status %d: %q, want %d: %q", what, w.Code, w.Body, status, body)
		}
	}
	ahead.Add(int64(time.Minute))
	ask("at the first look", http.StatusOK, "promagg is healthy.\n")
	ahead.Add(int64(stuckFirst))
	ask("at a first look that does not end", http.StatusServiceUnavailable, "the first look at the directory has taken 11m0s so far")

	entered, leave, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		_, err := dir.Select(context.Background(), func(func(string) *merge.Family) []*merge.Family {
			entered <- true
			<-leave
			return nil
		})
		done <- err
	}()
	<-entered
	ask("in a merge", http.StatusOK, "promagg is healthy.\n")
	ahead.Add(int64(stuckAfter + time.Second))
	ask("in a merge that does not end", http.StatusServiceUnavailable, "a merge has taken 31s so far: see whether the filesystem of ")
	leave <- true
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	dir.Sync(false)
	ask("after it", http.StatusOK, "promagg is healthy.\n")
}
