package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
)

// reload is something that can be read again while promagg runs. do returns what has
// changed, in words for the log. After an error all is as it was before.
type reload struct {
	what string
	do   func() ([]string, error)
}

// reloader is all that can be. It is safe for concurrent use.
type reloader struct {
	mu  sync.Mutex // keeps two reloads apart, and protects all
	all []reload
}

func (r *reloader) add(what string, do func() ([]string, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, reload{what, do})
}

// reload reads again all that can be, and logs what has changed. What is wrong with
// one does not keep the others from being read.
func (r *reloader) reload(log *slog.Logger) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed error
	if len(r.all) == 0 {
		log.Info("there is nothing to reload: no flag names a file that can change")
	}
	for _, one := range r.all {
		changes, err := one.do()
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
			log.Error("not reloaded: what was read before goes on to hold", "what", one.what, "err", oneLine(err))
		case len(changes) == 0:
			log.Info("reloaded: nothing has changed", "what", one.what)
		default:
			log.Info("reloaded", "what", one.what, "changed", strings.Join(changes, ", "))
		}
	}
	return failed
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// onHangup reloads at each SIGHUP that was caught, until ctx ends or the function that it
// returns is called.
func (r *reloader) onHangup(ctx context.Context, caught *caught, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-caught.hangup:
				systemd{log}.reloading(func() { _ = r.reload(log) }) // which it has logged
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// handler reloads when it is asked to, if that is allowed.
func (r *reloader) handler(allowed bool, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		switch {
		case !allowed:
			http.Error(w, "reloading by HTTP is not enabled: start promagg with --web.enable-lifecycle, or send SIGHUP", http.StatusForbidden)
		case request.Method != http.MethodPost && request.Method != http.MethodPut:
			w.Header().Set("Allow", "POST, PUT")
			http.Error(w, "use POST or PUT", http.StatusMethodNotAllowed)
		default:
			if err := r.reload(log); err != nil {
				http.Error(w, oneLine(err), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, "reloaded")
		}
	})
}
