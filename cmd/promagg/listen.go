package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/mmapfile"
)

// listenFlags say where to listen.
type listenFlags struct {
	addresses []string
	systemd   bool
}

func (f *listenFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.addresses, "web.listen-address", []string{":9917"}, "address to listen on, or unix:///path of a socket; may be given more than once")
	cmd.Flags().BoolVar(&f.systemd, "web.systemd-socket", false, "listen on the sockets that systemd has opened, and on no address")
}

// unixScheme begins the address of a unix socket. Its path comes next: with three
// slashes, as a URL has it.
const unixScheme = "unix://"

// listen binds all there is to bind, or nothing.
func (f *listenFlags) listen() (net.Listener, error) {
	if f.systemd {
		return systemdSockets()
	}
	// An empty one would be any port that is free, on all interfaces.
	if len(f.addresses) == 0 || slices.Contains(f.addresses, "") {
		return nil, usageError{errors.New("--web.listen-address: want an address such as :9917, got none")}
	}
	var all []net.Listener
	for _, address := range f.addresses {
		l, err := listenOn(address)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("%w: choose another address with --web.listen-address", err)
		}
		all = append(all, l)
	}
	return join(all), nil
}

func listenOn(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, unixScheme)
	if !ok && !strings.Contains(address, "/") {
		return net.Listen("tcp", address)
	}
	if !ok || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("listen %s: want HOST:PORT, or unix:///path with the whole path", address)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// removeStale removes the socket of a process that was killed: nobody else does, and
// the name can't be bound as long as it is there. What somebody listens on, and what is
// no socket, stays, and is an error.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen unix %s: what is there is no socket, and is left alone", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen unix %s: somebody listens there already", path), conn.Close())
	}
	if !mmapfile.Refused(err) {
		return nil
	}
	return os.Remove(path)
}

// systemdSockets returns what systemd has opened for this process.
func systemdSockets() (net.Listener, error) {
	all, err := activation.Listeners()
	if err == nil && slices.Contains(all, nil) {
		err = errors.New("one of the sockets of systemd is none to listen on: want ListenStream= in the socket unit")
	}
	if err == nil && len(all) == 0 {
		err = errors.New("no socket came from systemd: start promagg by its socket unit, or leave out the flag")
	}
	if err != nil {
		closeAll(all)
		return nil, fmt.Errorf("--web.systemd-socket: %w", err)
	}
	return join(all), nil
}

func closeAll(all []net.Listener) {
	for _, l := range all {
		if l != nil {
			_ = l.Close() // there is an error to tell of already
		}
	}
}

// joined is several listeners as one, so that what bounds connections bounds those
// of all of them together.
type joined struct {
	all      []net.Listener
	accepted chan accepted
	closed   chan struct{}
	once     sync.Once
	err      error // of closing; valid after closed
}

type accepted struct {
	conn net.Conn
	err  error
}

func join(all []net.Listener) net.Listener {
	if len(all) == 1 {
		return all[0]
	}
	j := &joined{all: all, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range all {
		go j.accept(l)
	}
	return j
}

// accept passes on what one listener has. An error is passed on too, so that the
// server waits a little before the next try, or gives up.
func (j *joined) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case j.accepted <- accepted{conn, err}:
		case <-j.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.accepted:
		return a.conn, a.err
	case <-j.closed:
		return nil, net.ErrClosed
	}
}

func (j *joined) Close() error {
	j.once.Do(func() {
		for _, l := range j.all {
			j.err = errors.Join(j.err, l.Close())
		}
		close(j.closed)
	})
	return j.err
}

// Addr is the first of its addresses.
func (j *joined) Addr() net.Addr { return j.all[0].Addr() }

// addresses returns where l listens, as --web.listen-address has it.
func addresses(l net.Listener) []string {
	all := []net.Listener{l}
	if j, ok := l.(*joined); ok {
		all = j.all
	}
	var list []string
	for _, l := range all {
		a := l.Addr().String()
		if l.Addr().Network() == "unix" {
			a = unixScheme + a
		}
		list = append(list, a)
	}
	return list
}
