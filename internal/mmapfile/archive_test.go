package mmapfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var counterArchive = Name{Type: Counter}.Archive()

// Archives byte by byte, as the table above trailerMagic has them: a value file; then
// the magic, the length of the names, the names, each with its zero byte, and the
// checksum, which another program has computed.
var (
	goldenArchive = slices.Concat(goldenValueOnly, unhex(`
		70726f6d61676741 25000000
		636f756e7465725f31327e312e6462 00  636f756e7465725f7765625f312d307e322e6462 00
		64e35503`))
	goldenIncluded = []string{"counter_12~1.db", "counter_web_1-0~2.db"}

	goldenArchiveOfNone = slices.Concat(goldenValueOnly, unhex(`
		70726f6d61676741 00000000
		c0695e1e`))
)

func TestTrailerGolden(t *testing.T) {
	for _, c := range []struct {
		archive  []byte
		included []string
	}{{goldenArchive, goldenIncluded}, {goldenArchiveOfNone, nil}} {
		if got := AppendTrailer(bytes.Clone(goldenValueOnly), c.included); !bytes.Equal(got, c.archive) {
			t.Errorf("AppendTrailer of %q:\ngot  %x\nwant %x", c.included, got, c.archive)
		}
		got, err := ParseTrailer(counterArchive, c.archive)
		if err != nil || !slices.Equal(got, c.included) {
			t.Errorf("ParseTrailer: %q, %v, want %q", got, err, c.included)
		}
		// To whoever reads value files there is no trailer.
		var w Walker
		entries, err := walkAll(&w, c.archive)
		if err != nil || !equalFound(entries, goldenEntries[ValueOnly]) {
			t.Errorf("walked: %v, %v", entries, err)
		}
	}
}

// reseal gives an archive the checksum of what it holds.
func reseal(archive []byte) []byte {
	if len(archive) >= trailerSum {
		end := len(archive) - trailerSum
		binary.LittleEndian.PutUint32(archive[end:], crc32.Checksum(archive[:end], crc32.MakeTable(crc32.Castagnoli)))
	}
	return archive
}

// wantNoTrailer wants an archive to be refused.
func wantNoTrailer(t *testing.T, what string, archive []byte) {
	t.Helper()
	if included, err := ParseTrailer(counterArchive, archive); !errors.Is(err, ErrTrailer) || included != nil {
		t.Errorf("%s: %q, %v, want ErrTrailer", what, included, err)
	}
}

// TestCorruption_TrailerFlipped: any byte of an archive that is another one is noticed.
func TestCorruption_TrailerFlipped(t *testing.T) {
	for i := range goldenArchive {
		for flip := 1; flip < 256; flip++ {
			b := bytes.Clone(goldenArchive)
			b[i] ^= byte(flip)
			wantNoTrailer(t, fmt.Sprintf("byte %d xor %#x", i, flip), b)
		}
	}
}

// TestCorruption_TrailerCut: an archive that lacks its end, or has more than that, is
// none.
func TestCorruption_TrailerCut(t *testing.T) {
	for n := range goldenArchive {
		cut := goldenArchive[:n:n]
		wantNoTrailer(t, fmt.Sprintf("%d bytes", n), cut)
		wantNoTrailer(t, fmt.Sprintf("%d bytes, sealed", n), reseal(bytes.Clone(cut)))
		wantNoTrailer(t, fmt.Sprintf("zeros from byte %d on", n), append(cut, make([]byte, len(goldenArchive)-n)...))
	}
	wantNoTrailer(t, "a byte more", append(bytes.Clone(goldenArchive), 0))
	wantNoTrailer(t, "twice the trailer", slices.Concat(goldenArchive, goldenArchive[len(goldenValueOnly):]))
}

