package expose

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/testpeer"
)

// timed is a response that notes by when it is to be written, and what is.
type timed struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
	pieces    []int
	err       error // of the last write but one
}

func (w *timed) SetWriteDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

func (w *timed) Write(b []byte) (int, error) {
	w.pieces = append(w.pieces, len(b))
	if len(w.pieces) == 2 && w.err != nil {
		return 0, w.err
	}
	return w.ResponseRecorder.Write(b)
}

// large is a snapshot of one counter with much in its label, 300 KB.
func large(t testing.TB) *merge.Snapshot {
	t.Helper()
	f := valueFile{name: "counter_1.db"}
	for i := range 10 {
		f.entries = append(f.entries, entry{key: fmt.Sprintf(`["large", "large_total", {"v": "%s%d"}, ""]`, strings.Repeat("x", 30_000), i)})
	}
	return merged(t, f)
}

// TestAnswerTime: each piece of an answer has its own time, within the time for
// the whole.
func TestAnswerTime(t *testing.T) {
	h := func(stall, whole time.Duration) http.Handler {
		return NewLimitedHandler(source{s: large(t)}, nil, Limits{Stall: stall, Whole: whole})
	}
	t.Run("in time", func(t *testing.T) {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		before := time.Now()
		h(time.Hour, 10*time.Hour).ServeHTTP(w, request(""))
		after := time.Now()
		if len(w.pieces) != (w.Body.Len()+piece-1)/piece || len(w.pieces) < 5 || slices.Max(w.pieces) > piece {
			t.Errorf("%d bytes in pieces of %v", w.Body.Len(), w.pieces)
		}
		if len(w.deadlines) != len(w.pieces)+1 {
			t.Fatalf("%d deadlines for %d pieces", len(w.deadlines), len(w.pieces))
		}
		// The first is for the time in which there is nothing to write.
		for i, d := range w.deadlines {
			allowed := time.Hour
			if i == 0 {
				allowed *= 10
			}
			if d.Before(before.Add(allowed)) || d.After(after.Add(allowed)) {
				t.Errorf("deadline %d is %s from now", i, time.Until(d))
			}
		}
	})
	t.Run("whole", func(t *testing.T) {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		h(time.Hour, time.Minute).ServeHTTP(w, request(""))
		for _, d := range w.deadlines {
			if d != w.deadlines[0] {
				t.Errorf("deadline %s from now, want all at the end of the time for the whole", time.Until(d))
			}
		}
	})
	t.Run("error", func(t *testing.T) {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		h(time.Minute, time.Hour).ServeHTTP(w, request("name[]=%"))
		if last := w.deadlines[len(w.deadlines)-1]; w.Code != http.StatusBadRequest || time.Until(last) > time.Minute {
			t.Errorf("status %d, deadline %s from now", w.Code, time.Until(last))
		}
	})
	t.Run("none", func(t *testing.T) {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		h(0, 0).ServeHTTP(w, request(""))
		if len(w.deadlines) != 0 || len(w.pieces) != 1 {
			t.Errorf("%d deadlines, %d pieces", len(w.deadlines), len(w.pieces))
		}
	})
}

// TestAnswerCutOff: what is not taken in time ends there and is counted; another
// failure is not.
func TestAnswerCutOff(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{&net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}, 1},
		{errors.New("connection reset by peer"), 0},
	} {
		refused := map[Refusal]int{}
		h := NewLimitedHandler(source{s: large(t)}, nil, Limits{Stall: time.Hour, Whole: time.Hour, Refused: func(why Refusal) { refused[why]++ }}).(*handler)
		w := &timed{ResponseRecorder: httptest.NewRecorder(), err: c.err}
		h.ServeHTTP(w, request(""))
		if len(w.pieces) != 2 || refused[TooSlow] != c.want {
			t.Errorf("%v: %d writes, counted %v, want %d", c.err, len(w.pieces), refused, c.want)
		}
		if len(h.shared.used) != 0 {
			t.Errorf("%v: the body stays in use", c.err)
		}
	}
}

// fresh is a source that has a new snapshot for each scrape, as one has whose
// scrapes don't meet.
type fresh struct{ s *merge.Snapshot }

func (s fresh) Snapshot(context.Context) (*merge.Snapshot, error) {
	c := *s.s
	return &c, nil
}

func (s fresh) Select(ctx context.Context, _ merge.Choose) (*merge.Snapshot, error) {
	return s.Snapshot(ctx)
}

