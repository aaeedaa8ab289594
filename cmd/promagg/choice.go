package main

import (
	"fmt"
	"slices"
	"strings"
)

// choice is a flag that is one of a few words.
type choice struct {
	word  string
	among []string
}

// What is done with value files at the start and at the stop.
const (
	adopt   = "adopt"
	keep    = "keep"
	cleanUp = "clean"
)

func (c *choice) String() string { return c.word }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.among, s) {
		return fmt.Errorf("want %s, got %q", strings.Join(c.among, " or "), s)
	}
	c.word = s
	return nil
}

func (c *choice) Type() string { return "what" }
