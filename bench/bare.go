package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/promagg/promagg/internal/expose"
)

// bareDaemon is what any server in Go costs: a process that serves the bytes that
// promagg would, which it was given, and does nothing else.
func bareDaemon(ctx context.Context, b *bench, only string) (*daemon, error) {
	text, err := b.exposition(ctx, only)
	if err != nil {
		return nil, err
	}
	h, err := startHelper(ctx, order{Serve: text})
	if err != nil {
		return nil, err
	}
	line, err := h.out.ReadString('\n')
	url := strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(url, "http://") {
		return nil, errors.Join(fmt.Errorf("the bare server: want its address, got %q", line), h.stop())
	}
	return &daemon{process: process{cmd: h.cmd}, url: url, bare: h}, nil
}

// exposition is what promagg serves, without its own metrics.
func (b *bench) exposition(ctx context.Context, only string) ([]byte, error) {
	d := openDir(b.dir.path, b.dir.liveness())
	defer d.Close()
	s, err := d.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var filter expose.Filter
	if only != "" {
		filter = expose.Filter{only}
	}
	return expose.Append(nil, expose.Text, s, filter), nil
}

// serveBytes serves text to whoever asks for anything, tells its address, and ends
// when stdin does.
func serveBytes(text []byte, stdin io.Reader, stdout io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	length := strconv.Itoa(len(text))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", expose.Text.ContentType())
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(text) // an error is the client's, who has gone
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	if _, err := fmt.Fprintf(stdout, "http://%s/metrics\n", l.Addr()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	err = errors.Join(err, server.Close())
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
