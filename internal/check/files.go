package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// file is one value file.
type file struct {
	base      string
	name      mmapfile.Name
	writer    string // as the keys tell it
	inode     uint64
	uid       int
	size      int64
	allocated int64
	age       time.Duration // since it was made, or grew
	archive   bool
	noArchive error // why it is none, though it has the name
	unopened  error // why it could not be opened
	damage    error
	entries   int
	layout    mmapfile.Layout
	ruby      bool
	old       bool // its keys are those of Python up to 0.15
	verdict   mmapfile.Verdict
	future    time.Time // the latest timestamp
	claims    []claim   // what it says of families that writers disagree on
}

// state is what is known of the writer.
func (f *file) state() mmapfile.State { return f.verdict.State }

// lookAtFiles reads all value files of a directory, and names what is none. Of families
// that writers disagree on it notes who says what.
func lookAtFiles(ctx context.Context, o Options, s *suspected) (files []file, others []string, err error) {
	entries, err := os.ReadDir(o.Path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		name, ok := mmapfile.ParseName(e.Name())
		if !ok {
			if !mmapfile.Own(e.Name()) {
				others = append(others, e.Name())
			}
			continue
		}
		f := file{base: e.Name(), name: name, writer: name.Writer(false)}
		if err := f.look(o, s); !errors.Is(err, fs.ErrNotExist) { // gone, or folded, since it was listed
			files = append(files, f)
		}
	}
	return files, others, nil
}

// look opens and reads the file. The error is that there is none.
func (f *file) look(o Options, s *suspected) error {
	path := filepath.Join(o.Path, f.base)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	f.inode, f.size, f.allocated = mmapfile.ID(info).Inode(), info.Size(), mmapfile.Allocated(info)
	f.uid, _ = mmapfile.Owner(info)
	f.age = o.Now().Sub(info.ModTime())
	opened, err := mmapfile.OpenFile(path)
	if err != nil {
		f.unopened = err
		return err
	}
	defer opened.Close()
	if f.name.IsArchive() {
		_, err := opened.Included(f.name)
		f.archive, f.noArchive = err == nil, err
	}
	if !f.archive {
		f.verdict = multiproc.Probe(opened, f.name, o.Liveness)
	}
	stamps := f.name.Mode.Base() == mmapfile.MostRecent
	var values []uint32
	entry := func(e mmapfile.Entry) error {
		k, err := mmapfile.ParseKey(e.Key)
		if err != nil {
			return err
		}
		if stamps {
			values = append(values, e.Value)
		}
		if f.entries++; f.entries == 1 {
			f.ruby, f.old = k.Ruby, k.Items == 3
			f.writer = f.name.Writer(k.Ruby)
		}
		f.claims = s.note(f.claims, f.name, &k)
		return nil
	}
	// A writer may be caught half way, but not time and again.
	for range 3 {
		if f.damage = opened.Walk(entry); f.damage == nil {
			break
		}
	}
	f.layout = opened.Layout()
	if stamps && f.layout == mmapfile.ValueTimestamp {
		fault := mmapfile.Guard(func() {
			for _, off := range values {
				if at, ok := opened.Bytes().Float64(off + 8); ok && at > seconds(f.future) && !math.IsInf(at, 1) {
					f.future = time.Unix(int64(min(at, 1e11)), 0) // years that a clock can have
				}
			}
		})
		f.damage = errors.Join(f.damage, fault)
	}
	return nil
}

// seconds is a time as a timestamp, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// damage tells of files that can't be read, or not to their end.
func damage(files []file) (found []Finding) {
	var damaged, denied []string
	for i := range files {
		switch f := &files[i]; {
		case errors.Is(f.unopened, fs.ErrPermission):
			denied = append(denied, fmt.Sprintf("%s (user %d)", f.base, f.uid))
		case f.unopened != nil:
			damaged = append(damaged, fmt.Sprintf("%s: %v", f.base, reason(f.unopened)))
		case f.damage != nil:
			damaged = append(damaged, fmt.Sprintf("%s (%v, %s read): %v", f.base, f.state(), counted(f.entries, "entry", "entries"), f.damage))
		}
	}
	if len(damaged) > 0 {
		found = append(found, finding("PA401", damaged, "%s damaged", are(len(damaged), "file")))
	}
	if len(denied) > 0 {
		found = append(found, finding("PA407", denied, "user %d can't open %s", os.Geteuid(), plural(len(denied), "file")))
	}
	return found
}

