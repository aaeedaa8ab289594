// Command prefork is an HTTP server of several worker processes that accept on
// one socket, with metrics that are those of all of them.
//
//	mkdir -p /tmp/prefork
//	PROMETHEUS_MULTIPROC_DIR=/tmp/prefork go run ./examples/prefork
//	curl 127.0.0.1:8080/          # any worker answers
//	curl 127.0.0.1:8080/metrics   # for all of them; or let promagg serve it
//
// The parent binds the socket and starts this program again as workers, which
// inherit it. It replaces a worker that ends. SIGHUP replaces all workers, each
// once its successor accepts connections; SIGTERM and SIGINT stop everything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	// Only for the names of signals, which this repository keeps in one place. In
	// your own program write syscall.SIGTERM and so on.
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/web"
)

const (
	// workerEnv makes the program a worker.
	workerEnv = "PREFORK_WORKER"
	// What a worker inherits, beside stdin, which ends when its parent does.
	listenerFD, readyFD = 3, 4

	startIn = 10 * time.Second // a worker that takes longer has failed
	stopIn  = 10 * time.Second // one that takes longer is killed
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	workers := flag.Int("workers", 4, "number of worker processes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), mmapfile.StopSignals()...)
	defer stop()
	var err error
	if os.Getenv(workerEnv) != "" {
		err = work(ctx)
	} else {
		err = supervise(ctx, *address, *workers)
	}
	if err != nil {
		slog.Error("prefork ends", "pid", os.Getpid(), "err", err)
		os.Exit(1)
	}
}

// The worker.

// work serves until it is told to stop, or has lost its parent.
func work(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signal.Ignore(mmapfile.Hangup, os.Interrupt) // a terminal sends them to everyone; the parent decides
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	inherited := os.NewFile(listenerFD, "listener")
	l, err := net.FileListener(inherited)
	if err != nil {
		return err
	}
	inherited.Close()

	// From here on this is any program that links pkg/client.
	defer client.Close()
	visits := client.NewCounterVec(client.CounterOpts{Name: "prefork_visits_total", Help: "Visits by name."}, []string{"name"})
	started := client.NewGauge(client.GaugeOpts{Name: "prefork_worker_start_time_seconds", Help: "Start of each worker.", Mode: client.ModeLiveAll})
	client.MustRegister(visits, started)
	started.SetToCurrentTime()
	measured := web.NewMiddleware(web.MiddlewareOpts{Route: func(r *http.Request) string { return r.Pattern }})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		visits.WithLabelValues("home").Inc()
		fmt.Fprintf(w, "worker %d\n", os.Getpid())
	})
	mux.Handle("GET /metrics", web.Handler())

	server := &http.Server{Handler: measured(mux), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	if _, err := os.NewFile(readyFD, "ready").Write([]byte{1}); err != nil {
		return fmt.Errorf("tell the parent: %w", err)
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	finish, cancel := context.WithTimeout(context.Background(), stopIn/2)
	defer cancel()
	return server.Shutdown(finish) // what is being answered is answered
}

// The parent.

// worker is a worker process as its parent has it.
type worker struct {
	cmd  *exec.Cmd
	life io.Closer     // its stdin
	done chan struct{} // closed once it has ended
}

// supervise keeps n workers running until ctx ends.
func supervise(ctx context.Context, address string, n int) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	slog.Info("listening", "address", l.Addr().String(), "workers", n, "pid", os.Getpid())

	var slots sync.WaitGroup
	restarts := make([]chan struct{}, n)
	for i := range restarts {
		restarts[i] = make(chan struct{}, 1)
		slots.Go(func() { keep(ctx, socket, restarts[i]) })
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, mmapfile.Hangup)
	for {
		select {
		case <-hangup:
			for _, restart := range restarts {
				select {
				case restart <- struct{}{}:
				default: // it is about to be restarted
				}
			}
		case <-ctx.Done():
			slots.Wait()
			return nil
		}
	}
}

// keep keeps one worker running until ctx ends, another one after each restart.
func keep(ctx context.Context, socket *os.File, restart <-chan struct{}) {
	var current *worker
	for {
		next, err := start(ctx, socket)
		switch {
		case err == nil:
			if current != nil {
				current.stop()
			}
			current = next
		case ctx.Err() == nil:
			slog.Error("worker does not start", "err", err)
		}
		// Without a worker, try again in a second.
		var ended <-chan struct{}
		var again <-chan time.Time
		if current == nil {
			again = time.After(time.Second)
		} else {
			ended = current.done
		}
		select {
		case <-again:
		case <-restart:
		case <-ended:
			slog.Warn("worker ended", "worker", current.cmd.Process.Pid, "state", current.cmd.ProcessState.String())
			current.life.Close()
			current = nil
		case <-ctx.Done():
			if current != nil {
				current.stop()
			}
			return
		}
	}
}

// start returns a worker that accepts connections.
func start(ctx context.Context, socket *os.File) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{socket, tell} // become file descriptors 3 and 4
	life, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	tell.Close() // so that ready ends with the worker
	if err != nil {
		return nil, err
	}
	w := &worker{cmd, life, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(w.done)
	}()
	// Reading ends at the first byte, with the worker, after startIn, or with ctx.
	stopReading := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stopReading()
	if err := ready.SetReadDeadline(time.Now().Add(startIn)); err != nil {
		w.stop()
		return nil, err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		w.stop()
		if errors.Is(err, io.EOF) {
			err = errors.New(cmd.ProcessState.String())
		}
		return nil, err
	}
	slog.Info("worker started", "worker", cmd.Process.Pid)
	return w, nil
}

// stop returns when the worker has ended.
func (w *worker) stop() {
	defer w.life.Close()
	_ = w.cmd.Process.Signal(mmapfile.Terminate) // an error: it has ended
	select {
	case <-w.done:
		return
	case <-time.After(stopIn):
	}
	slog.Warn("worker hangs and is killed", "worker", w.cmd.Process.Pid)
	_ = w.cmd.Process.Kill()
	<-w.done
}
