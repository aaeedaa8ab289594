package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promagg/promagg/internal/mmapfile"
)

// URL looks at what an endpoint answers in the text format. Workers are known from
// promagg_worker_ metrics with a pid label, if there are any.
type URL struct {
	at     string
	shown  string // without a password
	client *http.Client
	now    func() time.Time
	last   map[series]*count
	turn   int
}

// series is one of a family.
type series struct {
	family FamilyID
	labels string
}

// count is what a series has counted.
type count struct {
	last, rise float64
	turn       int
}

// maxAnswer is how many bytes of an answer are taken.
const maxAnswer = 256 << 20

// NewURL returns a source for an endpoint, of which shown is what may be shown.
func NewURL(at, shown string) *URL {
	return &URL{at: at, shown: shown, client: &http.Client{Timeout: 30 * time.Second}, now: time.Now, last: make(map[series]*count)}
}

// Close implements [Source].
func (u *URL) Close() error {
	u.client.CloseIdleConnections()
	return nil
}

// Look implements [Source].
func (u *URL) Look(ctx context.Context) (*Look, error) {
	at := u.now()
	families, err := u.scrape(ctx)
	if err != nil {
		return nil, err
	}
	u.turn++
	look := &Look{At: at, Of: u.shown, Workers: make(map[string]*Worker), Families: make(map[FamilyID]*Family)}
	for name, f := range families {
		id := FamilyID{name, strings.ToLower(f.GetType().String())}
		fam := new(Family)
		for _, m := range f.GetMetric() {
			share, pid := u.share(id, m), ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "pid" {
					pid = l.GetValue()
				}
			}
			fam.Share = fam.plus(share)
			if pid == "" {
				continue
			}
			if fam.By == nil {
				fam.By = make(map[string]Share)
			}
			fam.By[pid] = fam.By[pid].plus(share)
			if what, ok := strings.CutPrefix(name, "promagg_worker_"); ok {
				look.tell(pid, what, share.Value)
			}
		}
		look.Families[id] = fam
	}
	for s, c := range u.last {
		if c.turn != u.turn {
			delete(u.last, s)
		}
	}
	return look, nil
}

func (s Share) plus(o Share) Share {
	return Share{s.Entries + o.Entries, s.Value + o.Value, s.Rise + o.Rise}
}

// share returns what one series has.
func (u *URL) share(id FamilyID, m *dto.Metric) Share {
	s := Share{Entries: 1}
	switch {
	case m.Counter != nil:
		s.Value = m.Counter.GetValue()
	case m.Gauge != nil:
		s.Value = m.Gauge.GetValue()
	case m.Untyped != nil:
		s.Value = m.Untyped.GetValue()
	case m.Histogram != nil:
		s.Value = float64(m.Histogram.GetSampleCount())
	case m.Summary != nil:
		s.Value = float64(m.Summary.GetSampleCount())
	}
	if !id.counts() {
		return s
	}
	var key strings.Builder
	for _, l := range m.GetLabel() {
		key.WriteString(l.GetName())
		key.WriteString(strconv.Quote(l.GetValue()))
	}
	at := series{id, key.String()}
	c := u.last[at]
	if c == nil {
		c = new(count)
		u.last[at] = c
		if u.turn == 1 {
			c.last = s.Value // else it began after the look before, at 0
		}
	}
	c.rise += rise(c.last, s.Value)
	c.last, c.turn = s.Value, u.turn
	s.Rise = c.rise
	return s
}

// tell takes in what a promagg_worker_ metric tells of a worker.
func (l *Look) tell(pid, what string, value float64) {
	w := l.Workers[pid]
	if w == nil {
		// promagg has seen its process, with a file that it may write.
		w = &Worker{ID: pid, State: mmapfile.Alive, Files: -1, Entries: -1, Process: noProcess()}
		l.Workers[pid] = w
	}
	if math.IsNaN(value) || math.Abs(value) > 1<<53 {
		return
	}
	switch what {
	case "cpu_seconds_total":
		w.Process.CPU = value
	case "resident_memory_bytes":
		w.Process.Resident = int64(value)
	case "start_time_seconds":
		w.Process.Start = time.UnixMilli(int64(value * 1000))
	case "threads":
		w.Process.Threads = int(value)
	}
}

// scrape gets the families.
func (u *URL) scrape(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	resp, err := u.client.Do(req)
	if err != nil {
		if failed := new(url.Error); errors.As(err, &failed) {
			err = failed.Err // without the URL, which may have a password
		}
		return nil, fmt.Errorf("get %s: %w", u.shown, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: give with --url where the metrics are, /metrics included", u.shown, resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxAnswer}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if body.N == 0 {
		err = fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	if err == nil && len(families) == 0 {
		err = errors.New("its answer has no metrics")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: give with --url where the metrics are", u.shown, err)
	}
	return families, nil
}
