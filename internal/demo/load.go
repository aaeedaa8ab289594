package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// load sends requests to the application.
type load struct {
	url    string
	client *http.Client

	answered, failed atomic.Int64
}

func newLoad(url string) *load {
	return &load{url: url, client: &http.Client{
		Timeout: 3 * time.Second,
		// A connection per request: which worker gets it is up to the kernel. No
		// proxy that the environment may name.
		Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// run sends requests one after the other, about so many per second, until ctx
// ends.
func (l *load) run(ctx context.Context, perSecond float64) {
	for {
		// Exponential pauses, as of many clients that know nothing of each other.
		pause := time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		method, path := "GET", "/"
		switch n := rand.IntN(20); {
		case n < 8:
			path = fmt.Sprintf("/items/%d", rand.IntN(110))
		case n < 11:
			method, path = "POST", "/orders"
		case n < 14:
			path = "/slow"
		case n < 15:
			path = "/broken"
		}
		// It does not end with the load, so that each request is known to be
		// answered or not.
		if err := l.send(context.WithoutCancel(ctx), method, path); err == nil {
			l.answered.Add(1)
		} else {
			l.failed.Add(1) // it was at a worker that got killed
		}
	}
}

// send sends a request and reads the whole answer.
func (l *load) send(ctx context.Context, method, path string) error {
	req, err := http.NewRequestWithContext(ctx, method, l.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
