package mmapfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// StatFilesystem tells of the filesystem that a path is on.
func StatFilesystem(path string) (Filesystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Filesystem{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := int64(st.Bsize)
	return Filesystem{
		Name:       unix.ByteSliceToString(st.Fstypename[:]),
		Bytes:      int64(st.Blocks) * block,
		FreeBytes:  int64(st.Bavail) * block,
		Inodes:     int64(st.Files),
		FreeInodes: int64(st.Ffree),
		ReadOnly:   st.Flags&unix.MNT_RDONLY != 0,
	}, nil
}
