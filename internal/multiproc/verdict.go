package multiproc

import "github.com/promagg/promagg/internal/mmapfile"

// Probe asks whether an open file has a writer, by all that a [Dir] asks.
func Probe(f *mmapfile.File, name mmapfile.Name, p mmapfile.Probe) mmapfile.Verdict {
	return probe(f, name, p)
}
