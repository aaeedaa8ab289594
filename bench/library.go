package main

import (
	"context"
	"errors"
	"time"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// touch is the limit: no merge can do less than to load each value once. Where
// the values are is worked out before.
type touch struct {
	inProcess
	files []touched
}

type touched struct {
	file *mmapfile.File
	at   []uint32 // offsets of the values
}

func startTouch(_ context.Context, b *bench) (scraper, error) {
	paths, _, err := b.dir.files()
	if err != nil {
		return nil, err
	}
	t := &touch{}
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
	sum, read := 0.0, 0
	for i := range t.files {
		bytes := t.files[i].file.Bytes()
		for _, at := range t.files[i].at {
			if v, ok := bytes.Float64(at); ok {
				sum += v
				read++
			}
		}
	}
	return answer{took: time.Since(begin), sum: sum, read: read}, nil
}

func (t *touch) close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}

// library is promagg as a library, scrape after scrape on the same Dir.
type library struct {
	inProcess
	dir *multiproc.Dir
	buf []byte
}

func startLibrary(_ context.Context, b *bench) (scraper, error) {
	l := &library{dir: openDir(b)}
	// Steady state is when a scrape no longer lists the directory.
	for range 2 {
		if _, err := l.scrape(); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	scans := l.dir.Stats().Scans
	if _, err := l.scrape(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.dir.Stats().Scans != scans {
		return nil, errors.Join(errors.New("the directory changes while it is measured"), l.close())
	}
	return l, nil
}

// openDir takes a file that exists for live: no writer of a benchmark's
// directory lives, and the Python collector does not ask either.
func openDir(b *bench) *multiproc.Dir {
	return multiproc.Open(multiproc.Options{Path: b.dir.path, Liveness: mmapfile.ProbeOff})
}

func (l *library) scrape() (answer, error) {
	begin := time.Now()
	s, err := l.dir.Snapshot(context.Background())
	if err != nil {
		return answer{}, err
	}
	l.buf = expose.Append(l.buf[:0], expose.Text, s, nil)
	return answer{took: time.Since(begin), text: l.buf}, nil
}

func (l *library) close() error {
	l.dir.Close()
	return nil
}

// cold is the first scrape of a promagg that has just been started.
type cold struct {
	inProcess
	b   *bench
	dir *multiproc.Dir // of the last scrape; nil after rest
}

func startCold(_ context.Context, b *bench) (scraper, error) { return &cold{b: b}, nil }

func (c *cold) scrape() (answer, error) {
	c.rest()
	begin := time.Now()
	c.dir = openDir(c.b)
	s, err := c.dir.Snapshot(context.Background())
	if err != nil {
		return answer{}, err
	}
	text := expose.Append(nil, expose.Text, s, nil)
	return answer{took: time.Since(begin), text: text}, nil
}

// rest gives back what a process that ends need not.
func (c *cold) rest() {
	if c.dir != nil {
		c.dir.Close()
		c.dir = nil
	}
}

func (c *cold) close() error {
	c.rest()
	return nil
}
