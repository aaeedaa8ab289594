package multiproc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/testpeer"
)

// fullSize has the hostile files made as large as docs/security.md has them, and
// read with the default limits: some minutes, and some gigabytes. Otherwise all is
// a 250th of that.
var fullSize = os.Getenv("PROMAGG_TEST_FULL") != ""

// scaled is n, or a 250th of it.
func scaled(n int64) int64 {
	if fullSize {
		return n
	}
	return n / 250
}

// What docs/security.md says that a file, an entry, a series (as --limit.series counts
// them) and a byte of its names and labels take of the heap at most, and all the rest.
const (
	fileCost, entryCost, seriesCost, byteCost = 4 << 10, 40, 1 << 10, 4
	restCost                                  = 2 << 20
)

// liveHeap returns how much of the heap is in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what the first one leaves to finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// writeImage makes a value file of n entries, of which nobody is the writer.
func writeImage(t *testing.T, dir, base string, n int64, key func(i int64) string) {
	t.Helper()
	im := mmapfile.NewImage(mmapfile.ValueOnly)
	for i := range n {
		im.Append([]byte(key(i)), 1, 0)
	}
	if err := os.WriteFile(filepath.Join(dir, base), im.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeTiny makes a value file of n entries of the same key.
func writeTiny(t *testing.T, dir, base, key string, n int64) {
	t.Helper()
	im := mmapfile.NewImage(mmapfile.ValueOnly)
	im.Append([]byte(key), 1, 0)
	head, entry := im.Bytes()[:8], im.Bytes()[8:]
	b := append(bytes.Clone(head), bytes.Repeat(entry, int(n))...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	if err := os.WriteFile(filepath.Join(dir, base), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// hostile are the ways to take a daemon's memory. Each makes its files in a directory
// and says for which reason, if any, the default limits leave out what.
var hostile = []struct {
	name    string
	make    func(t *testing.T, dir string)
	reasons []merge.Reason
	damaged bool // a file is damaged, or cut off
}{
	{"used of 2 GiB", func(t *testing.T, dir string) {
		b := whole(t)
		binary.LittleEndian.PutUint32(b, 1<<31-8)
		path := filepath.Join(dir, "counter_9.db")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 1<<31-1); err != nil {
			t.Fatal(err)
		}
	}, nil, true},
	{"tiny entries", func(t *testing.T, dir string) {
		writeTiny(t, dir, "counter_9.db", `["a","a",{}]`, scaled(10_000_000))
	}, nil, false},
	{"more tiny entries", func(t *testing.T, dir string) {
		for i := range 6 { // of which each gets less room than the one before
			writeTiny(t, dir, fmt.Sprintf("gauge_max_9%d.db", i), `["a","a",{}]`, scaled(15_000_000))
		}
	}, []merge.Reason{merge.PastEntries}, false},
	{"tiny cumulative buckets", func(t *testing.T, dir string) {
		writeTiny(t, dir, "histogram_9.db", `["a","a_bucket",["le"],["1"]]`, scaled(10_000_000))
	}, nil, false},
	{"a million series", func(t *testing.T, dir string) {
		writeImage(t, dir, "counter_9.db", scaled(1_000_000), func(i int64) string { return fmt.Sprintf(`["a","a_total",{"l":"%d"}]`, i) })
	}, nil, false},
	{"more series", func(t *testing.T, dir string) {
		for k := range 3 {
			writeImage(t, dir, fmt.Sprintf("gauge_all_9%d.db", k), scaled(1_200_000), func(i int64) string { return fmt.Sprintf(`["a","a",{"l":"%d"}]`, i) })
		}
	}, []merge.Reason{merge.PastSeries}, false},
	{"a million families", func(t *testing.T, dir string) {
		writeImage(t, dir, "gauge_mostrecent_9.db", scaled(1_000_000), func(i int64) string { return fmt.Sprintf(`["a%d","a%d",{}]`, i, i) })
	}, nil, false},
	{"a million buckets", func(t *testing.T, dir string) {
		writeImage(t, dir, "histogram_9.db", scaled(1_000_000), func(i int64) string { return fmt.Sprintf(`["a","a_bucket",{"le":"%d"}]`, i) })
	}, []merge.Reason{merge.PastBuckets}, false},
	{"buckets of their own", func(t *testing.T, dir string) {
		writeImage(t, dir, "histogram_9.db", scaled(1_200_000), func(i int64) string { return fmt.Sprintf(`["a","a_bucket",{"l":"%d","le":"%d"}]`, i/100, i) })
	}, []merge.Reason{merge.PastSeries}, false},
	{"keys of 1 MiB", func(t *testing.T, dir string) {
		pad := strings.Repeat("x", 1<<20)
		writeImage(t, dir, "counter_9.db", scaled(300), func(i int64) string { return fmt.Sprintf(`["a","a_total",{"l":"%d%s"}]`, i, pad) })
	}, []merge.Reason{merge.PastKeyLength}, false},
	{"10000 labels", func(t *testing.T, dir string) {
		var labels []string
		for i := range 10_000 {
			labels = append(labels, fmt.Sprintf(`"l%d":""`, i))
		}
		writeTiny(t, dir, "counter_9.db", fmt.Sprintf(`["a","a_total",{%s}]`, strings.Join(labels, ",")), 200)
	}, []merge.Reason{merge.PastLabels}, false},
	{"label bombs", func(t *testing.T, dir string) {
		pad := strings.Repeat("x", 30_000)
		writeImage(t, dir, "counter_9.db", scaled(15_000), func(i int64) string { return fmt.Sprintf(`["a","a_total",{"l":"%d%s"}]`, i, pad) })
		writeImage(t, dir, "gauge_all_9.db", scaled(15_000), func(i int64) string { return fmt.Sprintf(`["g","g",{"l":"%d%s"}]`, i, pad) })
	}, []merge.Reason{merge.PastSeriesBytes}, false},
	{"help bombs", func(t *testing.T, dir string) {
		pad := strings.Repeat("x", 60_000)
		writeImage(t, dir, "counter_9.db", scaled(8_000), func(i int64) string { return fmt.Sprintf(`["a%d","a%d_total",{},"%s"]`, i, i, pad) })
	}, []merge.Reason{merge.PastSeriesBytes}, false},
	{"files", func(t *testing.T, dir string) {
		for i := range scaled(300_000) {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("counter_9_%d.db", i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}, nil, false},
}

// scaledLimits are the default limits, or a 250th of what bounds all files together.
func scaledLimits() *Limits {
	l := DefaultLimits()
	l.Files, l.Entries, l.Series, l.SeriesBytes = scaled(l.Files), scaled(l.Entries), scaled(l.Series), scaled(l.SeriesBytes)
	return &l
}

// TestHostile: whatever a writer does, the heap stays within what its limits come to,
// what was left out is counted and the file named, and everybody else's values are
// served: those that there were, at every change, and new ones.
func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			good, off := write(t, dir, "counter_1.db", "good_total", 1)
			limits := scaledLimits()
			if c.name == "10000 labels" {
				limits.KeyLength = 1 << 20 // else it is that which they are left out for
			}
			log := new(logBuffer)
			before := liveHeap()
			d := Open(Options{Path: dir, Limits: limits, Rescan: time.Hour, Logger: slog.New(slog.NewTextHandler(log, nil))})
			defer d.Close()
			d.freeze(true)
			want(t, "at first", values(t, d), "good_total", 1)
			c.make(t, dir)
			for i := range 3 {
				good.Value(off).Add(1)
				if got := values(t, d)["good_total"]; got != float64(2+i) {
					t.Errorf("good_total is %v, want %d", got, 2+i)
				}
				d.Sync(true)
			}
			s := d.Stats()
			taken := liveHeap() - before
			lines, text := d.index.Taken()
			bound := int64(s.Files)*fileCost + int64(s.Entries)*entryCost + lines*seriesCost + text*byteCost + restCost
			t.Logf("%d files, %d entries, %d series of %d bytes: %.1f MiB, of at most %.1f", s.Files, s.Entries, lines, text, float64(taken)/(1<<20), float64(bound)/(1<<20))
			if taken > bound {
				t.Errorf("the heap has grown by %d bytes, want at most %d", taken, bound)
			}
			if int64(s.Files) > limits.Files || int64(s.Entries) > limits.Entries || lines > limits.Series || text > limits.SeriesBytes {
				t.Errorf("past a limit: %d files, %d entries, %d series, %d bytes", s.Files, s.Entries, lines, text)
			}
			for _, r := range merge.Reasons() {
				expected := false
				for _, e := range c.reasons {
					expected = expected || r == e
				}
				if (s.Dropped[r] > 0) != expected {
					t.Errorf("%d entries are left out for %v", s.Dropped[r], r)
				}
				if n := log.count("WARN", "reason="+r.String(), "_9"); expected && n == 0 {
					t.Errorf("no file is named for %v:\n%s", r, log)
				}
			}
			if left := s.LeftOut > 0; left != (c.name == "files") || left && log.count("WARN", "--limit.files", "counter_9_") == 0 {
				t.Errorf("%d files are left out", s.LeftOut)
			}
			if damaged := s.Corrupt+s.CutOff > 0; damaged != c.damaged || damaged && log.count("WARN", "counter_9.db") == 0 {
				t.Errorf("%d damaged files, %d cut off", s.Corrupt, s.CutOff)
			}
			if n := log.count("counter_1.db"); n != 0 {
				t.Errorf("the good file is named:\n%s", log)
			}
			// A flood leaves room for what is new elsewhere.
			newer, err := good.Append([]byte(`["new", "new_total", {}, "Help."]`))
			if err != nil {
				t.Fatal(err)
			}
			good.Set(newer, 7)
			if got := values(t, d); got["new_total"] != 7 {
				t.Errorf("new_total is %v", got["new_total"])
			}
			runtime.KeepAlive(d)
		})
	}
}

// TestHostileUnmapped is the same for what is read because mappings are scarce: a file
// that claims to be large takes no memory for that.
func TestHostileUnmapped(t *testing.T) {
	dir := t.TempDir()
	good, off := write(t, dir, "counter_1.db", "good_total", 1)
	d := Open(Options{Path: dir, Rescan: time.Hour, Budget: mmapfile.NewBudget(10, 0)})
	defer d.Close()
	want(t, "at first", values(t, d), "good_total", 1)
	hostile[0].make(t, dir)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 3 {
		good.Value(off).Add(1)
		want(t, "with it", values(t, d), "good_total", 2+i, "a_total", 3, "b_total", 4)
		d.Sync(true)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 10<<20 {
		t.Errorf("%d bytes are allocated", n)
	}
}

// TestDuplicateKeys: what a file has several times counts several times, as for the
// Python client's collector.
func TestDuplicateKeys(t *testing.T) {
	dir := t.TempDir()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	writeTiny(t, dir, "counter_1.db", `["a","a_total",{}]`, 1000)
	writeTiny(t, dir, "histogram_1.db", `["h","h_bucket",{"le":"1.0"}]`, 1000)
	write(t, dir, "counter_2.db", "a_total", 5)
	want(t, "duplicates", values(t, d), "a_total", 1005, "h", 1000)
}

// opens tells who opens files, by inotify(7).
type opens struct {
	fd   int
	path map[int32]string
}

func watchOpens(t *testing.T, paths ...string) *opens {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	o := &opens{fd, make(map[int32]string)}
	for _, path := range paths {
		// Not IN_DONT_FOLLOW: of a link it is what it leads to.
		w, err := syscall.InotifyAddWatch(fd, path, syscall.IN_OPEN|syscall.IN_ACCESS)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		o.path[int32(w)] = path
	}
	return o
}

// seen returns what has been opened or read since the last call.
func (o *opens) seen(t *testing.T) (paths []string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := syscall.Read(o.fd, buf)
	if err != nil && err != syscall.EAGAIN {
		t.Fatal(err)
	}
	for rest := buf[:max(0, n)]; len(rest) >= syscall.SizeofInotifyEvent; {
		paths = append(paths, o.path[int32(binary.NativeEndian.Uint32(rest))])
		rest = rest[syscall.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:]):]
	}
	return paths
}

// TestNeverOpened: what is no regular file is not opened, nor is what a link leads to,
// even if that is a value file or /etc/shadow. None of it is in the log.
func TestNeverOpened(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	const secret = "c7f1secret"
	secretFile, valueFile, fifo := filepath.Join(outside, "secret"), filepath.Join(outside, "counter_1.db"), filepath.Join(outside, "fifo")
	writeTiny(t, outside, "counter_1.db", `["`+secret+`","`+secret+`",{}]`, 1)
	if err := os.WriteFile(secretFile, []byte(strings.Repeat("root:"+secret+":1:0:::::\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	in := func(base string) string { return filepath.Join(dir, base) }
	makers := map[string]func(path string) error{
		"counter_fifo.db":     func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"counter_char.db":     func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o644, 1<<8|5) },
		"counter_block.db":    func(path string) error { return syscall.Mknod(path, syscall.S_IFBLK|0o644, 7<<8) },
		"counter_socket.db":   func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o644, 0) },
		"counter_shadow.db":   func(path string) error { return os.Symlink("/etc/shadow", path) },
		"counter_secret.db":   func(path string) error { return os.Symlink(secretFile, path) },
		"counter_outside.db":  func(path string) error { return os.Symlink(valueFile, path) },
		"counter_relative.db": func(path string) error { return os.Symlink("../"+filepath.Base(outside)+"/counter_1.db", path) },
		"counter_tofifo.db":   func(path string) error { return os.Symlink(fifo, path) },
		"counter_inside.db":   func(path string) error { return os.Symlink("counter_1.db", path) },
		"counter_loop.db":     func(path string) error { return os.Symlink("counter_loop.db", path) },
		"counter_dir.db":      func(path string) error { return os.Mkdir(path, 0o755) },
	}
	for base, makeIt := range makers {
		if err := makeIt(in(base)); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
	}
	watched := watchOpens(t, secretFile, valueFile, fifo, in("counter_fifo.db"), in("counter_char.db"), in("counter_block.db"), in("counter_socket.db"), in("counter_dir.db"))
	d, log := open(t, dir, mmapfile.ProbeAuto)
	write(t, dir, "counter_1.db", "good_total", 1)
	for range 3 {
		want(t, "beside them", values(t, d), "good_total", 1)
		d.Sync(true)
	}
	if got := watched.seen(t); len(got) > 0 {
		t.Errorf("opened: %v", got)
	}
	if _, _, err := InspectDir(dir, mmapfile.ProbeAuto, true); err != nil {
		t.Error(err)
	}
	if got := watched.seen(t); len(got) > 0 {
		t.Errorf("opened by an inspection: %v", got)
	}
	for base := range makers {
		if n := log.count(base, "WARN", mmapfile.ErrNotRegular.Error()); n != 1 {
			t.Errorf("%s is named %d times", base, n)
		}
	}
	if s := d.Stats(); s.Corrupt != len(makers) {
		t.Errorf("%d corrupt files, want %d", s.Corrupt, len(makers))
	}
	if text := log.String(); strings.Contains(text, secret) || strings.Contains(text, "root:") {
		t.Errorf("the log has what a link leads to:\n%s", text)
	}
	// The watch would have told.
	if _, err := os.ReadFile(secretFile); err != nil {
		t.Fatal(err)
	}
	if got := watched.seen(t); len(got) == 0 {
		t.Error("a file was opened, and the watch does not tell")
	}
}

