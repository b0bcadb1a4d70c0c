package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRootCmd builds the whole tree of commands.
func newRootCmd(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "outlet [OPTIONS] COMMAND",
		Short: "Run managed plugins without Docker",
		Long: `Run managed plugins without Docker.

"outlet daemon" runs plugins; every other command talks to a daemon. Commands
for plugins can be written "outlet X" and "outlet plugin X".`,
		Example: `  outlet daemon &
  outlet create example/dirvol ./examples/dirvol
  outlet enable example/dirvol
  outlet ls`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:                       cobra.ArbitraryArgs, // groupRun says what is wrong with them
		RunE:                       groupRun,
		Version:                    env.Build.Version,
	}
	root.SetVersionTemplate("Outlet version {{.Version}}, build " + env.Build.shortCommit() + "\n")
	root.Flags().BoolP("version", "v", false, "Print the version of this program and quit")
	conn := &connection{env: env}
	conn.addFlags(root.PersistentFlags())
	root.PersistentFlags().BoolP("help", "h", false, "Print usage")
	root.SetHelpCommand(newHelpCmd())
	root.SetHelpFunc(printHelp)
	root.SetUsageFunc(func(cmd *cobra.Command) error { printHelp(cmd, nil); return nil })
	root.SetFlagErrorFunc(flagError)

	root.AddCommand(pluginCommands(env, conn)...)
	plugin := &cobra.Command{
		Use:                   "plugin",
		Short:                 "Manage plugins, in Docker's words",
		DisableFlagsInUseLine: true,
		RunE:                  groupRun,
	}
	plugin.AddCommand(pluginCommands(env, conn)...)
	root.AddCommand(
		plugin,
		newVolumeCmd(env, conn),
		newLoginCmd(env, conn),
		newLogoutCmd(env),
		newVersionCmd(env, conn),
		newInfoCmd(env, conn),
		newSystemCmd(env, conn),
		newDaemonCmd(env),
		newCompletionCmd(env),
	)
	return root
}

// pluginCommands are those reachable both ways; each call builds them anew,
// since a command has one parent.
func pluginCommands(env *Env, conn *connection) []*cobra.Command {
	return []*cobra.Command{
		newInstallCmd(env, conn),
		newCreateCmd(env, conn),
		newListCmd(env, conn),
		newInspectCmd(env, conn),
		newEnableCmd(env, conn),
		newDisableCmd(env, conn),
		newSetCmd(env, conn),
		newUpgradeCmd(env, conn),
		newPushCmd(env, conn),
		newSaveCmd(env, conn),
		newLoadCmd(env, conn),
		newRemoveCmd(env, conn),
		newLogsCmd(env, conn),
		newEventsCmd(env, conn),
		newCallCmd(env, conn),
		newDiscoverCmd(env, conn),
		newExecCmd(env, conn),
		newInitCmd(env),
	}
}

// groupRun is what a command that only has subcommands does by itself.
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := fmt.Sprintf("outlet: unknown command: %s %s", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "\n\nDid you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s\n\nRun '%s --help' for more information", text, cmd.CommandPath())
}

func flagError(cmd *cobra.Command, err error) error {
	return usagef("%w\n\nUsage:  %s\n\nRun '%s --help' for more information", err, useLine(cmd), cmd.CommandPath())
}

// useLine is a command's usage with its full path.
func useLine(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return cmd.Use
	}
	return cmd.Parent().CommandPath() + " " + cmd.Use
}

// The rules for the number of arguments, and what is said when they are broken
// (docs/spec/engine-api.md §8.1).

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return countError(cmd, "accepts no arguments", "Run")
}

func minArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return countError(cmd, fmt.Sprintf("requires at least %d %s", n, plural(n, "argument")), "See")
	}
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return countError(cmd, fmt.Sprintf("requires at most %d %s", n, plural(n, "argument")), "Run")
	}
}

func rangeArgs(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && len(args) <= high {
			return nil
		}
		return countError(cmd, fmt.Sprintf("requires at least %d and at most %d %s", low, high, plural(high, "argument")), "Run")
	}
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return countError(cmd, fmt.Sprintf("requires %d %s", n, plural(n, "argument")), "Run")
	}
}

// countError exits with 1, not 2: Docker does, and scripts may compare.
func countError(cmd *cobra.Command, rule, verb string) error {
	return fmt.Errorf("outlet: '%s' %s\n\nUsage:  %s\n\n%s '%s --help' for more information",
		cmd.CommandPath(), rule, useLine(cmd), verb, cmd.CommandPath())
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