// TestCorruption_TrailerNames: an archive names claimed files of its own kind and
// nothing else, lest somebody have another file deleted.
func TestCorruption_TrailerNames(t *testing.T) {
	for _, name := range []string{
		"", "x", "counter_1.db", "counter_archived.db", "summary_1~1.db", "gauge_sum_1~1.db", "counter_1~1.dbx", "counter_1~.db", "counter_1~0.db",
		"../counter_1~1.db", "counter_../1~1.db", "/counter_1~1.db", "counter_1/~1.db", ".promagg.lock", "..", ".",
	} {
		wantNoTrailer(t, name, AppendTrailer(bytes.Clone(goldenValueOnly), []string{"counter_1~1.db", name}))
	}
	for _, archive := range []Name{{Type: Summary}, {Type: Gauge, Mode: Sum}, {Type: Histogram}} {
		if included, err := ParseTrailer(archive.Archive(), goldenArchive); !errors.Is(err, ErrTrailer) {
			t.Errorf("of counters, as %v: %q, %v, want ErrTrailer", archive.Archive(), included, err)
		}
	}
	if _, err := ParseTrailer(Name{Type: Gauge, Mode: Max}.Archive(), AppendTrailer(bytes.Clone(goldenValueOnly), []string{"gauge_min_1~1.db"})); !errors.Is(err, ErrTrailer) {
		t.Errorf("of another mode: %v", err)
	}
}

// TestCorruption_TrailerSealed: damage that the checksum is right for.
func TestCorruption_TrailerSealed(t *testing.T) {
	put := func(at int, v uint32) []byte {
		b := bytes.Clone(goldenArchive)
		binary.LittleEndian.PutUint32(b[at:], v)
		return reseal(b)
	}
	used := len(goldenValueOnly)
	length := used + len(trailerMagic)
	names := len(goldenArchive) - length - 4 - trailerSum
	for what, b := range map[string][]byte{
		"used 0":             put(0, 0),
		"used below header":  put(0, 4),
		"used negative":      put(0, 1<<31),
		"used past the end":  put(0, uint32(len(goldenArchive)+8)),
		"used at the end":    put(0, uint32(len(goldenArchive))),
		"used in an entry":   put(0, uint32(used-8)),
		"used in the names":  put(0, uint32(used+24)),
		"names too short":    put(length, uint32(names-1)),
		"names too long":     put(length, uint32(names+1)),
		"names of 4 GiB":     put(length, 1<<32-1),
		"other magic":        put(used, 0),
		"name without zero":  put(len(goldenArchive)-trailerSum-4, 'x'<<24|'x'),
		"nothing but header": reseal(make([]byte, headerSize)),
	} {
		wantNoTrailer(t, what, b)
	}
}

func FuzzTrailer(f *testing.F) {
	f.Add(goldenArchive, "counter_1~1.db")
	f.Add(goldenArchiveOfNone, "gauge_max_web-0~12.db")
	f.Add(AppendTrailer(bytes.Clone(goldenValueTimestamp), []string{"gauge_sum_1~1.db", "gauge_sum_1~2.db"}), "x/../y~1")
	f.Add(AppendTrailer(make([]byte, headerSize), nil), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		archives := []Name{counterArchive}
		if name, ok := ParseName(text); ok && name.Foldable() {
			archives = append(archives, name.Archive())
		}
		for _, archive := range archives {
			for _, b := range [][]byte{data, reseal(bytes.Clone(data))} {
				included, err := ParseTrailer(archive, b)
				if err != nil {
					if !errors.Is(err, ErrTrailer) || included != nil {
						t.Fatalf("%q, %v", included, err)
					}
					continue
				}
				for _, base := range included {
					if name, ok := ParseName(base); !ok || !name.IsClaim() || name.Archive() != archive || filepath.Base(base) != base {
						t.Fatalf("an archive %v that includes %q", archive, base)
					}
				}
				// There is one way to write it.
				if again := AppendTrailer(bytes.Clone(b[:usedOf(b)]), included); !bytes.Equal(again, b) {
					t.Fatalf("read as %q, which is written\n%x, not\n%x", included, again, b)
				}
			}
		}
		// What is written is read.
		var names []string
		for i, word := range strings.Split(text, "/") {
			name := Name{Type: Counter, ID: word}
			if parsed, ok := ParseName(name.String()); ok && parsed == name {
				names = append(names, name.Claim(i+1).String())
			}
		}
		got, err := ParseTrailer(counterArchive, AppendTrailer(bytes.Clone(goldenValueOnly), names))
		if err != nil || !slices.Equal(got, names) {
			t.Fatalf("%q is read as %q, %v", names, got, err)
		}
	})
}

