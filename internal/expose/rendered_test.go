package expose

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// slowGatherer does not answer before enough have asked for the page that it is
// part of.
type slowGatherer struct {
	calls atomic.Int64
	until chan struct{}
}

func (g *slowGatherer) Gather() ([]*dto.MetricFamily, error) {
	g.calls.Add(1)
	<-g.until
	return nil, nil
}

var _ prometheus.Gatherer = (*slowGatherer)(nil)

// TestSharedRendering: scrapes of one snapshot in one form are encoded once, and
// nothing of them stays in use.
func TestSharedRendering(t *testing.T) {
	own := &slowGatherer{until: make(chan struct{})}
	h := NewHandler(source{s: merged(t, golden()...)}, own).(*handler)
	const each = 20
	forms := []string{"identity", "gzip"}
	var asking sync.WaitGroup
	bodies := make([][]string, len(forms))
	for i, form := range forms {
		bodies[i] = make([]string, each)
		for j := range each {
			asking.Go(func() {
				bodies[i][j] = body(t, serve(t, h, http.MethodGet, "/metrics", "Accept-Encoding", form))
			})
		}
	}
	// All have taken a body once its users are as many as they.
	for all := false; !all; {
		h.shared.mu.Lock()
		users := 0
		for _, b := range h.shared.used {
			users += b.users
		}
		all = users == each*len(forms)
		h.shared.mu.Unlock()
	}
	close(own.until)
	asking.Wait()
	if n := own.calls.Load(); n != int64(len(forms)) {
		t.Errorf("encoded %d times, want once for each form", n)
	}
	for i := range forms {
		for j := range each {
			if bodies[i][j] == "" || bodies[i][j] != bodies[i][0] {
				t.Fatalf("%s: answers %d and 0 differ, or are empty", forms[i], j)
			}
		}
	}
	if len(h.shared.used) != 0 || len(h.shared.idle) == 0 {
		t.Errorf("%d bodies in use, %d idle", len(h.shared.used), len(h.shared.idle))
	}
}

// panics gathers nothing but a panic, once enough wait for it.
type panics struct{ slowGatherer }

func (g *panics) Gather() ([]*dto.MetricFamily, error) {
	<-g.until
	panic("a bug")
}

// TestRenderingPanics: whoever waits for a rendering that panics gets an error, not
// what the buffer held before.
func TestRenderingPanics(t *testing.T) {
	own := &panics{slowGatherer{until: make(chan struct{})}}
	h := NewHandler(source{s: merged(t, golden()...)}, nil).(*handler)
	body(t, serve(t, h, http.MethodGet, "/metrics")) // fills the buffer
	h.own.g = own
	var asking sync.WaitGroup
	var panicked, answered atomic.Int64
	for range 3 {
		asking.Go(func() {
			defer func() {
				if recover() != nil {
					panicked.Add(1)
				}
			}()
			if r := serve(t, h, http.MethodGet, "/metrics"); r.StatusCode != http.StatusInternalServerError {
				t.Errorf("status %d", r.StatusCode)
			}
			answered.Add(1)
		})
	}
	for users := 0; users < 3; {
		h.shared.mu.Lock()
		users = 0
		for _, b := range h.shared.used {
			users += b.users
		}
		h.shared.mu.Unlock()
	}
	close(own.until)
	asking.Wait()
	if panicked.Load() != 1 || answered.Load() != 2 {
		t.Errorf("%d panicked, %d were answered", panicked.Load(), answered.Load())
	}
	if len(h.shared.used) != 0 {
		t.Errorf("%d bodies stay in use", len(h.shared.used))
	}
}
