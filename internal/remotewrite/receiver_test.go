package remotewrite

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"google.golang.org/protobuf/proto"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

const patience = 30 * time.Second

// receiver is the library's receiver over a store in memory, with faults before it.
type receiver struct {
	*httptest.Server
	// fault handles a request in place of the receiver, or has it handled by next and
	// changes the answer; nil for none. It is called for one request at a time.
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

	mu       sync.Mutex // protects all below
	series   map[string]map[int64]float64
	metadata map[string]string // by series of 2.0, by family of 1.0
	created  map[string]int64
	examples []string
	requests []remote.WriteMessageType
	retries  []string // Retry-Attempt of each request
	faults   []string // what no sender may do
	refuse   func(series string) bool
}

func newReceiver(t *testing.T, types ...remote.WriteMessageType) *receiver {
	if len(types) == 0 {
		types = []remote.WriteMessageType{remote.WriteV1MessageType, remote.WriteV2MessageType}
	}
	r := &receiver{series: map[string]map[int64]float64{}, metadata: map[string]string{}, created: map[string]int64{}}
	h := remote.NewWriteHandler(r, types)
	var one sync.Mutex
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		one.Lock()
		defer one.Unlock()
		r.mu.Lock()
		r.retries = append(r.retries, q.Header.Get("Retry-Attempt"))
		fault := r.fault
		r.mu.Unlock()
		if fault != nil {
			fault(w, q, h)
			return
		}
		h.ServeHTTP(w, q)
	}))
	t.Cleanup(func() {
		r.Close()
		for _, f := range r.faults {
			t.Error(f)
		}
	})
	return r
}

func (r *receiver) setFault(f func(http.ResponseWriter, *http.Request, http.Handler)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// text is a label set as promql has it, and complains of one that is not lawful.
func (r *receiver) text(pairs []string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "" || pairs[i+1] == "" || i > 0 && pairs[i-2] >= pairs[i] {
			r.faults = append(r.faults, fmt.Sprintf("labels %q are not sorted, or have nothing in them", pairs))
		}
		fmt.Fprintf(&b, "%s=%q,", pairs[i], pairs[i+1])
	}
	return b.String()
}

func (r *receiver) store(series string, at int64, v float64) bool {
	if r.refuse != nil && r.refuse(series) {
		return false
	}
	if r.series[series] == nil {
		r.series[series] = map[int64]float64{}
	}
	if was, ok := r.series[series][at]; ok && math.Float64bits(was) != math.Float64bits(v) {
		r.faults = append(r.faults, fmt.Sprintf("%s at %d is %v and %v", series, at, was, v))
	}
	r.series[series][at] = v
	return true
}

// Store implements the library's store.
func (r *receiver) Store(q *http.Request, typ remote.WriteMessageType) (*remote.WriteResponse, error) {
	answer := remote.NewWriteResponse()
	b, err := io.ReadAll(q.Body)
	if err != nil {
		return answer, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, typ)
	refused := 0
	count := func(ok bool) {
		if ok {
			answer.Samples++
		} else {
			refused++
		}
	}
	if typ == remote.WriteV1MessageType {
		var m prompb.WriteRequest
		if err := m.Unmarshal(b); err != nil {
			return answer, err
		}
		for _, ts := range m.Timeseries {
			var pairs []string
			for _, l := range ts.Labels {
				pairs = append(pairs, l.Name, l.Value)
			}
			for _, s := range ts.Samples {
				count(r.store(r.text(pairs), s.Timestamp, s.Value))
			}
		}
		for _, md := range m.Metadata {
			r.metadata[md.MetricFamilyName] = fmt.Sprintf("%s %q", md.Type, md.Help)
		}
	} else {
		var m writev2.Request
		if err := proto.Unmarshal(b, &m); err != nil {
			return answer, err
		}
		for _, ts := range m.Timeseries {
			labels := r.text(writev2.DesymbolizeLabels(ts.LabelsRefs, m.Symbols, nil))
			for _, s := range ts.Samples {
				count(r.store(labels, s.Timestamp, s.Value))
			}
			for _, x := range ts.Exemplars {
				r.examples = append(r.examples, fmt.Sprint(labels, writev2.DesymbolizeLabels(x.LabelsRefs, m.Symbols, nil), x.Value))
				answer.Exemplars++
			}
			r.metadata[labels] = fmt.Sprintf("%s %q", ts.Metadata.Type, m.Symbols[ts.Metadata.HelpRef])
			r.created[labels] = ts.CreatedTimestamp
		}
	}
	if refused > 0 {
		answer.SetStatusCode(http.StatusBadRequest)
		return answer, fmt.Errorf("%d samples refused", refused)
	}
	return answer, nil
}

// values are those of a series, by time, its stale markers as "stale".
func (r *receiver) values(series string) (values []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var times []int64
	for at := range r.series[series] {
		times = append(times, at)
	}
	slices.Sort(times)
	for _, at := range times {
		v := r.series[series][at]
		if value.IsStaleNaN(v) {
			values = append(values, "stale")
		} else {
			values = append(values, fmt.Sprint(v))
		}
	}
	return values
}

func (r *receiver) names() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.series {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

func (r *receiver) requestCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.retries)
}

// world is a directory with value files.
type world struct {
	t    *testing.T
	path string
	dir  *multiproc.Dir
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, path: t.TempDir()}
	w.dir = multiproc.Open(multiproc.Options{Path: w.path, Liveness: mmapfile.ProbeOff})
	t.Cleanup(w.dir.Close)
	return w
}

// write makes a value file anew with entries KEY, value.
func (w *world) write(file string, entries ...any) {
	w.t.Helper()
	w.remove(file)
	f, err := mmapfile.Create(filepath.Join(w.path, file), mmapfile.ValueTimestamp, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(entries); i += 2 {
		at, err := f.Append([]byte(entries[i].(string)))
		if err != nil {
			w.t.Fatal(err)
		}
		f.Set(at, entries[i+1].(float64))
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(file string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.path, file)); err != nil {
		w.t.Fatal(err)
	}
}

// counters writes n counters that have a value.
func (w *world) counters(n int, v float64) {
	var entries []any
	for i := range n {
		entries = append(entries, fmt.Sprintf(`["c", "c_total", {"i": "%d"}, "C."]`, i), v)
	}
	w.write("counter_1.db", entries...)
}
