package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// exitCodes is the annotation of a command whose exit codes are not the usual.
const exitCodes = "exit-codes"

// usualExitCodes ends the help of every other command.
const usualExitCodes = `  0    success
  1    failure, or a wrong number of arguments
  2    unknown command, option or value of an option
  130  interrupted`

// printHelp prints a command's help in the order Docker's users know.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "Usage:  %s\n\n", usageLine(cmd))
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintln(w, strings.TrimSpace(text))
	if len(cmd.Aliases) > 0 {
		names := []string{cmd.CommandPath()}
		for _, a := range cmd.Aliases {
			names = append(names, cmd.Parent().CommandPath()+" "+a)
		}
		fmt.Fprintf(w, "\nAliases:\n  %s\n", strings.Join(names, ", "))
	}
	if cmd.HasAvailableSubCommands() {
		printCommands(w, cmd)
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(w, "\nOptions:\n%s", cmd.LocalFlags().FlagUsagesWrapped(80))
	}
	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(w, "\nGlobal Options:\n%s", cmd.InheritedFlags().FlagUsagesWrapped(80))
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	codes := cmd.Annotations[exitCodes]
	if codes == "" {
		codes = usualExitCodes
	}
	fmt.Fprintf(w, "\nExit Codes:\n%s\n", codes)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
}

func usageLine(cmd *cobra.Command) string {
	if cmd.HasParent() && cmd.HasAvailableSubCommands() {
		return useLine(cmd) + " COMMAND"
	}
	return useLine(cmd)
}

func printCommands(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintln(w, "\nCommands:")
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-11s %s\n", c.Name(), c.Short)
		}
	}
}

// newHelpCmd is "outlet help COMMAND".
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:                   "help [COMMAND]",
		Short:                 "Print the help of a command",
		DisableFlagsInUseLine: true,
		Hidden:                true,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return groupRun(cmd.Root(), args)
			}
			return found.Help()
		},
	}
}
