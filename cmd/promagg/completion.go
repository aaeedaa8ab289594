package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// addCompletions lets the shell complete what flags take: one of a few words, or a
// directory. It is to be called when all commands have their flags.
func addCompletions(root *cobra.Command) {
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			var err error
			if w, ok := f.Value.(interface{ words() []string }); ok {
				err = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(slices.Clone(w.words()), cobra.ShellCompDirectiveNoFileComp))
			} else if f.Name == "dir" {
				err = cmd.MarkFlagDirname(f.Name)
			}
			if err != nil {
				panic(err) // there is such a flag, and it has had no completion
			}
		})
	})
}
