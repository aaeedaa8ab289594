package client

import "sync"

// DefaultRegistry returns the registry that the functions of the package use. It
// is made at the first call, so that a program may set the environment before.
var DefaultRegistry = sync.OnceValue(func() *Registry { return NewRegistry(Options{}) })

// Register registers a collector with the default registry.
func Register(c Collector) error { return DefaultRegistry().Register(c) }

// MustRegister registers collectors with the default registry and panics at the
// first that can't be.
func MustRegister(cs ...Collector) { DefaultRegistry().MustRegister(cs...) }

// Unregister takes a collector out of the default registry.
func Unregister(c Collector) bool { return DefaultRegistry().Unregister(c) }

// Err tells whether the default registry's metrics reach their files.
func Err() error { return DefaultRegistry().Err() }

// Close closes the default registry.
func Close() error { return DefaultRegistry().Close() }
