package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/promagg/promagg/internal/merge"
	"github.com/promagg/promagg/internal/mmapfile"
	"github.com/promagg/promagg/internal/multiproc"
)

// dirsFlag are the directories that are served as one.
type dirsFlag struct {
	given []string
	label string
}

// namedDir is one of them. The name is what its series are labelled with, if it has one.
type namedDir struct{ name, path string }

func (f *dirsFlag) addFlags(cmd *cobra.Command) {
	f.addDirFlag(cmd)
	cmd.Flags().StringVar(&f.label, "dir.label", "app", "the label that tells the series of named directories apart")
}

// addDirFlag is addFlags for commands that serve no series, and have no use for a label.
func (f *dirsFlag) addDirFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.given, "dir", "d", nil, "multiprocess directory; `[NAME=]PATH`, more than once for several, each of which needs a name then (default $"+dirEnv[0]+", then $"+dirEnv[1]+")")
}

// dirName is the name of a directory, with the sign behind it. What has a slash before
// the sign is a path.
var dirName = regexp.MustCompile(`^([^/=]*)=(.*)$`)

var goodDirName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// directories returns the directories that --dir or the environment names.
func (f *dirsFlag) directories() ([]namedDir, error) {
	if len(f.given) == 0 {
		dir, err := directory("")
		return []namedDir{{path: dir}}, err
	}
	var dirs []namedDir
	for _, s := range f.given {
		d := namedDir{path: s}
		if m := dirName.FindStringSubmatch(s); m != nil {
			d = namedDir{m[1], m[2]}
		}
		switch {
		case s == "":
			return nil, usageError{errors.New("--dir: want a path, got none")}
		case d.path == "":
			return nil, usageError{fmt.Errorf("--dir %s: want a path behind the name, got none", s)}
		case d.path != s && !goodDirName.MatchString(d.name):
			return nil, usageError{fmt.Errorf("--dir %s: want letters, digits, _, . and - in a name, got %q; of a path that has a = write ./%s", s, d.name, s)}
		case d.name == "" && len(f.given) > 1:
			return nil, usageError{fmt.Errorf("--dir %s: of several directories each needs a name: NAME=%s", s, s)}
		}
		for _, o := range dirs {
			if o.name == d.name {
				return nil, usageError{fmt.Errorf("--dir %s: the name is that of %s already: choose another one", s, o.path)}
			}
			if sameDirectory(o.path, d.path) {
				return nil, usageError{fmt.Errorf("--dir %s: that is the directory %s, which is there already: give each one once", s, o.path)}
			}
		}
		dirs = append(dirs, d)
	}
	return dirs, nil
}

// checkLabel returns an error if the directories' label can't be one.
func (f *dirsFlag) checkLabel() error {
	if err := merge.CheckLabel(f.label); err != nil {
		return usageError{fmt.Errorf("--dir.label: %w", err)}
	}
	if slices.Contains(ownLabels, f.label) {
		return usageError{fmt.Errorf("--dir.label: promagg's own metrics have a label %s: choose another one", f.label)}
	}
	return nil
}

// sameDirectory reports whether two paths are one directory, of which all values would be
// there twice. Of a symbolic link that leads nowhere yet it can't be told.
func sameDirectory(a, b string) bool {
	one, errA := os.Stat(a)
	other, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(one, other)
	}
	a, errA = filepath.Abs(a)
	b, errB = filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// ownLabels are those of promagg's own metrics of a directory.
var ownLabels = []string{"kind", "limit", "probe", "reason", "state", "type", "worker"}

// rules returns the rules for one directory: those for all, and its label.
func (f *dirsFlag) rules(d namedDir, all merge.Rules) (merge.Rules, error) {
	if d.name == "" {
		return all, nil
	}
	if slices.ContainsFunc(all.Labels, func(l mmapfile.Label) bool { return l.Name == f.label }) {
		return all, usageError{fmt.Errorf("label %s is that of the directories' names: use --dir.label to have another one for these", f.label)}
	}
	all.Labels = append(slices.Clone(all.Labels), mmapfile.Label{Name: f.label, Value: d.name})
	slices.SortFunc(all.Labels, func(a, b mmapfile.Label) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	return all, nil
}

// options returns the options of each directory: those that all have, and its own.
func (f *dirsFlag) options(rules *ruleFlags, common multiproc.Options) (all []multiproc.Options, err error) {
	dirs, err := f.directories()
	if err != nil {
		return nil, err
	}
	if len(f.given) > 0 {
		if err := f.checkLabel(); err != nil {
			return nil, err
		}
	}
	shared, err := rules.rules()
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		o := common
		o.Path, o.Name = d.path, d.name
		if o.Rules, err = f.rules(d, shared); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// openAll opens directories.
func openAll(all []multiproc.Options) *multiproc.Group {
	var dirs []*multiproc.Dir
	for _, o := range all {
		dirs = append(dirs, multiproc.Open(o))
	}
	return multiproc.NewGroup(dirs...)
}

func paths(all []multiproc.Options) (list []string) {
	for _, o := range all {
		list = append(list, o.Path)
	}
	return list
}
