package collectors_test

import (
	"bytes"
	"maps"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	original "github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promagg/promagg/internal/expose"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/pkg/client"
	"github.com/promagg/promagg/pkg/client/collectors"
)

// worker registers collectors as a process of its own would.
func worker(t *testing.T, dir, id string, cs ...client.Collector) {
	t.Helper()
	r := client.NewRegistry(client.Options{Dir: dir, ProcessID: id})
	t.Cleanup(func() {
		if err := r.Err(); err != nil {
			t.Errorf("process %s: %v", id, err)
		}
		r.Close()
	})
	r.MustRegister(cs...)
}

// served returns the families that promagg serves of a directory, but for the
// client's own.
func served(t *testing.T, dir string) map[string]*dto.MetricFamily {
	t.Helper()
	d := multiproc.Open(multiproc.Options{Path: dir, Liveness: mmapfile.ProbeAuto})
	defer d.Close()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := expose.Append(nil, expose.Text, s, nil)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return strings.HasPrefix(name, "promagg_client_") })
	return families
}

// originals returns the families of client_golang's collectors.
func originals(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(original.NewGoCollector(), original.NewProcessCollector(original.ProcessCollectorOpts{}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// value returns the value of a family of one series; a summary's is its sum.
func value(t *testing.T, f *dto.MetricFamily) float64 {
	t.Helper()
	if len(f.GetMetric()) != 1 {
		t.Fatalf("want one series, got %v", f)
	}
	m := f.Metric[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetSummary().GetSampleSum()
}

// notOurs are families that sums over workers make no sense of.
var notOurs = []string{"process_network_receive_bytes_total", "process_network_transmit_bytes_total", "process_virtual_memory_max_bytes"}

func TestLikeOriginals(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("without /proc there are no process metrics")
	}
	runtime.GC() // so that there is a last one
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	dir := t.TempDir()
	busy := 0
	for range int(1e8) { // some CPU time
		busy++
	}
	before := originals(t)
	worker(t, dir, "1", collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	after := originals(t)
	got := served(t, dir)

	want := slices.DeleteFunc(slices.Sorted(maps.Keys(before)), func(name string) bool { return slices.Contains(notOurs, name) })
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("families (-client_golang +ours):\n%s", diff)
	}
	exact := []string{"process_max_fds", "process_start_time_seconds", "go_info", "go_gc_duration_seconds",
		"go_memstats_last_gc_time_seconds", "go_sched_gomaxprocs_threads", "go_gc_gogc_percent", "go_gc_gomemlimit_bytes"}
	// Nothing is collected between the two, so most values only grow. Not these: the
	// runtime takes memory from the system by up to 4 MiB and hands it out.
	moving := []string{"process_resident_memory_bytes", "go_memstats_other_sys_bytes", "go_memstats_heap_idle_bytes", "go_memstats_heap_released_bytes"}
	for _, name := range want {
		a, b, f := value(t, before[name]), value(t, after[name]), got[name]
		if f.GetType() != before[name].GetType() || f.GetHelp() != before[name].GetHelp() {
			t.Errorf("%s: want type %v, help %q, got %v, %q", name, before[name].GetType(), before[name].GetHelp(), f.GetType(), f.GetHelp())
		}
		slack := 0.02*math.Max(a, b) + 10 // a registry has a goroutine and descriptors
		if slices.Contains(moving, name) {
			slack += 8 << 20
		}
		if name == "process_cpu_seconds_total" {
			slack = 0.02 // two ticks of the kernel
		}
		if slices.Contains(exact, name) {
			slack = 1e-9 * math.Abs(a)
		}
		if v := value(t, f); v < min(a, b)-slack || v > max(a, b)+slack {
			t.Errorf("%s: want from %v to %v, give or take %v, got %v", name, a, b, slack, v)
		}
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_open_fds", "go_goroutines", "go_threads", "go_memstats_mallocs_total"} {
		if value(t, got[name]) <= 0 {
			t.Errorf("%s is %v", name, value(t, got[name]))
		}
	}
	// All are of one moment.
	for name, difference := range map[string][2]string{
		"go_memstats_heap_objects":    {"go_memstats_mallocs_total", "go_memstats_frees_total"},
		"go_memstats_heap_idle_bytes": {"go_memstats_heap_sys_bytes", "go_memstats_heap_inuse_bytes"},
	} {
		if v, want := value(t, got[name]), value(t, got[difference[0]])-value(t, got[difference[1]]); v != want {
			t.Errorf("%s: want %s - %s, %v, got %v", name, difference[0], difference[1], want, v)
		}
	}
	if n, want := got["go_gc_duration_seconds"].Metric[0].GetSummary().GetSampleCount(), before["go_gc_duration_seconds"].Metric[0].GetSummary().GetSampleCount(); n != want || n == 0 {
		t.Errorf("go_gc_duration_seconds_count: want %d, got %d", want, n)
	}
	if diff := cmp.Diff(before["go_info"].Metric[0].Label[0].GetValue(), got["go_info"].Metric[0].Label[0].GetValue()); diff != "" {
		t.Error(diff)
	}
}

// pids returns how many series of a family have the label pid.
func pids(f *dto.MetricFamily) (n int) {
	for _, m := range f.GetMetric() {
		if slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "pid" }) {
			n++
		}
	}
	return n
}

// TestWorkers: the same process as two workers counts twice where that is what
// a sum over workers is.
func TestWorkers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("without /proc there are no process metrics")
	}
	dir, each := t.TempDir(), t.TempDir()
	for _, id := range []string{"1", "2"} {
		worker(t, dir, id, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector(), collectors.NewPlatformCollector())
		worker(t, each, id, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "app", PerProcess: true}),
			collectors.NewGoCollector(collectors.WithGoCollectorPerProcess()))
	}
	one, sum, apart := originals(t), served(t, dir), served(t, each)
	times := func(name string, n float64) {
		t.Helper()
		if got, want := value(t, sum[name]), n*value(t, one[name]); math.Abs(got-want) > 1e-9*want {
			t.Errorf("%s: want %v, got %v", name, want, got)
		}
	}
	times("process_max_fds", 2)
	times("go_sched_gomaxprocs_threads", 2)
	times("go_gc_gogc_percent", 1)
	times("go_gc_gomemlimit_bytes", 1)
	times("go_info", 1)
	if got := len(sum["go_platform_info"].GetMetric()); got != 1 {
		t.Errorf("go_platform_info has %d series", got)
	}
	if n := pids(sum["process_start_time_seconds"]); n != 2 {
		t.Errorf("process_start_time_seconds: %d series have a pid, want 2", n)
	}
	for name, f := range sum {
		if name != "process_start_time_seconds" && pids(f) > 0 {
			t.Errorf("summed: %s has a pid", name)
		}
	}
	for name, f := range apart {
		want := 2
		if f.GetType() != dto.MetricType_GAUGE || name == "go_info" {
			want = 0
		}
		if n := pids(f); n != want {
			t.Errorf("per process: %s has %d series with a pid, want %d", name, n, want)
		}
	}
	if apart["app_process_open_fds"] == nil || apart["process_open_fds"] != nil {
		t.Error("the namespace is not in the names")
	}
}

func TestPlatform(t *testing.T) {
	dir := t.TempDir()
	worker(t, dir, "1", collectors.NewPlatformCollector())
	got := make(map[string]string)
	for _, l := range served(t, dir)["go_platform_info"].GetMetric()[0].GetLabel() {
		got[l.GetName()] = l.GetValue()
	}
	want := map[string]string{"goos": runtime.GOOS, "goarch": runtime.GOARCH}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		want["kernel"] = strings.TrimSpace(string(release))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