// TestClaim: the name of a claimed file is a value file's, tells the one that it had
// before, and whose it is.
func TestClaim(t *testing.T) {
	for _, c := range []struct {
		id     string
		claims []string // the first and the twelfth
		writer string   // whose it is
		ruby   string   // whose it is with keys of the Ruby client
	}{
		{"12", []string{"12~1", "12~12"}, "12", "12"},
		{"12-0", []string{"12-0~1", "12-0~12"}, "12-0", "12"},
		{"puma_worker_1-3", []string{"puma_worker_1-3~1", "puma_worker_1-3~12"}, "puma_worker_1-3", "puma_worker_1"},
		{"a~b", []string{"a~b~1", "a~b~12"}, "a~b", "a~b"},
		{"~", []string{"~~1", "~~12"}, "~", "~"},
		{"~1", []string{"~1~1", "~1~12"}, "~1", "~1"},
		{"a~0", []string{"a~0~1", "a~0~12"}, "a~0", "a~0"},
		{"a~01", []string{"a~01~1", "a~01~12"}, "a~01", "a~01"},
		{"a~-1", []string{"a~-1~1", "a~-1~12"}, "a~-1", "a~"},
		{"a~1x", []string{"a~1x~1", "a~1x~12"}, "a~1x", "a~1x"},
	} {
		for _, kind := range []Name{{Type: Counter}, {Type: Gauge, Mode: LiveSum}} {
			name := kind
			name.ID = c.id
			if name.IsClaim() || name.Unclaimed() != name {
				t.Errorf("%v is a claim, of %v", name, name.Unclaimed())
			}
			for i, time := range []int{1, 12} {
				claim := name.Claim(time)
				if claim.ID != c.claims[i] || !claim.IsClaim() || claim.Unclaimed() != name || claim.Archive() != name.Archive() {
					t.Errorf("claim %d of %v is %v, a claim: %v, of %v, for %v", time, name, claim, claim.IsClaim(), claim.Unclaimed(), claim.Archive())
				}
				if again := claim.Claim(3); again != name.Claim(3) {
					t.Errorf("%v claimed again is %v, want %v", claim, again, name.Claim(3))
				}
				if parsed, ok := ParseName(claim.String()); !ok || parsed != claim {
					t.Errorf("%v is read as %v", claim, parsed)
				}
				for _, n := range []Name{name, claim} {
					if got := n.Writer(false); got != c.writer {
						t.Errorf("%v is of %q, want %q", n, got, c.writer)
					}
					if got := n.Writer(true); got != c.ruby {
						t.Errorf("%v is of Ruby's %q, want %q", n, got, c.ruby)
					}
				}
			}
		}
	}
	// An id that ends like a claim can't be told from one.
	if name := (Name{ID: "a~1"}); !name.IsClaim() || name.Claim(1) != name || name.Writer(false) != "a" {
		t.Errorf("%v is no claim", name)
	}
}

// TestFoldable: the archives are those of design: not of what is a series for each
// worker, or counts for nothing once the worker is dead.
func TestFoldable(t *testing.T) {
	var archives []string
	kinds := []Name{{Type: Counter, ID: "1"}, {Type: Histogram, ID: "1"}, {Type: Summary, ID: "1"}}
	for _, m := range Modes() {
		kinds = append(kinds, Name{Type: Gauge, Mode: m, ID: "1"})
	}
	for _, name := range kinds {
		if name.IsArchive() {
			t.Errorf("%v is an archive", name)
		}
		if name.Archive().IsArchive() != name.Foldable() {
			t.Errorf("%v: foldable %v, archive %v", name, name.Foldable(), name.Archive().IsArchive())
		}
		if name.Foldable() {
			archives = append(archives, name.Archive().String())
		}
	}
	want := []string{"counter_archived.db", "histogram_archived.db", "summary_archived.db",
		"gauge_min_archived.db", "gauge_max_archived.db", "gauge_sum_archived.db", "gauge_mostrecent_archived.db"}
	if !slices.Equal(archives, want) {
		t.Errorf("archives are %q, want %q", archives, want)
	}
}
