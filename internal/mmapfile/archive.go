package mmapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ArchiveID is the id of the files in which the daemon keeps what dead writers have
// left. No writer may have it.
const ArchiveID = "archived"

// claimMark stands between a writer's id and the number of a claim.
const claimMark = "~"

// Foldable reports whether files of this type and mode can be added into one
// archive: not those of gauges of which a dead writer's value is a series of its
// own, or counts for nothing.
func (n Name) Foldable() bool { return n.Type != Gauge || !n.Mode.Live() && n.Mode != All }

// Archive returns the name of the archive for files of this type and mode.
func (n Name) Archive() Name {
	n.ID = ArchiveID
	return n
}

// IsArchive reports whether the name is an archive's.
func (n Name) IsArchive() bool { return n.ID == ArchiveID && n.Foldable() }

// Claim returns the name that the file has while it is being folded, for the time-th
// time, from 1 on: no process ever opens that.
func (n Name) Claim(time int) Name {
	id, _ := n.unclaimed()
	n.ID = id + claimMark + strconv.Itoa(time)
	return n
}

// IsClaim reports whether the name is one that Claim returns.
func (n Name) IsClaim() bool {
	_, claimed := n.unclaimed()
	return claimed
}

// Reserved reports whether the id stands for files of the daemon, and no writer may
// have it.
func (n Name) Reserved() bool { return n.ID == ArchiveID || n.IsClaim() }

// Unclaimed returns the name that a claimed file had before.
func (n Name) Unclaimed() Name {
	n.ID, _ = n.unclaimed()
	return n
}

func (n Name) unclaimed() (id string, claimed bool) {
	i := strings.LastIndex(n.ID, claimMark)
	if i <= 0 || i == len(n.ID)-1 || n.ID[i+1] == '0' || strings.Trim(n.ID[i+1:], "0123456789") != "" {
		return n.ID, false
	}
	return n.ID[:i], true
}

// An archive is a value file, to the letter, whose entries nobody changes any
// more. Behind used, where no reader of value files looks, stands its trailer:
//
//	offset  size  field
//	0       8     "promaggA"
//	8       4     n, uint32: length of the names
//	12      n     names of files that are included in the values, each ended by a zero byte
//	12+n    4     CRC-32C of everything before it, from the start of the file
//
// A file that is named there counts as deleted: whoever wrote the archive was about
// to do it. An archive is never changed but replaced by another file.
const trailerMagic = "promaggA"

const (
	trailerHead = len(trailerMagic) + 4
	trailerSum  = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendTrailer makes an archive of a whole value file by appending its trailer.
func AppendTrailer(file []byte, included []string) []byte {
	size := 0
	for _, name := range included {
		size += len(name) + 1
	}
	file = slices.Grow(file, trailerHead+size+trailerSum)
	file = append(file, trailerMagic...)
	file = binary.LittleEndian.AppendUint32(file, uint32(size))
	for _, name := range included {
		file = append(append(file, name...), 0)
	}
	return binary.LittleEndian.AppendUint32(file, crc32.Checksum(file, castagnoli))
}

// maxNames is the most bytes of names that a trailer may have: those of half a million
// files or so, and of [MaxIncluded] in any case.
const maxNames = 16 << 20

// MaxIncluded is how many files an archive may include at a time. No name has more
// than 255 bytes.
const MaxIncluded = maxNames / 256

// ParseTrailer returns the names of the files that an archive of that name includes.
// file is all of it. The error wraps [ErrTrailer].
func ParseTrailer(archive Name, file []byte) (included []string, err error) {
	return readTrailer(archive, bytes.NewReader(file), int64(len(file)))
}

// Included is ParseTrailer for a file that has an archive's name. It takes no memory but
// for the names, however large the file is.
func (f *File) Included(archive Name) (included []string, err error) {
	err = f.with(func(file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		included, err = readTrailer(archive, file, info.Size())
		return err
	})
	return included, err
}

func readTrailer(archive Name, file io.ReaderAt, size int64) (included []string, err error) {
	bad := func(format string, args ...any) ([]string, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrTrailer}, args...)...)
	}
	var header [headerSize]byte
	if _, err := file.ReadAt(header[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	used := usedOf(header[:])
	if used < headerSize || used > size {
		return bad("used is %d, the file ends at %d", used, size)
	}
	head := make([]byte, trailerHead)
	if _, err := file.ReadAt(head, used); errors.Is(err, io.EOF) || err == nil && string(head[:len(trailerMagic)]) != trailerMagic {
		return bad("there is none behind used, %d", used)
	} else if err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[len(trailerMagic):]))
	if n > maxNames {
		return bad("want at most %d bytes of names, got %d", maxNames, n)
	}
	if want := used + int64(trailerHead) + n + trailerSum; want != size {
		return bad("want a file of %d bytes, got %d", want, size)
	}
	tail := make([]byte, n+trailerSum)
	if _, err := file.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, size-trailerSum)); err != nil {
		return nil, err
	}
	if got, want := sum.Sum32(), binary.LittleEndian.Uint32(tail[n:]); got != want {
		return bad("checksum is %08x, the content's %08x", want, got)
	}
	for names := tail[:n]; len(names) > 0; {
		base, after, ended := bytes.Cut(names, []byte{0})
		name, ok := ParseName(string(base))
		if !ended || !ok || !name.IsClaim() || name.Archive() != archive {
			return bad("it includes %q", base)
		}
		included = append(included, string(base))
		names = after
	}
	return included, nil
}

// Content returns a copy of the content up to used, of which values are at the
// offsets that a [Walker] tells.
func (f *File) Content() (Bytes, error) {
	var content []byte
	return f.Read(&content)
}

// Float64 returns the double at off of bytes that nobody else can change.
func Float64(content []byte, off uint32) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(content[off:]))
}
