package expose

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/promagg/promagg/internal/merge"
)

// shared hands out bodies: the same one to all who want the same snapshot in the
// same form at the same time. So scrapes that come together cost one encoding and
// the memory of one. It is safe for concurrent use.
type shared struct {
	max int // the most bytes of bodies in use with which there may be one more

	mu     sync.Mutex // protects all below and the counts and sizes of bodies
	used   []*rendered
	idle   []*rendered // whose buffers wait for the next scrape
	plains [][]byte    // buffers for what is compressed, that wait likewise
}

// renderKey is what a body is of. Selections differ by their snapshot, which is
// nobody else's.
type renderKey struct {
	snapshot *merge.Snapshot
	format   Format
	zip, all bool
}

// rendered is an exposition. It may be read by who has taken and rendered it.
type rendered struct {
	renderKey
	users  int
	size   int // of its buffers, once it is rendered
	once   *sync.Once
	plain  []byte
	zipped zipped
	err    error
}

const (
	// maxIdle is the most bytes that the buffers of a body may have to be kept for
	// the next scrape.
	maxIdle = 32 << 20
	// maxIdleBodies is for the scrapers that there usually are.
	maxIdleBodies = 4
)

// maxHeld bounds what scrapers hold that are slow to take it: the bodies of
// different snapshots. It is as much as two scrapes of a million series that are
// not compressed. There may be more by one body for each core, because a new one
// is not weighed before it is rendered.
const maxHeld = 256 << 20

// errHeld is returned when there would be too many bodies in use.
var errHeld = fmt.Errorf("%d MiB of answers wait for scrapers that are slow to read them: try again later", maxHeld>>20)

// errRender is what all users of a body get whose rendering did not end.
var errRender = errors.New("the rendering did not end")

// take returns the body of a key, made where nobody uses it yet. If those in use
// are too large for that, it returns errHeld.
func (s *shared) take(k renderKey) (*rendered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := 0
	for _, b := range s.used {
		if b.renderKey == k {
			b.users++
			return b, nil
		}
		held += b.size
	}
	if held >= s.max {
		return nil, errHeld
	}
	b := new(rendered)
	if n := len(s.idle); n > 0 {
		b, s.idle = s.idle[n-1], s.idle[:n-1]
	}
	b.renderKey, b.users, b.size, b.once, b.err = k, 1, 0, new(sync.Once), nil
	s.used = append(s.used, b)
	return b, nil
}

// weigh notes how much memory a body takes that is rendered.
func (s *shared) weigh(b *rendered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.size = cap(b.plain) + b.zipped.Cap()
}

// takePlain returns an empty buffer for what is to be compressed. It is not part
// of the body, which may be in use for long.
func (s *shared) takePlain() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.plains)
	if n == 0 {
		return nil
	}
	plain := s.plains[n-1]
	s.plains = s.plains[:n-1]
	return plain[:0]
}

// keepPlain takes such a buffer back.
func (s *shared) keepPlain(plain []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.plains) < maxIdleBodies && cap(plain) <= maxIdle {
		s.plains = append(s.plains, plain)
	}
}

// render has the first user fill the body, for which the others wait.
func (b *rendered) render(fill func() error) {
	b.once.Do(func() {
		b.err = errRender // should it panic
		b.err = fill()
	})
}

// release gives a body back.
func (s *shared) release(b *rendered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.users--; b.users > 0 {
		return
	}
	for i, used := range s.used {
		if used == b {
			last := len(s.used) - 1
			s.used[i], s.used[last] = s.used[last], nil
			s.used = s.used[:last]
			break
		}
	}
	b.snapshot = nil
	if len(s.idle) < maxIdleBodies && cap(b.plain)+b.zipped.Cap() <= maxIdle {
		s.idle = append(s.idle, b)
	}
}

// zipped is a compressor with the buffer it fills.
type zipped struct {
	bytes.Buffer
	w *gzip.Writer
}

// compress fills the buffer with the compressed form of plain.
func (z *zipped) compress(plain []byte) {
	if z.w == nil {
		z.w = newGzip()
	}
	z.Reset()
	z.w.Reset(&z.Buffer)
	// Neither can fail: a bytes.Buffer takes everything.
	_, _ = z.w.Write(plain)
	_ = z.w.Close()
}

// newGzip returns a compressor of the least level. With this text, higher ones
// take up to three times as long and save next to nothing (BenchmarkGzip50k).
func newGzip() *gzip.Writer {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic("expose: bug: " + err.Error()) // only for a level that there is not
	}
	return w
}
