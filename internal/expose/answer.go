package expose

import (
	"net/http"
	"time"
)

// Limits are what a scraper may take beside the bounds that always hold. The
// zero value leaves time to the server, and tells nobody.
type Limits struct {
	// Stall is how long a scraper may take for the next 64 KiB of an answer; its
	// connection is closed then. 0 leaves the server's WriteTimeout as it is.
	Stall time.Duration
	// Whole is how long a scrape may take in all, where Stall is set.
	Whole time.Duration
	// Refused is called for each request that is refused or cut off.
	Refused func(Refusal)
}

// Refusal is why a request was refused or cut off.
type Refusal string

// The reasons for a refusal.
const (
	BadQuery Refusal = "query"  // it can't be read, or has too much of name[]
	NoMemory Refusal = "memory" // others are slow to take too large answers
	TooSlow  Refusal = "slow"   // so was this one
)

func (l Limits) refused(why Refusal) {
	if l.Refused != nil {
		l.Refused(why)
	}
}

// answer is a response with its time limits. The server's own WriteTimeout is for
// a whole response: too long for one that nobody reads, too short for one that a
// thin line takes.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController // nil for no limits
	stall   time.Duration
	end     time.Time // of the time for all of it
}

// piece is what has to be taken in the time for one.
const piece = 64 << 10

func (l Limits) answer(w http.ResponseWriter) *answer {
	a := &answer{ResponseWriter: w}
	if l.Stall > 0 {
		a.control, a.stall, a.end = http.NewResponseController(w), l.Stall, time.Now().Add(l.Whole)
		a.deadline(a.end) // there is nothing to take yet
	}
	return a
}

// deadline sets by when what is written must have been taken. It can't be set
// where there is no connection, as in a test; there is nobody to wait for then.
func (a *answer) deadline(at time.Time) {
	if a.control == nil {
		return
	}
	if at.After(a.end) {
		at = a.end
	}
	_ = a.control.SetWriteDeadline(at)
}

// fail answers with an error.
func (a *answer) fail(why string, status int) {
	a.deadline(time.Now().Add(a.stall))
	http.Error(a, why, status)
}

// send writes a body, for each piece of which there is its own time.
func (a *answer) send(body []byte) error {
	for len(body) > 0 {
		next := body
		if a.control != nil {
			next = body[:min(len(body), piece)]
			a.deadline(time.Now().Add(a.stall))
		}
		if _, err := a.Write(next); err != nil {
			return err
		}
		body = body[len(next):]
	}
	return nil
}
