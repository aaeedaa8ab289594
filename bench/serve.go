package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// serve is a promagg process and one client that scrapes it over one
// connection, as a Prometheus server does. It serves its own metrics too, as it
// does by default.
type serve struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	client http.Client
	url    string
	body   bytes.Buffer
}

// patience is how long a program may take to start or to stop.
const patience = 30 * time.Second

func startServe(ctx context.Context, b *bench) (scraper, error) {
	program := filepath.Join(b.work, "promagg")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", program, "github.com/promagg/promagg/cmd/promagg")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Makefile builds it
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build promagg: %w: %s", err, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &serve{cancel: cancel, client: http.Client{Timeout: patience}}
	s.cmd = exec.CommandContext(ctx, program, "serve", "--dir", b.dir.path, "--liveness", "off", "--web.listen-address", "127.0.0.1:0")
	log := &serveLog{address: make(chan string, 1)}
	s.cmd.Stderr = log
	s.cmd.WaitDelay = patience
	if err := s.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	select {
	case address := <-log.address:
		s.url = "http://" + address + "/metrics"
		return s, nil
	case <-ctx.Done():
	case <-time.After(patience):
	}
	err := fmt.Errorf("promagg serve does not say where it listens: %s", log.String())
	cancel()
	_ = s.cmd.Wait() // we have just killed it
	return nil, err
}

func (s *serve) scrape() (answer, error) {
	begin := time.Now()
	req, err := http.NewRequest(http.MethodGet, s.url, nil)
	if err != nil {
		return answer{}, err
	}
	// Asking by hand keeps the client from asking for gzip.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	s.body.Reset()
	_, err = io.Copy(&s.body, resp.Body)
	took := time.Since(begin)
	if err != nil {
		return answer{}, err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" {
		return answer{}, fmt.Errorf("GET %s: want 200 without encoding, got %s %q", s.url, resp.Status, resp.Header.Get("Content-Encoding"))
	}
	return answer{took: took, text: s.body.Bytes(), own: "promagg_"}, nil
}

func (s *serve) rest() {}

func (s *serve) cpu() (time.Duration, error) { return cpuTime(strconv.Itoa(s.cmd.Process.Pid)) }

func (s *serve) close() error {
	s.client.CloseIdleConnections()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.cancel()
	}
	defer s.cancel()
	timer := time.AfterFunc(patience, s.cancel)
	defer timer.Stop()
	return s.cmd.Wait()
}

// serveLog is what promagg logs; it says there where it listens.
type serveLog struct {
	mu      sync.Mutex // protects text
	text    bytes.Buffer
	address chan string
}

var listening = regexp.MustCompile(`msg=listening address=(\S+)`)

func (l *serveLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if m := listening.FindSubmatch(b); m != nil {
		select {
		case l.address <- string(m[1]):
		default:
		}
	}
	return len(b), nil
}

func (l *serveLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
