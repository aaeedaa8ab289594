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
		return wantOneOf(c.among, s)
	}
	c.word = s
	return nil
}

func (c *choice) Type() string { return "word" }

func (c *choice) words() []string { return c.among }

// wantOneOf is the error that a word is none of some.
func wantOneOf(words []string, got string) error {
	last := len(words) - 1
	return fmt.Errorf("want %s or %s, got %q", strings.Join(words[:last], ", "), words[last], got)
}
