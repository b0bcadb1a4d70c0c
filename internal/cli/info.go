package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet/client"
)

func newInfoCmd(env *Env, conn *connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info [OPTIONS]",
		Short: "Show the daemon's settings and what it has",
		Long: `Show the daemon's settings and what it has: where it keeps things, what runs the
plugins and whether that keeps them apart from the host, how many there are.`,
		Example: `  outlet info
  outlet info --format '{{.Runtime.Name}}: {{.Runtime.Path}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runInfo(cmd.Context(), env, conn, format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", formatUsageObject)
	return cmd
}

func runInfo(ctx context.Context, env *Env, conn *connection, format string) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	if format != "" {
		return printObjects(env.Out, format, []any{info})
	}
	printInfo(env.Out, info, c.Host().String())
	for _, w := range info.Warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", w)
	}
	return nil
}

func printInfo(w io.Writer, i client.Info, host string) {
	field := func(name, value string) { fmt.Fprintf(w, "%-14s %s\n", name+":", value) }
	field("Host", host)
	field("Version", i.Version)
	field("Root", i.Root)
	field("Exec Root", i.ExecRoot)
	runtime := i.Runtime.Name
	if i.Runtime.Version != "" {
		runtime += " " + i.Runtime.Version
	}
	if i.Runtime.Path != "" {
		runtime += " (" + i.Runtime.Path + ")"
	}
	if !i.Runtime.Isolates {
		runtime += ", isolates nothing"
	}
	field("Runtime", runtime)
	field("Snapshotter", i.Snapshotter)
	field("Live Restore", fmt.Sprint(i.LiveRestore))
	field("Plugins", fmt.Sprintf("%d (%d enabled, %d running)", i.Plugins.Total, i.Plugins.Enabled, i.Plugins.Running))
}
