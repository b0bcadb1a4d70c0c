package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type disableOptions struct {
	name  string
	force bool
}

func newDisableCmd(env *Env, conn *connection) *cobra.Command {
	var o disableOptions
	cmd := &cobra.Command{
		Use:   "disable [OPTIONS] PLUGIN",
		Short: "Disable a plugin",
		Long: `Disable a plugin: stop it, and do not start it again.

A plugin that is in use, for example by a mounted volume, is not disabled; the
error says who uses it. --force disables it all the same.`,
		Example: `  outlet disable example/dirvol
  outlet disable -f example/dirvol`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, enabledPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runDisable(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Force the disable of an active plugin")
	return cmd
}

func runDisable(ctx context.Context, env *Env, conn *connection, o disableOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	if err := c.Disable(ctx, o.name, o.force); err != nil {
		return err
	}
	fmt.Fprintln(env.Out, o.name)
	return nil
}
