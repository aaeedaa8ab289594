package main

import (
	"context"
	"errors"
	"time"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// library is promagg as a library, scrape after scrape on the same Dir.
type library struct {
	inProcess
	dir  *multiproc.Dir
	stop func() // ends what a daemon does of itself
	buf  []byte
}

func startLibrary(_ context.Context, b *bench) (scraper, error) {
	l := &library{dir: openDir(b.dir.path, b.dir.liveness())}
	l.stop = func() {}
	if b.dir.shape.live > 0 { // else it has nothing to do, and would be counted with the scrapes
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { l.dir.Run(ctx); close(ended) }()
		l.stop = func() { cancel(); <-ended }
	}
	// Steady state is when a scrape no longer lists the directory, and when all
	// that a daemon does of itself has been done.
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := l.scrape(); err != nil {
			return nil, errors.Join(err, l.close())
		}
		if s := l.dir.Stats(); s.Frozen == s.Dead && time.Since(begun) > time.Second {
			break
		}
		if time.Since(begun) > patience {
			return nil, errors.Join(errors.New("the dead writers' files do not freeze"), l.close())
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

// liveness is the probe to measure with, see shape.live.
func (d *directory) liveness() mmapfile.Probe {
	if d.shape.live > 0 {
		return mmapfile.ProbeAuto
	}
	return mmapfile.ProbeOff
}

func openDir(path string, liveness mmapfile.Probe) *multiproc.Dir {
	return multiproc.Open(multiproc.Options{Path: path, Liveness: liveness})
}

func snapshot(dir *multiproc.Dir) (*merge.Snapshot, error) {
	return dir.Snapshot(context.Background())
}

// countSeries makes a snapshot and counts its series and the text of their labels.
func countSeries(dir *multiproc.Dir) (series, labels int, err error) {
	s, err := snapshot(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range s.Families {
		series += len(f.Series)
		for _, one := range f.Series {
			labels += len(one.Labels)
		}
	}
	return series, labels, nil
}

func (l *library) scrape() (answer, error) {
	begin := time.Now()
	s, err := snapshot(l.dir)
	if err != nil {
		return answer{}, err
	}
	l.buf = expose.Append(l.buf[:0], expose.Text, s, nil)
	return answer{took: time.Since(begin), text: l.buf}, nil
}

func (l *library) close() error {
	l.stop()
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
	c.dir = openDir(c.b.dir.path, c.b.dir.liveness())
	s, err := snapshot(c.dir)
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
