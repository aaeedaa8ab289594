package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
)

const (
	// killAfter is how long a worker may take to end after it was asked to.
	killAfter = finishIn + time.Second
	// So many workers of a slot that end by themselves within tooSoon mean that
	// something is wrong with all of them. One may have had bad luck: a Ctrl-C
	// that reaches it before it ignores that.
	tooMany = 3
	tooSoon = time.Second
)

// pool starts workers that share a socket.
type pool struct {
	argv   []string
	env    []string
	socket *os.File
	stderr io.Writer
}

// process is a worker process. One goroutine at a time uses it.
type process struct {
	cmd   *exec.Cmd
	life  io.Closer // its stdin
	begun time.Time
	done  chan struct{} // closed once it has ended
}

// slot is what one worker after another fills.
type slot struct {
	// recycle ends the current worker: by SIGKILL if true, else by SIGTERM.
	recycle chan bool
}

// keep keeps a worker running in the slot until ctx ends, and then stops it. It
// returns an error if workers can't run at all.
func (p *pool) keep(ctx context.Context, s *slot) error {
	early := 0
	for {
		w, err := p.start()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			w.stop()
			return nil
		case kill := <-s.recycle:
			if kill {
				w.kill()
			} else {
				w.stop()
			}
		case <-w.done:
			// Somebody else has killed it, as the demonstration invites to; or it
			// does not work.
			w.life.Close()
			if time.Since(w.begun) > tooSoon {
				early = 0
			} else if early++; early == tooMany {
				return fmt.Errorf("workers end right after their start: %s", w.cmd.ProcessState)
			}
			pause(ctx, tooSoon/10)
		}
	}
}

func (p *pool) start() (*process, error) {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = p.env
	cmd.ExtraFiles = []*os.File{p.socket} // becomes listenerFD
	cmd.Stderr = p.stderr
	// Should the worker have started something that holds its stderr, that is
	// no reason to wait for it.
	cmd.WaitDelay = time.Second
	life, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(p.argv, " "), err)
	}
	w := &process{cmd, life, time.Now(), make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has it
		close(w.done)
	}()
	return w, nil
}

// stop asks the worker to end, and kills one that hangs. It is gone then.
func (w *process) stop() {
	_ = w.cmd.Process.Signal(mmapfile.Terminate) // an error: it has ended
	select {
	case <-w.done:
	case <-time.After(killAfter):
	}
	w.kill()
}

// kill kills the worker. It is gone then.
func (w *process) kill() {
	_ = w.cmd.Process.Kill() // an error: it has ended
	<-w.done
	w.life.Close()
}
