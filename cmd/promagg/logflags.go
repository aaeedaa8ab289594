package main

import "github.com/prometheus/common/promslog"

// levelFlag and formatFlag are promslog's settings as flags.
type (
	levelFlag  struct{ *promslog.Level }
	formatFlag struct{ *promslog.Format }
)

func (f levelFlag) Set(s string) error {
	if f.Level.Set(s) != nil {
		return wantOneOf(f.words(), s)
	}
	return nil
}

func (f formatFlag) Set(s string) error {
	if f.Format.Set(s) != nil {
		return wantOneOf(f.words(), s)
	}
	return nil
}

func (levelFlag) Type() string  { return "level" }
func (formatFlag) Type() string { return "format" }

func (levelFlag) words() []string  { return promslog.LevelFlagOptions }
func (formatFlag) words() []string { return promslog.FormatFlagOptions }
