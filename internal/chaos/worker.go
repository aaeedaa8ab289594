package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// workerEnv makes this program a worker: its settings.
const workerEnv = "PROMAGG_CHAOS_WORKER"

// workerSettings are what a worker is told at its start.
type workerSettings struct {
	dir      string
	progress string
	slot     int
	serial   int    // its number among all workers
	id       string // what it goes by, empty: its PID
	plain    bool   // open files as the Python client does, without a lock or a second look
	seed     uint64
	every    time.Duration // a pause between updates, on average
	burst    int           // most updates without a pause
	began    time.Time     // of the run
}

func (s workerSettings) String() string {
	return strings.Join([]string{s.dir, s.progress, strconv.Itoa(s.slot), strconv.Itoa(s.serial), s.id, strconv.FormatBool(s.plain),
		strconv.FormatUint(s.seed, 10), s.every.String(), strconv.Itoa(s.burst), strconv.FormatInt(s.began.UnixMicro(), 10)}, "|")
}

func parseWorkerSettings(text string) (s workerSettings, err error) {
	f := strings.Split(text, "|")
	if len(f) != 10 {
		return s, fmt.Errorf("%s: want 10 fields, got %d", workerEnv, len(f))
	}
	number := func(text string) int64 {
		n, numErr := strconv.ParseInt(text, 10, 64)
		if numErr != nil {
			err = numErr
		}
		return n
	}
	s = workerSettings{dir: f[0], progress: f[1], slot: int(number(f[2])), serial: int(number(f[3])), id: f[4], plain: f[5] == "true", burst: int(number(f[8])), began: time.UnixMicro(number(f[9]))}
	if s.id == "" {
		s.id = strconv.Itoa(os.Getpid())
	}
	if err == nil {
		s.seed, err = strconv.ParseUint(f[6], 10, 64)
	}
	if err == nil {
		s.every, err = time.ParseDuration(f[7])
	}
	return s, err
}

// work is the life of a worker: until it is killed, or the parent closes its input.
func work(settings string) error {
	s, err := parseWorkerSettings(settings)
	if err != nil {
		return err
	}
	p, err := openProgress(s.progress, s.slot)
	if err != nil {
		return err
	}
	m, err := openMetrics(s, p)
	if err != nil {
		return err
	}
	p.ready.Set(1)
	for g := range goroutines {
		go m.update(g, rand.New(rand.NewPCG(s.seed, uint64(g))))
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// metrics are the values of a worker.
type metrics struct {
	workerSettings
	*progress
	values   [len(entries)]*mmapfile.Value
	max      *mmapfile.Value
	latest   *mmapfile.Writer // where the gauge of mode mostrecent is
	latestAt uint32
}

// openMetrics opens the files of a worker, and notes what was in them.
func openMetrics(s workerSettings, p *progress) (*metrics, error) {
	m := &metrics{workerSettings: s, progress: p}
	for _, k := range kinds {
		w, at, err := s.open(k)
		if err != nil {
			return nil, err
		}
		value := func(key string) (off uint32) {
			off, there := at[key]
			if !there && err == nil {
				off, err = w.Append([]byte(key))
			}
			return off
		}
		switch k {
		case maxGauge:
			m.max = w.Value(value(maxKey))
		case latest:
			m.latest, m.latestAt = w, value(latestKey)
		case liveAll:
			w.Set(value(liveAllKey), float64(s.serial))
		case liveSum:
			w.Set(value(liveSumKey), 1)
		default:
			for i, e := range entries {
				if e.kind == k {
					m.values[i] = w.Value(value(e.key))
					p.base[i].Set(m.values[i].Load())
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// open opens a file, and tells where the values are that are there already.
func (s *workerSettings) open(k kind) (w *mmapfile.Writer, at map[string]uint32, err error) {
	open := mmapfile.Claim
	if s.plain {
		open = mmapfile.Continue
	}
	at = make(map[string]uint32)
	w, err = open(filepath.Join(s.dir, k.file(s.id)), mmapfile.ValueTimestamp, 0, func(key []byte, value uint32) { at[string(key)] = value })
	return w, at, err
}

// update makes updates until the process ends.
func (m *metrics) update(g int, rnd *rand.Rand) {
	for n := 0; ; {
		updates := 1
		if m.burst > 1 && rnd.IntN(8) == 0 {
			updates += rnd.IntN(m.burst)
		}
		for ; updates > 0; updates-- {
			m.turns[g].Add(1)
			for i, e := range entries {
				if by := e.after(g, n+1) - e.after(g, n); by != 0 {
					m.values[i].Add(by)
				}
			}
			m.turns[g].Add(1)
			n++
		}
		if g == 0 {
			now := float64(time.Now().UnixMicro() - m.began.UnixMicro())
			m.max.Set(now)
			m.latest.SetAt(m.latestAt, now, now)
			m.newest.Set(now)
		}
		time.Sleep(time.Duration(rnd.ExpFloat64() * float64(m.every)))
		for ; m.pause.Load() != 0; time.Sleep(time.Millisecond) {
			m.idle[g].Set(1)
		}
		m.idle[g].Set(0)
	}
}
