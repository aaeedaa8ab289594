package main

import "github.com/prometheus/common/promslog"

// levelFlag and formatFlag are promslog's settings as flags.
type (
	levelFlag  struct{ *promslog.Level }
	formatFlag struct{ *promslog.Format }
)

func (levelFlag) Type() string  { return "level" }
func (formatFlag) Type() string { return "format" }
