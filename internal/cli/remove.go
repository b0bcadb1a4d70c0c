package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type removeOptions struct {
	names []string
	force bool
}

func newRemoveCmd(env *Env, conn *connection) *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] PLUGIN [PLUGIN...]",
		Aliases: []string{"remove"},
		Short:   "Remove one or more plugins",
		Long: `Remove one or more plugins, with everything they have written.

Each one that was removed is printed; the others' errors follow. A plugin that
is enabled or in use is not removed, unless --force is given.`,
		Example: `  outlet rm example/dirvol
  outlet rm -f example/a example/b`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runRemove(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Force the removal of an active plugin")
	return cmd
}

func runRemove(ctx context.Context, env *Env, conn *connection, o removeOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	return forEach(env, o.names, func(name string) error { return c.Remove(ctx, name, o.force) })
}

// forEach does something to each of several, prints those it was done to, and
// gives the errors of the others.
func forEach(env *Env, names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		if err := do(name); err != nil {
			if unreachable(err) {
				return join(append(errs, err)...)
			}
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(env.Out, name)
	}
	return join(errs...)
}