// TestLinkRace: a name that is a file at one look and a link out of the directory at
// the next never has what the link leads to opened.
func TestLinkRace(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	writeTiny(t, outside, "counter_1.db", `["secret","secret_total",{}]`, 1)
	secret := filepath.Join(outside, "counter_1.db")
	watched := watchOpens(t, secret)
	write(t, dir, "counter_1.db", "good_total", 1)
	swap := func(makeIt func(path string) error) error {
		path := filepath.Join(dir, "next")
		if err := makeIt(path); err != nil {
			return err
		}
		return os.Rename(path, filepath.Join(dir, "counter_2.db"))
	}
	stop, stopped := make(chan bool), make(chan error)
	swaps := 0
	go func() {
		file, link := whole(t), func(path string) error { return os.Symlink(secret, path) }
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err := swap(link)
			if err == nil {
				err = swap(func(path string) error { return os.WriteFile(path, file, 0o644) })
			}
			if err != nil {
				stopped <- err
				return
			}
			swaps++
		}
	}()
	d, _ := open(t, dir, mmapfile.ProbeAuto)
	files, links := 0, 0
	for deadline := time.Now().Add(10 * time.Second); (files < 200 || links < 200) && time.Now().Before(deadline); {
		got := values(t, d)
		if got["good_total"] != 1 || got["secret_total"] != 0 {
			t.Fatalf("got %v", got)
		}
		if got["a_total"] == 3 {
			files++
		} else {
			links++
		}
		d.Sync(true)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d swaps, seen as a file %d times, as a link %d times", swaps, files, links)
	if files == 0 || links == 0 {
		t.Error("it was never seen as both: the test shows nothing")
	}
	if got := watched.seen(t); len(got) > 0 {
		t.Errorf("what the link leads to was opened %d times", len(got))
	}
}

