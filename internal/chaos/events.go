package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// events keeps what happened last.
type events struct {
	mu    sync.Mutex // protects all below
	lines [20_000]string
	n     int
}

func (e *events) add(format string, args ...any) {
	line := time.Now().Format("15:04:05.000000 ") + fmt.Sprintf(format, args...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines[e.n%len(e.lines)] = line
	e.n++
}

// write writes them, the oldest first.
func (e *events) write(w io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := max(0, e.n-len(e.lines)); i < e.n; i++ {
		if _, err := fmt.Fprintln(w, e.lines[i%len(e.lines)]); err != nil {
			return err
		}
	}
	return nil
}