// archives tells of files that only have an archive's name.
func archives(files []file) (found []Finding) {
	for i := range files {
		if f := &files[i]; f.noArchive != nil {
			found = append(found, finding("PA402", []string{fmt.Sprintf("%s: %v", f.base, f.noArchive)}, "%s is no archive", f.base))
		}
	}
	return found
}

// names tells of what somebody may have meant to be value files.
func names(others []string) []Finding {
	var near []string
	for _, base := range others {
		if why := nearly(base); why != "" {
			near = append(near, base+": "+why)
		}
	}
	if len(near) == 0 {
		return nil
	}
	return []Finding{finding("PA403", near, "%s a name that is nearly a value file's", have(len(near), "file"))}
}

// nearly says what keeps a name from being a value file's, "" if it is far from one.
func nearly(base string) string {
	lower := strings.ToLower(base)
	word, rest, _ := strings.Cut(lower, "_")
	if cut := strings.IndexAny(lower, "-. "); cut >= 0 && cut < len(word) {
		word = lower[:cut]
	}
	typed := false
	for t := mmapfile.Counter; t <= mmapfile.Summary; t++ {
		typed = typed || word == t.String() || word == t.String()+"s"
	}
	ended := strings.HasSuffix(lower, ".db")
	switch {
	case strings.HasSuffix(lower, ".dbx"):
		return "" // the Go client's, for what a value file has no room for
	case typed && ended && base != lower && valid(lower):
		return "names are in lower case"
	case typed && !ended && strings.Contains(lower, ".db"):
		return "it does not end in .db"
	case typed && ended && word == mmapfile.Gauge.String() && strings.Contains(rest, "_"):
		mode, _, _ := strings.Cut(rest, "_")
		return fmt.Sprintf("%q is no mode of a gauge", mode)
	case typed && ended:
		return "it is not TYPE_ID.db or gauge_MODE_ID.db"
	case ended:
		return "it begins with no type (counter, gauge, histogram, summary)"
	}
	return ""
}

func valid(base string) bool {
	_, ok := mmapfile.ParseName(base)
	return ok
}

// layouts tells of clients that are old.
func layouts(files []file) []Finding {
	old := make(map[string][]string)
	n := 0
	for i := range files {
		f := &files[i]
		if f.layout != mmapfile.ValueOnly || f.ruby || f.archive {
			continue
		}
		client := "Python 0.16 to 0.17"
		if f.old {
			client = "Python up to 0.15"
		}
		old[client] = append(old[client], f.base)
		n++
	}
	if n == 0 {
		return nil
	}
	var lines []string
	for _, client := range slices.Sorted(maps.Keys(old)) {
		lines = append(lines, fmt.Sprintf("%s: %s", client, strings.Join(some(old[client], 4), ", ")))
	}
	return []Finding{finding("PA408", lines, "%s in the layout without timestamps", are(n, "file"))}
}

// ahead is how far clocks may differ.
const ahead = time.Minute

// clocks tells of timestamps that are yet to come.
func clocks(files []file, now time.Time) []Finding {
	var future []string
	for i := range files {
		if f := &files[i]; f.future.After(now.Add(ahead)) {
			future = append(future, fmt.Sprintf("%s: %s, %s from now", f.base, f.future.UTC().Format(time.RFC3339), f.future.Sub(now).Round(time.Second)))
		}
	}
	if len(future) == 0 {
		return nil
	}
	return []Finding{finding("PA409", future, "%s timestamps that are in the future", have(len(future), "file"))}
}

// reason is an error without the operation and path that PathErrors have.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
