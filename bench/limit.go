package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// touch is the limit: no merge can do less than to load each value once. Where
// the values are is worked out before.
type touch struct {
	inProcess
	files   []touched
	workers int
	sums    []partial // one per worker
	group   sync.WaitGroup
}

type touched struct {
	file *mmapfile.File
	at   []uint32 // offsets of the values
}

// partial is what one worker read. It fills a cache line, so that workers don't
// wait for each other's.
type partial struct {
	sum  float64
	read int
	_    [48]byte
}

// startTouch is the limit of one core.
func startTouch(_ context.Context, b *bench) (scraper, error) { return openTouch(b, 1) }

// startTouchAll is the limit of all cores: each has a share of the files.
func startTouchAll(_ context.Context, b *bench) (scraper, error) {
	return openTouch(b, runtime.GOMAXPROCS(0))
}

func openTouch(b *bench, workers int) (scraper, error) {
	paths := b.dir.live()
	if len(paths) == 0 {
		var err error
		if paths, _, err = b.dir.files(); err != nil {
			return nil, err
		}
	}
	t := &touch{workers: workers, sums: make([]partial, workers)}
	for _, path := range paths {
		f, err := mmapfile.OpenFile(path)
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.files = append(t.files, touched{file: f})
		last := &t.files[len(t.files)-1]
		err = f.Walk(func(e mmapfile.Entry) error {
			last.at = append(last.at, e.Value)
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

func (t *touch) scrape() (answer, error) {
	begin := time.Now()
	for i := 1; i < t.workers; i++ {
		t.group.Go(func() { t.share(i) })
	}
	t.share(0)
	t.group.Wait()
	a := answer{}
	for _, s := range t.sums {
		a.sum += s.sum
		a.read += s.read
	}
	a.took = time.Since(begin)
	return a, nil
}

// share reads the files of one worker.
func (t *touch) share(worker int) {
	sum, read := 0.0, 0
	n := len(t.files)
	for _, f := range t.files[n*worker/t.workers : n*(worker+1)/t.workers] {
		bytes := f.file.Bytes()
		for _, at := range f.at {
			if v, ok := bytes.Float64(at); ok {
				sum += v
				read++
			}
		}
	}
	t.sums[worker] = partial{sum: sum, read: read}
}

func (t *touch) close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}
