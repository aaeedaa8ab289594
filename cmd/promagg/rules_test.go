package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/promslog"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/multiproc"
)

func describe(r merge.Rules) string {
	var all []string
	for _, m := range r.Modes {
		all = append(all, fmt.Sprintf("mode %s %s", m.Family, m.Mode))
	}
	for _, e := range r.Drop {
		all = append(all, fmt.Sprintf("drop %s", e))
	}
	for _, l := range r.DropLabels {
		all = append(all, fmt.Sprintf("drop-label %s %s", l.Family, l.Label))
	}
	for _, l := range r.Labels {
		all = append(all, fmt.Sprintf("label %s=%s", l.Name, l.Value))
	}
	return strings.Join(all, "; ")
}

// TestRuleFlags: what flags and a file say, and what they may not say.
func TestRuleFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(`
gauge_modes:
  - {family: "mem_.*", mode: livesum}
drop: ["go_.*"]
drop_labels:
  - {family: ".*", label: path}
labels: {zone: a, app: web}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := filepath.Join(t.TempDir(), "nobody.yml")
	if err := os.WriteFile(nobody, []byte("drop_labels: [{label: path}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yml")
	if err := os.WriteFile(bad, []byte("gauge_mode: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	written := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name  string
		flags ruleFlags
		want  string // or a part of the error
	}{
		{"none", ruleFlags{}, ""},
		{"all", ruleFlags{modes: []string{"a=b=max", ".*_info=max"}, drop: []string{"x|y"}, dropLabels: []string{"h=le2"}, labels: []string{"k=v=w"}},
			"mode ^(?:a=b)$ max; mode ^(?:.*_info)$ max; drop ^(?:x|y)$; drop-label ^(?:h)$ le2; label k=v=w"},
		{"file", ruleFlags{modes: []string{"mem_x=max"}, labels: []string{"k=v"}, file: file},
			"mode ^(?:mem_x)$ max; mode ^(?:mem_.*)$ livesum; drop ^(?:go_.*)$; drop-label ^(?:.*)$ path; label app=web; label k=v; label zone=a"},
		{"no mode", ruleFlags{modes: []string{"max"}}, `--gauge.mode: want REGEX=MODE, got "max"`},
		{"other mode", ruleFlags{modes: []string{"x=avg"}}, `want one of the modes all, liveall, min, livemin, max, livemax, sum, livesum, got "avg"`},
		{"mostrecent", ruleFlags{modes: []string{"x=mostrecent"}}, "needs the times that only writers of that mode store"},
		{"expression", ruleFlags{drop: []string{"("}}, "--drop (: error parsing regexp: missing closing )"},
		{"half of an expression", ruleFlags{drop: []string{"a)|(b"}}, "--drop a)|(b: error parsing regexp: unexpected ): `a)|(b`"},
		{"no expression", ruleFlags{modes: []string{"=max"}}, "--gauge.mode =max: want a regular expression for names of families, got none"},
		{"no family in the file", ruleFlags{file: nobody}, "--rules.file " + nobody + ": drop_labels, number 1: want a regular expression"},
		{"the second rule", ruleFlags{file: written("second", "gauge_modes: [{family: a, mode: max}, {family: b}]")}, ": gauge_modes, number 2: want one of the modes"},
		{"the third expression", ruleFlags{file: written("third", "drop: [a, b, (]")}, ": drop, number 3: error parsing regexp"},
		{"another document", ruleFlags{file: written("two", "drop: [a]\n---\ndrop: [b]\n")}, "want one YAML document"},
		{"an empty file", ruleFlags{file: written("empty", "")}, ""},
		{"comments only", ruleFlags{file: written("comments", "# drop: [a]\n---\n")}, ""},
		{"a map for a list", ruleFlags{file: written("map", "gauge_modes: {x: max}")}, "map: line 1: cannot unmarshal !!map$"},
		{"unknown field of a rule", ruleFlags{file: written("field", "gauge_modes: [{family: x, mode: max, of: 1}]")}, "field: line 1: field of not found$"},
		{"le", ruleFlags{dropLabels: []string{".*=le"}}, `label "le" is what a histogram or summary is made of`},
		{"pid", ruleFlags{dropLabels: []string{".*=pid"}}, "use --gauge.mode to merge them"},
		{"label name", ruleFlags{labels: []string{"a-b=c"}}, `bad label name "a-b"`},
		{"label", ruleFlags{labels: []string{"ab"}}, "--label: want NAME=VALUE"},
		{"label without a value", ruleFlags{labels: []string{"a="}}, "--label a=: label a has no value"},
		{"label without a value in the file", ruleFlags{file: written("label", "labels: {zone: }")}, "label: labels: label zone has no value"},
		{"label value", ruleFlags{labels: []string{"a=\xff"}}, "the value of label a is not UTF-8"},
		{"label twice", ruleFlags{labels: []string{"app=jobs"}, file: file}, `--rules.file ` + file + `: labels: label app has another value already, "jobs"`},
		{"two at once", ruleFlags{drop: []string{"("}, labels: []string{"le=1"}}, `label "le"`},
		{"unknown field", ruleFlags{file: bad}, "field gauge_mode not found"},
		{"no file", ruleFlags{file: "/nowhere/rules.yml"}, "--rules.file: open /nowhere/rules.yml: no such file"},
	} {
		r, err := c.flags.rules()
		text := fmt.Sprint(err, "$") // by which a part can say that it is the end
		if got := describe(r); err == nil && got != c.want || err != nil && !strings.Contains(text, c.want) || err != nil && c.want == "" {
			t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

// TestDirFlags: names, and what of several directories can't be.
func TestDirFlags(t *testing.T) {
	t.Setenv(dirEnv[0], "/from/env")
	work := t.TempDir()
	t.Chdir(work)
	if err := errors.Join(os.Mkdir("there", 0o700), os.Symlink("there", "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		given []string
		want  string // or a part of the error
	}{
		{nil, "[{ /from/env}]"},
		{[]string{"/run/a=b"}, "[{ /run/a=b}]"},
		{[]string{"./a=b"}, "[{ ./a=b}]"},
		{[]string{"web=/run/a=b"}, "[{web /run/a=b}]"},
		{[]string{"web=/run/web", "jobs=/run/jobs"}, "[{web /run/web} {jobs /run/jobs}]"},
		{[]string{"web=/run/web", "/run/jobs"}, "each needs a name: NAME=/run/jobs"},
		{[]string{"web=/run/web", "web=/run/jobs"}, "the name is that of /run/web already"},
		{[]string{"web=/run/web", "jobs=/run/web/"}, "/run/web, which is there already"},
		{[]string{""}, "want a path"},
		{[]string{"web="}, "--dir web=: want a path behind the name, got none"},
		{[]string{"my app=/run/web"}, `in a name, got "my app"; of a path that has a = write ./my app=/run/web`},
		{[]string{"=/run/web"}, `in a name, got ""`},
		{[]string{"web=there", "jobs=link"}, "--dir jobs=link: that is the directory there, which is there already"},
		{[]string{"web=there", "jobs=" + filepath.Join(work, "there")}, "that is the directory there"},
		{[]string{"web=gone", "jobs=" + filepath.Join(work, "gone")}, "that is the directory gone"},
	} {
		f := dirsFlag{given: c.given, label: "app"}
		dirs, err := f.directories()
		if got := fmt.Sprint(dirs); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %s, %v; want %s", c.given, got, err, c.want)
		}
	}
}

// TestReloadEarly: SIGHUP may come before there is anything to reload.
func TestReloadEarly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dirs, rules := dirsFlag{given: []string{t.TempDir()}, label: "app"}, ruleFlags{file: file}
	options, err := dirs.options(&rules, multiproc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	group := openAll(options)
	defer group.Close()
	var reloads reloader
	var early sync.WaitGroup
	early.Go(func() {
		if err := reloads.reload(promslog.NewNopLogger()); err != nil {
			t.Error(err)
		}
	})
	rules.reloadBy(&reloads, &dirs, group, options)
	early.Wait()
	if err := os.WriteFile(file, []byte("drop: [x]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changes, err := reloads.all[0].do(); err != nil || fmt.Sprint(changes) != "[+ --drop x]" {
		t.Errorf("changes %q, %v", changes, err)
	}
}
