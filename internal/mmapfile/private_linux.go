package mmapfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Private is a small file of which only this process has a name, and which is in
// memory only: what is in it may be secret. Its content is replaced all at once.
type Private struct{ f *os.File }

// NewPrivate makes one.
func NewPrivate(content []byte) (*Private, error) {
	f, err := memfile(content)
	if err != nil {
		return nil, err
	}
	return &Private{f}, nil
}

// Path is the name by which this process can open it, always the same.
func (p *Private) Path() string { return fmt.Sprintf("/proc/self/fd/%d", p.f.Fd()) }

// Replace gives it another content. Who has it open goes on reading the old one.
func (p *Private) Replace(content []byte) error {
	f, err := memfile(content)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("dup3", unix.Dup3(int(f.Fd()), int(p.f.Fd()), unix.O_CLOEXEC))
}

// Close removes it.
func (p *Private) Close() error { return p.f.Close() }

func memfile(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("promagg", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:promagg")
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
