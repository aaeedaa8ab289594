//go:build gendocs

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// The program that is shipped can't make its own documents: it would have to carry
// the libraries for that.
func init() { moreCommands = append(moreCommands, newGenDocs) }

func newGenDocs() *cobra.Command {
	cmd := &cobra.Command{Use: "gen-docs", Short: "Make documents from the commands", Hidden: true}
	cmd.AddCommand(&cobra.Command{
		Use:   "markdown",
		Short: "Print docs/cli.md",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(markdown(cmd.Root()))
			return err
		},
	}, &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages, of the time that SOURCE_DATE_EPOCH says",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return man(cmd.Root(), args[0]) },
	}, &cobra.Command{
		Use:   "completions DIR",
		Short: "Write completion scripts",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return completions(cmd.Root(), args[0]) },
	})
	return cmd
}

// markdown has the help of all commands, as it is printed.
func markdown(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString(`# Commands

What ` + "`--help`" + ` prints of each command. This page is made from the program: ` + "`make docs`" + ` makes it anew.

Behind each flag stands, in parentheses, the environment variable that can be set in its place: see [Environment variables](web.md#environment-variables).
`)
	eachShown(root, func(cmd *cobra.Command) {
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			panic(err) // a buffer takes all
		}
		cmd.SetOut(nil)
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n", cmd.CommandPath(), strings.TrimSpace(help.String()))
	})
	return b.Bytes()
}

// eachShown visits a command and those below that help shows.
func eachShown(cmd *cobra.Command, do func(*cobra.Command)) {
	if cmd.Hidden {
		return
	}
	cmd.InitDefaultHelpFlag() // which is there only once the command runs
	do(cmd)
	for _, sub := range cmd.Commands() {
		eachShown(sub, do)
	}
}

func man(root *cobra.Command, dir string) error {
	date := time.Unix(0, 0).UTC()
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		var seconds int64
		if _, err := fmt.Sscan(epoch, &seconds); err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: want seconds since 1970, got %q", epoch)
		}
		date = time.Unix(seconds, 0).UTC()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Date: &date, Source: "promagg", Manual: "promagg"}, dir)
}

func completions(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func(string) error{
		"promagg.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_promagg":     root.GenZshCompletionFile,
		"promagg.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
