package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/promagg/promagg/internal/multiproc"
	"github.com/promagg/promagg/internal/remotewrite"
)

// TestRemoteWriteDocs: docs/remote-write.md has every flag and every metric, and the
// metrics are named as metrics should be.
func TestRemoteWriteDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/remote-write.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(b)

	var flags []string
	common := make(map[string]bool)
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		common[f.Name] = true
		if strings.HasPrefix(f.Name, "remote-write.") {
			flags = append(flags, f.Name)
		}
	})
	newExport().Flags().VisitAll(func(f *pflag.Flag) {
		if !common[f.Name] {
			flags = append(flags, f.Name)
		}
	})
	if !slices.Contains(flags, "once") || !slices.Contains(flags, "remote-write.url") {
		t.Fatalf("flags %q: this test looks at the wrong ones", flags)
	}
	for _, name := range flags {
		if !strings.Contains(docs, "`--"+name+"`") {
			t.Errorf("--%s is not in the docs", name)
		}
	}

	d := multiproc.Open(multiproc.Options{Path: t.TempDir()})
	defer d.Close()
	e, err := remotewrite.New(d, remotewrite.Options{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	s := newSelf(multiproc.NewGroup(d), "app", nil, nil)
	s.remote = e
	got := lawful(t, s)
	metrics := 0
	for _, f := range got {
		if strings.HasPrefix(f.GetName(), "promagg_remote_write_") {
			metrics++
			if !strings.Contains(docs, "| `"+f.GetName()+"` |") {
				t.Errorf("%s is not in the docs", f.GetName())
			}
		}
	}
	if metrics == 0 {
		t.Error("no metrics of remote write")
	}
	for _, why := range remotewrite.DroppedReasons() {
		if !strings.Contains(docs, "`"+why.String()+"`") {
			t.Errorf("the reason %s is not in the docs", why)
		}
	}
}
