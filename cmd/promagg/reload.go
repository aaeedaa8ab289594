package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"

	"github.com/promagg/promagg/internal/mmapfile"
)

// reload is something that can be read again while promagg runs. do returns what has
// changed, in words for the log. After an error all is as it was before.
type reload struct {
	what string
	do   func() ([]string, error)
}

// openWeb reads what --web.config.file names.
func (f *serveFlags) openWeb() (err error) {
	if f.secure, err = openWebConfig(f.config); err != nil || f.secure == nil {
		return err
	}
	f.reloads = append(f.reloads, reload{"web configuration", f.secure.reload})
	return nil
}

// reloading keeps two reloads from running at the same time, and protects what there
// is to reload.
var reloading sync.Mutex

// reload reads again all that can be, and logs what has changed. What is wrong with
// one does not keep the others from being read.
func (f *serveFlags) reload(log *slog.Logger) error {
	reloading.Lock()
	defer reloading.Unlock()
	var failed error
	if len(f.reloads) == 0 {
		log.Info("there is nothing to reload: no flag names a file that can change")
	}
	for _, r := range f.reloads {
		changes, err := r.do()
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
			log.Error("not reloaded: what was read before goes on to hold", "what", r.what, "err", oneLine(err))
		case len(changes) == 0:
			log.Info("reloaded: nothing has changed", "what", r.what)
		default:
			log.Info("reloaded", "what", r.what, "changed", strings.Join(changes, ", "))
		}
	}
	return failed
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// onHangup reloads at each SIGHUP, until ctx ends or the function that it returns is
// called.
func (f *serveFlags) onHangup(ctx context.Context, log *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, mmapfile.Hangup)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-hangup:
				systemd{log}.reloading(func() { _ = f.reload(log) }) // which it has logged
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(hangup)
		cancel()
		running.Wait()
	}
}

// reloadHandler reloads when it is asked to, if that is allowed.
func (f *serveFlags) reloadHandler(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !f.lifecycle:
			http.Error(w, "reloading by HTTP is not enabled: start promagg with --web.enable-lifecycle, or send SIGHUP", http.StatusForbidden)
		case r.Method != http.MethodPost && r.Method != http.MethodPut:
			w.Header().Set("Allow", "POST, PUT")
			http.Error(w, "use POST or PUT", http.StatusMethodNotAllowed)
		default:
			if err := f.reload(log); err != nil {
				http.Error(w, oneLine(err), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, "reloaded")
		}
	})
}
