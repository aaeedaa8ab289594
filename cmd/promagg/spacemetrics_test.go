package main

import (
	"path/filepath"
	"testing"
)

func TestSpaceMetrics(t *testing.T) {
	dir := t.TempDir()
	var got gathered
	got.space(dir)
	values := map[string]float64{}
	for _, f := range got.families {
		values[f.GetName()] = f.Metric[0].Gauge.GetValue()
	}
	for free, of := range map[string]string{
		"promagg_filesystem_free_bytes":  "promagg_filesystem_size_bytes",
		"promagg_filesystem_free_inodes": "promagg_filesystem_inodes",
	} {
		if values[free] <= 0 || values[free] > values[of] {
			t.Errorf("%s is %v, want more than 0 and at most %s, %v", free, values[free], of, values[of])
		}
	}
	var gone gathered
	if gone.space(filepath.Join(dir, "gone")); len(gone.families) > 0 {
		t.Errorf("a directory that is not there has %v", gone.families)
	}
}
