package top

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gdamore/tcell/v2"
)

// ErrTerminal is returned by [Run] where there is no terminal, or none that it can use.
var ErrTerminal = errors.New("not a terminal that can be drawn on")

// Run shows the source on the terminal that controls the process, until the user quits, ctx ends or the terminal is gone. It leaves the terminal as it was.
func Run(ctx context.Context, source Source, interval time.Duration) error {
	// Before the terminal is taken, so that what is wrong from the start is said and done
	// with, while later failures are shown and tried again.
	first, err := source.Look(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// The terminal is opened anew: tcell lets reads not block, and what is open already is
	// the shell's, too, which would be left so.
	tty, err := tcell.NewDevTty()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTerminal, err)
	}
	screen, err := tcell.NewTerminfoScreenFromTty(tty)
	if err == nil {
		err = screen.Init()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTerminal, err)
	}
	defer screen.Fini() // also when something panics
	return run(ctx, source, interval, screen, first)
}

// seen is what became of a look.
type seen struct {
	look *Look
	err  error
}

// run is Run on a screen. Looks are made beside it, so that keys never wait for one.
func run(ctx context.Context, source Source, interval time.Duration, screen tcell.Screen, to *Look) error {
	ctx, cancel := context.WithCancel(ctx)
	asked, looks := make(chan struct{}, 1), make(chan seen)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range asked {
			look, err := source.Look(ctx)
			select {
			case looks <- seen{look, err}:
			case <-ctx.Done():
			}
		}
	}()
	defer func() {
		screen.Fini() // first, for a look at a filesystem that hangs does not end
		cancel()
		close(asked)
		<-ended // the source is the caller's again
	}()
	events, quit := make(chan tcell.Event, 64), make(chan struct{})
	go screen.ChannelEvents(events, quit)
	defer close(quit)

	state := NewState(interval)
	var from *Look
	var failure error
	draw := func() {
		w, h := screen.Size()
		f := state.Render(from, to, failure, w, h) // each time, for keys are about what it has chosen
		if len(events) == 0 {                      // else it is painted after the last of them
			paint(screen, f)
		}
	}
	next := time.NewTimer(min(interval, time.Second)) // soon, for one look tells no rates
	defer next.Stop()
	looking := false
	draw()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			if !looking && !state.Paused {
				looking = true
				asked <- struct{}{}
			}
		case s := <-looks:
			looking = false
			failure = s.err
			if s.err == nil {
				from, to = to, s.look
			}
			next.Reset(interval)
			draw()
		case event, ok := <-events:
			if !ok {
				return nil
			}
			switch e := event.(type) {
			case *tcell.EventError:
				return nil // the terminal is gone, and with it whoever looked on
			case *tcell.EventResize:
				screen.Sync()
			case *tcell.EventKey:
				key := keyOf(e)
				if key == KeyRedraw {
					screen.Sync()
				}
				paused := state.Paused
				if state.Press(key) {
					return nil
				}
				if paused && !state.Paused && !looking {
					next.Reset(0)
				}
			default:
				continue
			}
			draw()
		}
	}
}

// keyOf returns a key as [State.Press] takes it.
func keyOf(e *tcell.EventKey) string {
	if e.Key() == tcell.KeyRune {
		if e.Modifiers()&tcell.ModAlt != 0 {
			return ""
		}
		return string(e.Rune())
	}
	return keys[e.Key()]
}

var keys = map[tcell.Key]string{
	tcell.KeyUp: KeyUp, tcell.KeyDown: KeyDown, tcell.KeyLeft: KeyLeft, tcell.KeyRight: KeyRight,
	tcell.KeyPgUp: KeyPageUp, tcell.KeyPgDn: KeyPageDown, tcell.KeyHome: KeyHome, tcell.KeyEnd: KeyEnd,
	tcell.KeyEnter: KeyEnter, tcell.KeyEsc: KeyEsc, tcell.KeyTab: KeyTab, tcell.KeyBacktab: KeyTab,
	tcell.KeyBackspace: KeyBackspace, tcell.KeyBackspace2: KeyBackspace,
	tcell.KeyCtrlC: KeyInterrupt, tcell.KeyCtrlL: KeyRedraw, tcell.KeyCtrlU: KeyClear,
}

// paint puts a frame on the screen, which sends the terminal only what has changed.
func paint(screen tcell.Screen, f Frame) {
	for y, line := range f.Lines {
		style := tcell.StyleDefault
		switch y {
		case f.Head:
			style = style.Bold(true)
		case f.Chosen:
			style = style.Reverse(true)
		}
		x := 0
		for _, r := range line {
			screen.SetContent(x, y, r, nil, style)
			x += runeWidth(r)
		}
	}
	screen.HideCursor()
	screen.Show()
}
