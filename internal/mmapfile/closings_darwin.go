package mmapfile

import "errors"

// Closings is not to be had here.
type Closings struct{}

// WatchClosings returns errors.ErrUnsupported.
func WatchClosings(string) (*Closings, error) { return nil, errors.ErrUnsupported }

// Next returns errors.ErrUnsupported.
func (*Closings) Next() (names []string, lost bool, err error) {
	return nil, false, errors.ErrUnsupported
}

// Close does nothing.
func (*Closings) Close() error { return nil }
