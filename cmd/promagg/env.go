package main

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envPrefix begins the names of the environment variables that stand for flags.
const envPrefix = "PROMAGG_"

// notFlags begin names of variables that have the prefix and stand for no flag: those
// that Kubernetes sets for a service named promagg, those of the client library and
// of the demonstration, and those of the tests.
var notFlags = []string{"PROMAGG_SERVICE_", "PROMAGG_PORT", "PROMAGG_PROCESS_ID", "PROMAGG_DEMO_STARTED", "PROMAGG_TEST_"}

// envName is the variable that stands for a flag, whatever command it is of.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(flag))
}

// hasEnv reports whether a flag has a variable. Those that cobra adds have none, nor has
// that which prints the version: images set PROMAGG_VERSION to theirs.
func hasEnv(f *pflag.Flag) bool {
	return !f.Hidden && !slices.Contains([]string{"help", "no-descriptions", "version"}, f.Name)
}

// addEnv lets variables stand for the flags of all commands, and has their help name
// them. It is to be called when all commands have their flags.
func addEnv(root *cobra.Command) {
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return applyEnv(cmd) }
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if hasEnv(f) {
				f.Usage += " ($" + envName(f.Name) + ")"
			}
		})
	})
}

func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, do)
	}
}

// applyEnv sets the flags that are not on the command line and have a variable.
// An empty one counts as none, as with the variables of the clients.
func applyEnv(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		value := os.Getenv(name)
		if err != nil || f.Changed || value == "" || !hasEnv(f) {
			return
		}
		values := []string{value}
		if repeatable(f.Value) {
			values = elements(value)
		}
		for _, v := range values {
			if failed := cmd.Flags().Set(f.Name, v); failed != nil {
				err = usageError{fmt.Errorf("environment variable %s: %w", name, plainly(failed))}
				return
			}
		}
	})
	return err
}

// repeatable reports whether a flag may be given more than once. A type of ours says
// so by a method Repeatable.
func repeatable(v pflag.Value) bool {
	if _, ok := v.(interface{ Repeatable() }); ok {
		return true
	}
	_, ok := v.(pflag.SliceValue)
	return ok
}

// elements are the values of a flag that may be given more than once: what is between
// commas or line breaks. A comma that belongs to a value has a backslash before it.
func elements(s string) []string {
	var list []string
	var b strings.Builder
	end := func() {
		if e := strings.TrimSpace(b.String()); e != "" {
			list = append(list, e)
		}
		b.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ',':
			b.WriteByte(',')
			i++
		case s[i] == ',' || s[i] == '\n':
			end()
		default:
			b.WriteByte(s[i])
		}
	}
	end()
	return list
}

// warnUnknownEnv warns of variables that look as if they stood for a flag and do not:
// who has misspelt one would wait for its effect for ever.
func warnUnknownEnv(cmd *cobra.Command, log *slog.Logger) {
	known := make(map[string]bool)
	eachCommand(cmd.Root(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[envName(f.Name)] = hasEnv(f) })
	})
	unknown := make(map[string]bool)
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		exempt := slices.ContainsFunc(notFlags, func(p string) bool { return strings.HasPrefix(name, p) })
		if strings.HasPrefix(name, envPrefix) && !known[name] && !exempt {
			unknown[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		log.Warn("an environment variable stands for no flag", "name", name, "hint", cmd.CommandPath()+" --help names those that do")
	}
}
