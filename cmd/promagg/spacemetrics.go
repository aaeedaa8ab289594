package main

import "github.com/promagg/promagg/internal/mmapfile"

// space tells how full the filesystem of the directory is. Workers that find it full
// can't begin new files, and promagg can't fold. Of a directory that is not there, or on
// a filesystem that does not say, there are no samples: 0 would be an alert.
func (g *gathered) space(dir string) {
	s, err := mmapfile.SpaceOf(dir)
	if err != nil || s.Size == 0 {
		return
	}
	g.gauge("filesystem_size_bytes", "Size of the filesystem that the directory is on.").add(float64(s.Size))
	g.gauge("filesystem_free_bytes", "Bytes that are free on the filesystem that the directory is on.").add(float64(s.Free))
	if s.Files == 0 {
		return
	}
	g.gauge("filesystem_inodes", "Inodes of the filesystem that the directory is on.").add(float64(s.Files))
	g.gauge("filesystem_free_inodes", "Inodes that are free on the filesystem that the directory is on.").add(float64(s.FreeFiles))
}
