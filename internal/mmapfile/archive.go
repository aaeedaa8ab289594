package mmapfile

// ArchiveID is the id of the files in which the daemon keeps what dead writers have
// left. No writer may have it.
const ArchiveID = "archived"

// Foldable reports whether files of this type and mode can be added into one
// archive: not those of gauges of which a dead writer's value is a series of its
// own, or counts for nothing.
func (n Name) Foldable() bool { return n.Type != Gauge || !n.Mode.Live() && n.Mode != All }

// IsArchive reports whether the name is an archive's.
func (n Name) IsArchive() bool { return n.ID == ArchiveID && n.Foldable() }
