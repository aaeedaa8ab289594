package mmapfile

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Closings tells of the files of a directory that somebody had open or mapped for
// writing and has let go of, by ending perhaps: inotify(7)'s IN_CLOSE_WRITE, which
// fsnotify does not pass on. Nothing else tells that a writer came and went: stores
// through a mapping of tmpfs leave no trace in the file's times.
type Closings struct{ f *os.File }

// WatchClosings begins to watch a directory.
func WatchClosings(path string) (*Closings, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR); err != nil {
		_ = f.Close() // the first error says what is wrong
		return nil, &os.PathError{Op: "inotify_add_watch", Path: path, Err: err}
	}
	return &Closings{f}, nil
}

// Next waits for events and returns the names of the files, or lost where there
// were more than the kernel could keep. It ends with an error once the watch is
// closed.
func (c *Closings) Next() (names []string, lost bool, err error) {
	// struct inotify_event: wd, mask, cookie, len, name.
	const mask, length, name = 4, 12, 16
	buf := make([]byte, 16<<10)
	n, err := c.f.Read(buf)
	if err != nil {
		return nil, false, err
	}
	for rest := buf[:n]; len(rest) >= name; {
		end := name + int(binary.NativeEndian.Uint32(rest[length:]))
		if binary.NativeEndian.Uint32(rest[mask:])&unix.IN_Q_OVERFLOW != 0 {
			lost = true
		} else if text, _, _ := bytes.Cut(rest[name:end], []byte{0}); len(text) > 0 {
			names = append(names, string(text))
		}
		rest = rest[end:]
	}
	return names, lost, nil
}

// Close ends the watch.
func (c *Closings) Close() error { return c.f.Close() }
