package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// genDocs runs the build of the program that makes documents.
func genDocs(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"run", "-buildvcs=false", "-tags", "gendocs", ".", "gen-docs"}, args...)...)
	cmd.Env = append(cmd.Environ(), "SOURCE_DATE_EPOCH=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return out
}

// TestCommandsPage: docs/cli.md is what --help prints.
func TestCommandsPage(t *testing.T) {
	const path = "../../docs/cli.md"
	made := genDocs(t, "markdown")
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(there), string(made)); diff != "" {
		t.Errorf("%s is not what the commands say (-page +commands); make docs makes it anew:\n%s", path, diff)
	}
	eachCommand(newRoot(), func(c *cobra.Command) {
		help := exec.Command("promagg", append(strings.Fields(c.CommandPath())[1:], "--help")...)
		out, err := help.Output()
		if err != nil {
			t.Fatalf("%s: %v", help, err)
		}
		if got := strings.Contains(string(there), "```text\n"+strings.TrimSpace(string(out))+"\n```\n"); got == c.Hidden {
			t.Errorf("%s: its help is on the page: %v", c.CommandPath(), got)
		}
	})
}

// TestManualPages: each command has a page, with all its flags; and the completion
// scripts are what the commands print.
func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	genDocs(t, "man", dir)
	pages := 0
	eachCommand(newRoot(), func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		pages++
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		if want := fmt.Sprintf(".TH %q \"1\" \"Jan 1970\" \"promagg\" \"promagg\"\n", strings.ToUpper(strings.ReplaceAll(c.CommandPath(), " ", "-"))); !strings.Contains(string(page), want) {
			t.Errorf("%s: no %s", c.CommandPath(), want)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if want := `\fB--` + f.Name + `\fP`; !strings.Contains(string(page), want) {
				t.Errorf("%s: no %s", c.CommandPath(), want)
			}
		})
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) != pages {
		t.Errorf("%d pages, %v; want %d", len(files), err, pages)
	}
	if man, err := exec.LookPath("man"); err == nil {
		out, err := exec.Command(man, "--warnings", "-l", filepath.Join(dir, "promagg-serve.1")).CombinedOutput()
		if err != nil || strings.Contains(string(out), "warning") || !strings.Contains(string(out), "--web.listen-address") {
			t.Errorf("man: %v\n%s", err, out)
		}
	}
	scripts := t.TempDir()
	genDocs(t, "completions", scripts)
	for shell, name := range map[string]string{"bash": "promagg.bash", "zsh": "_promagg", "fish": "promagg.fish"} {
		made, err := os.ReadFile(filepath.Join(scripts, name))
		if err != nil {
			t.Fatal(err)
		}
		printed, err := exec.Command("promagg", "completion", shell).Output()
		if err != nil || string(made) != string(printed) {
			t.Errorf("%s: %d bytes, want the %d that promagg completion prints, %v", shell, len(made), len(printed), err)
		}
	}
}
