package collectors

import (
	"os"
	"runtime"
	"strings"

	"github.com/promagg/promagg/pkg/client"
)

// NewPlatformCollector returns a collector of what the process runs on:
// go_platform_info, with the labels goos, goarch and, where /proc tells it,
// kernel, the kernel's release. The Go version is go_info's, of [NewGoCollector].
func NewPlatformCollector() client.Collector {
	labels := client.Labels{"goos": runtime.GOOS, "goarch": runtime.GOARCH}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		labels["kernel"] = strings.ToValidUTF8(strings.TrimSpace(string(release)), "\uFFFD")
	}
	return newInfo("go_platform_info", "Platform that the process runs on.", labels)
}
