package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

// scraper asks promaggs for their metrics.
type scraper struct{ client http.Client }

func newScraper() *scraper {
	return &scraper{http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableCompression: true, MaxIdleConns: 8, IdleConnTimeout: time.Second}}}
}

// fetch returns the body of an answer. An answer that is refused, or cut short, is an
// error.
func (s *scraper) fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", statusError{resp.StatusCode, strings.TrimSpace(string(body))}
	}
	return string(body), nil
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.code, e.text) }

// refusal says in a few words why a scrape was not answered.
func refusal(err error) string {
	var status statusError
	switch {
	case errors.As(err, &status):
		return status.Error()
	case mmapfile.Refused(err):
		return "nobody listens"
	case os.IsTimeout(err):
		return "no answer in time"
	}
	return "cut off"
}

// parse reads an exposition into values by what stands before them in a line.
func parse(body string) (map[string]float64, error) {
	values := make(map[string]float64, strings.Count(body, "\n"))
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("line %q", line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if _, twice := values[line[:i]]; twice {
			return nil, fmt.Errorf("twice there: %s", line[:i])
		}
		values[line[:i]] = v
	}
	return values, nil
}