// TestHardLinks: a second name of a file is a second file, as a copy would be, and a
// file's other bits mean nothing.
func TestHardLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	d, log := open(t, dir, mmapfile.ProbeAuto)
	w, off := write(t, dir, "counter_1.db", "a_total", 1)
	if err := os.Link(filepath.Join(dir, "counter_1.db"), filepath.Join(dir, "counter_2.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "linked", values(t, d), "a_total", 2)
	w.Value(off).Add(10)
	want(t, "linked", values(t, d), "a_total", 22)
	// One from elsewhere that holds no values shows nothing of what it does hold.
	const secret = "c7f1secret"
	path := filepath.Join(outside, "secret")
	if err := os.WriteFile(path, []byte("root:"+strings.Repeat(secret, 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "counter_3.db")); err != nil {
		t.Fatal(err)
	}
	for bit, name := range map[os.FileMode]string{os.ModeSetuid: "u", os.ModeSetgid: "g", os.ModeSticky: "t"} {
		write(t, dir, "gauge_sum_"+name+".db", "bits", 1)
		if err := os.Chmod(filepath.Join(dir, "gauge_sum_"+name+".db"), 0o755|bit); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "with all", values(t, d), "a_total", 22, "bits", 3)
	if n := log.count("WARN"); n != 1 || log.count("counter_3.db") != 1 || strings.Contains(log.String(), secret[:6]) {
		t.Errorf("log:\n%s", log)
	}
	if err := os.Remove(filepath.Join(dir, "counter_2.db")); err != nil {
		t.Fatal(err)
	}
	want(t, "unlinked", values(t, d), "a_total", 11, "bits", 3)
}

// TestHostileChurn: a writer that fills its file anew, with other series each time, or
// makes file after file, leaves nothing behind.
func TestHostileChurn(t *testing.T) {
	rnd := testpeer.Rand(t)
	dir := t.TempDir()
	limits := scaledLimits()
	d := Open(Options{Path: dir, Limits: limits, Rescan: time.Hour})
	defer d.Close()
	write(t, dir, "counter_1.db", "good_total", 1)
	round := func(i int) {
		pad := strings.Repeat("x", rnd.IntN(500))
		typ := []string{"counter", "gauge_all", "gauge_max", "histogram", "summary"}[rnd.IntN(5)]
		suffix := map[string]string{"counter": "_total", "histogram": "_bucket", "summary": "_sum"}[typ]
		base := fmt.Sprintf("%s_%d.db", typ, 2+i%3)
		writeImage(t, dir, base, 100, func(k int64) string {
			le := ""
			if typ == "histogram" {
				le = fmt.Sprintf(`,"le":"%d.%d"`, i, k)
			}
			return fmt.Sprintf(`["f%d","f%d%s",{"l":"%d %s"%s},"help %d"]`, k%5, k%5, suffix, rnd.Uint32(), pad, le, i)
		})
		if i%7 == 0 {
			d.Sync(true)
		} else {
			want(t, "good", map[string]float64{"good_total": values(t, d)["good_total"]}, "good_total", 1)
		}
		if rnd.IntN(3) == 0 {
			if err := os.Remove(filepath.Join(dir, base)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 50 {
		round(i)
	}
	middle := liveHeap()
	for i := 50; i < 200; i++ {
		round(i)
	}
	end := liveHeap()
	t.Logf("%.1f MiB after 50 rounds, %.1f after 200", float64(middle)/(1<<20), float64(end)/(1<<20))
	if end > middle+4<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", middle, end)
	}
	runtime.KeepAlive(d)
}