// TestHeldAnswers: those who don't take their answers hold so much memory and no
// more. A further scrape is refused, until one of them has gone.
func TestHeldAnswers(t *testing.T) {
	var refused atomic.Int64
	h := NewLimitedHandler(fresh{large(t)}, nil, Limits{Refused: func(why Refusal) {
		if why != NoMemory {
			t.Errorf("refused for %s", why)
		}
		refused.Add(1)
	}}).(*handler)
	h.shared.max = 1_000_000 // three of them
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Hold") == "" {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(held{w, r.Context()}, r)
	}))
	t.Cleanup(server.Close) // not before the context of the test is at its end
	size := func() (n int) {
		h.shared.mu.Lock()
		defer h.shared.mu.Unlock()
		for _, b := range h.shared.used {
			n += b.size
		}
		return n
	}
	get := func(ctx context.Context, query string) *http.Request {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "identity")
		return r
	}
	hold := func(query string) (let func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r := get(ctx, query)
		r.Header.Set("Hold", "yes")
		before := size()
		go func() {
			if r, err := http.DefaultClient.Do(r); err == nil {
				r.Body.Close()
			}
		}()
		testpeer.WaitFor(t, "the answer to be held", 30*time.Second, func() error {
			if n := size(); n < before+300_000 {
				return fmt.Errorf("%d bytes are held", n)
			}
			return nil
		})
		return cancel
	}
	scrape := func() (int, http.Header, string) {
		r, err := http.DefaultClient.Do(get(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode, r.Header, body(t, r)
	}
	var let []func()
	for i := 0; size() < h.shared.max; i++ {
		if i > 3 {
			t.Fatalf("%d bytes are held by %d", size(), i)
		}
		let = append(let, hold([]string{"", "?name[]=large"}[i%2]))
	}
	for range 3 {
		status, header, text := scrape()
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(text, "answers wait for scrapers") || strings.Count(text, "\n") != 1 {
			t.Errorf("status %d, header %v, %q", status, header, text)
		}
	}
	if n := refused.Load(); n != 3 {
		t.Errorf("%d refusals were counted", n)
	}
	let[0]()
	testpeer.WaitFor(t, "a scrape to be answered", 30*time.Second, func() error {
		if status, _, text := scrape(); status != http.StatusOK || len(text) < 300_000 {
			return fmt.Errorf("status %d, %d bytes", status, len(text))
		}
		return nil
	})
	for _, let := range let {
		let()
	}
}

// held is a response that nobody takes before its request has gone.
type held struct {
	http.ResponseWriter
	gone context.Context
}

func (h held) Write([]byte) (int, error) {
	<-h.gone.Done()
	return 0, h.gone.Err()
}

// TestCompressedIsAllThatIsHeld: who takes a compressed answer does not hold what
// it was compressed from.
func TestCompressedIsAllThatIsHeld(t *testing.T) {
	h := NewHandler(source{s: large(t)}, nil).(*handler)
	w := httptest.NewRecorder()
	r := request("")
	r.Header.Set("Accept-Encoding", "gzip")
	sizes := make(chan int, 1)
	h.ServeHTTP(sized{w, h, sizes}, r)
	if n := <-sizes; n < w.Body.Len() || n > 100_000 {
		t.Errorf("%d bytes are held for %d compressed ones", n, w.Body.Len())
	}
}

// sized is a response that looks at the sizes of bodies while it is written.
type sized struct {
	*httptest.ResponseRecorder
	h     *handler
	sizes chan int
}

func (s sized) Write(b []byte) (int, error) {
	s.h.shared.mu.Lock()
	s.sizes <- s.h.shared.used[0].size
	s.h.shared.mu.Unlock()
	return s.ResponseRecorder.Write(b)
}

// TestTurns: no more scrapes encode at a time than there are cores, and a
// selection does not even begin; one that is given up meanwhile ends.
func TestTurns(t *testing.T) {
	own := &slowGatherer{until: make(chan struct{})}
	h := NewHandler(fresh{merged(t, golden()...)}, own).(*handler)
	const asked = 20
	ended := make(chan *http.Response, asked)
	for i := range asked {
		target := []string{"/metrics", "/metrics?name[]=busy"}[i%2]
		go func() { ended <- serve(t, h, http.MethodGet, target) }()
	}
	testpeer.WaitFor(t, "all cores to be busy", 30*time.Second, func() error {
		if n := int(own.calls.Load()); n != cap(h.turns) {
			return fmt.Errorf("%d scrapes encode on %d cores", n, cap(h.turns))
		}
		return nil
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request("name[]=busy").WithContext(gone))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("given up: status %d", w.Code)
	}
	if n := int(own.calls.Load()); n != cap(h.turns) {
		t.Errorf("%d scrapes encode on %d cores", n, cap(h.turns))
	}
	close(own.until)
	for range asked {
		if r := <-ended; r.StatusCode != http.StatusOK {
			t.Errorf("status %d", r.StatusCode)
		}
	}
	if len(h.turns) != 0 || len(h.shared.used) != 0 {
		t.Errorf("%d turns and %d bodies are left in use", len(h.turns), len(h.shared.used))
	}
}
