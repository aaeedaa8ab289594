package mmapfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// filesystems are names of filesystems as mount(8) has them, of those on which somebody
// could have a directory.
var filesystems = map[uint32]string{
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	0x2fc52fc5:                 "zfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.SMB2_SUPER_MAGIC:      "smb2",
	unix.CEPH_SUPER_MAGIC:      "ceph",
	unix.V9FS_MAGIC:            "9p",
	unix.FUSE_SUPER_MAGIC:      "fuse",
}

// StatFilesystem tells of the filesystem that a path is on.
func StatFilesystem(path string) (Filesystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Filesystem{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := int64(st.Bsize)
	return Filesystem{
		Name:       filesystems[uint32(st.Type)],
		Bytes:      int64(st.Blocks) * block,
		FreeBytes:  int64(st.Bavail) * block,
		Inodes:     int64(st.Files),
		FreeInodes: int64(st.Ffree),
		ReadOnly:   st.Flags&unix.ST_RDONLY != 0,
	}, nil
}
