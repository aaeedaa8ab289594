package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/pkg/client"
)

// Handler is [HandlerFor] the default registry. The registry is made at the
// first request, if nothing has made it before.
func Handler() http.Handler { return handlerOf(client.DefaultRegistry) }

// HandlerFor returns a /metrics handler that speaks the text format and
// OpenMetrics.
//
// If the registry has a multiprocess directory, it serves what all processes
// wrote there, as promagg does: any one worker can answer the scrape. It opens
// the directory at the first request and logs to slog.Default. A directory that
// can't be read is answered with 503.
//
// If it has none, it serves this process. Gauges then have one value whatever
// their mode, and no label "pid": it is there to tell processes apart.
func HandlerFor(r *client.Registry) http.Handler {
	return handlerOf(func() *client.Registry { return r })
}

func handlerOf(registry func() *client.Registry) http.Handler {
	handler := sync.OnceValue(func() http.Handler {
		var source expose.Source = process{registry()}
		if dir := registry().Dir(); dir != "" {
			source = multiproc.Open(multiproc.Options{Path: dir, Logger: slog.Default()})
		}
		return expose.NewHandler(source, nil)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler().ServeHTTP(w, r) })
}

// process is a registry without a directory as a source.
type process struct{ r *client.Registry }

// index indexes the value files that the process would write.
func (p process) index() (*merge.Index, error) {
	index := merge.New()
	for base, image := range p.r.Images() {
		name, ok := mmapfile.ParseName(base)
		if !ok {
			return nil, fmt.Errorf("%q can't be the name of a value file", base)
		}
		if name.Type == mmapfile.Gauge {
			// Of a single process every mode is its value. As a sum it is served
			// without a pid, and a mostrecent gauge before it is set.
			name.Mode = mmapfile.Sum
		}
		part := index.Add(name)
		var walk mmapfile.Walker
		err := walk.Walk(image, func(e mmapfile.Entry) error {
			_, _, err := part.Add(e) // what no exposition can hold is left out
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", base, err)
		}
		part.Map(image, walk.Layout())
	}
	return index, nil
}

// Snapshot merges what the process has.
func (p process) Snapshot(context.Context) (*merge.Snapshot, error) {
	index, err := p.index()
	if err != nil {
		return nil, err
	}
	s, _ := index.Snapshot() // nothing is mapped that could fault
	return s, nil
}

// Select merges some families of it.
func (p process) Select(_ context.Context, choose merge.Choose) (*merge.Snapshot, error) {
	index, err := p.index()
	if err != nil {
		return nil, err
	}
	s, _ := index.Select(choose)
	return s, nil
}
