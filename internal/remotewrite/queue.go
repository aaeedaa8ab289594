package remotewrite

import "sync"

// batch is what one request sends.
type batch struct {
	at     int64 // Unix milliseconds
	points []point
}

// queue holds the batches that are not confirmed, oldest first. It is safe for
// concurrent use by one that puts in and one that takes out.
type queue struct {
	max  int
	wake chan struct{} // has a token when something was put in, or no more comes

	mu      sync.Mutex // protects all below
	batches []*batch
	points  int
	taken   bool // the first one is being sent
	closed  bool
}

func newQueue(most int) *queue { return &queue{max: most, wake: make(chan struct{}, 1)} }

// push puts a batch in and returns how many points had to go for it: the oldest,
// since newer values of a counter tell what the older ones did. What is being sent
// stays.
func (q *queue) push(b *batch) (dropped int) {
	q.mu.Lock()
	from := 0
	if q.taken {
		from = 1
	}
	to := from
	for to < len(q.batches) && q.points-dropped+len(b.points) > q.max {
		dropped += len(q.batches[to].points)
		to++
	}
	if to > from {
		q.batches = append(q.batches[:from], q.batches[to:]...)
		clear(q.batches[len(q.batches) : len(q.batches)+to-from])
	}
	q.batches = append(q.batches, b)
	q.points += len(b.points) - dropped
	q.mu.Unlock()
	q.signal()
	return dropped
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for a batch and returns it; it stays in the queue until done. It
// returns nil when there is none and none will come, or give is up.
func (q *queue) take(give <-chan struct{}) *batch {
	for {
		q.mu.Lock()
		if len(q.batches) > 0 {
			q.taken = true
			b := q.batches[0]
			q.mu.Unlock()
			return b
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		select {
		case <-q.wake:
		case <-give:
			return nil
		}
	}
}

// done takes the batch out that take has returned.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.points -= len(q.batches[0].points)
	q.batches[0] = nil
	q.batches = q.batches[1:]
	q.taken = false
}

// close says that no more comes.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// clear empties the queue and returns how many points it had.
func (q *queue) clear() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped, q.points, q.batches, q.taken = q.points, 0, nil, false
	return dropped
}

// len returns how many points there are, those that are being sent included.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.points
}
