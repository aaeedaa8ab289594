package limit

import (
	"fmt"
	"math"
	"net/http"
	"time"
)

// Why a request is refused, as the functions are told that count this.
const (
	Busy = "busy" // as many are being answered as may be
	URL  = "url"  // it is too long
	Body = "body" // there is one
)

// AtOnce has next answer at most max requests at the same time; 0 is no limit.
// One more is answered at once, with 503, Retry-After and why.
func AtOnce(max uint, next http.Handler, why string, refused func(reason string)) http.Handler {
	if max == 0 {
		return next
	}
	slots := make(chan struct{}, min(max, math.MaxInt32)) // takes no memory
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
		default:
			refused(Busy)
			w.Header().Set("Retry-After", retryAfter)
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		defer func() { <-slots }()
		next.ServeHTTP(w, r)
	})
}

// retryAfter is in seconds. Most scrapes take less.
const retryAfter = "1"

// MaxURL is the most bytes that the URL of a request may have.
const MaxURL = 8 << 10

// bodyTime is how long the body of a request that is refused is read, so that
// its client gets to read the answer.
const bodyTime = time.Second

// Small refuses URLs of more than MaxURL bytes, with 414, and bodies: no page has
// a use for one. GET and HEAD with a body are answered with 413, other methods as
// without one.
func Small(next http.Handler, refused func(reason string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// Without this header, the body would be read before the answer is written.
			w.Header().Set("Connection", "close")
			// There is nothing to be bounded where there is no connection, as in a test.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		switch {
		case len(r.RequestURI) > MaxURL:
			refused(URL)
			http.Error(w, fmt.Sprintf("the URL has %d bytes: use at most %d", len(r.RequestURI), MaxURL), http.StatusRequestURITooLong)
		case r.ContentLength != 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			refused(Body)
			http.Error(w, "the request has a body: send none", http.StatusRequestEntityTooLarge)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
