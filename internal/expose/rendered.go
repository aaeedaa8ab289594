package expose

import (
	"bytes"
	"errors"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/promagg/promagg/internal/merge"
)

// shared hands out bodies: the same one to all who want the same snapshot in the
// same form at the same time. So scrapes that come together cost one encoding and
// the memory of one. It is safe for concurrent use.
type shared struct {
	mu   sync.Mutex // protects all below and the counts of bodies
	used []*rendered
	idle []*rendered // whose buffers wait for the next scrape
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

// errRender is what all users of a body get whose rendering did not end.
var errRender = errors.New("the rendering did not end")

// take returns the body of a key, made where nobody uses it yet.
func (s *shared) take(k renderKey) *rendered {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.used {
		if b.renderKey == k {
			b.users++
			return b
		}
	}
	b := new(rendered)
	if n := len(s.idle); n > 0 {
		b, s.idle = s.idle[n-1], s.idle[:n-1]
	}
	b.renderKey, b.users, b.once, b.err = k, 1, new(sync.Once), nil
	s.used = append(s.used, b)
	return b
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
