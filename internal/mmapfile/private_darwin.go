package mmapfile

import (
	"os"
	"path/filepath"
)

// Private is a small file of which only this user has a name: what is in it may be
// secret. Its content is replaced all at once. macOS has no files that are in memory only.
type Private struct{ dir string }

// NewPrivate makes one.
func NewPrivate(content []byte) (*Private, error) {
	dir, err := os.MkdirTemp("", "promagg-")
	if err != nil {
		return nil, err
	}
	p := &Private{dir}
	if err := p.Replace(content); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Path is its name, always the same.
func (p *Private) Path() string { return filepath.Join(p.dir, "private") }

// Replace gives it another content. Who has it open goes on reading the old one.
func (p *Private) Replace(content []byte) error {
	if err := os.WriteFile(p.Path()+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(p.Path()+".new", p.Path())
}

// Close removes it.
func (p *Private) Close() error { return os.RemoveAll(p.dir) }
