package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet/client"
)

type inspectOptions struct {
	names  []string
	format string
}

func newInspectCmd(env *Env, conn *connection) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] PLUGIN [PLUGIN...]",
		Short: "Display detailed information on one or more plugins",
		Long: `Display detailed information on one or more plugins, as a JSON array.

A plugin is named by its name, its ID, or the beginning of its ID. Config is
what its author declared, Settings what it runs with, Status what it is doing:
its state, process, restarts, last exit, last error, and who uses it.`,
		Example: `  outlet inspect example/dirvol
  outlet inspect -f '{{.Status.State}} {{.Status.PID}}' example/dirvol
  outlet inspect -f '{{json .Settings.Env}}' example/dirvol`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runInspect(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().StringVarP(&o.format, "format", "f", "", formatUsageObject)
	return cmd
}

func runInspect(ctx context.Context, env *Env, conn *connection, o inspectOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	return inspectEach(env, o, func(name string) (any, error) {
		return c.Inspect(ctx, name)
	})
}

// inspectEach prints all objects that were found, and gives the errors of the
// others.
func inspectEach(env *Env, o inspectOptions, get func(name string) (any, error)) error {
	if o.format != "" && o.format != formatJSON {
		if _, err := parseTemplate(o.format); err != nil {
			return err
		}
	}
	var found []any
	var errs []error
	for _, name := range o.names {
		v, err := get(name)
		if err != nil {
			errs = append(errs, err)
			if unreachable(err) {
				return err
			}
			continue
		}
		found = append(found, v)
	}
	return join(append(errs, printObjects(env.Out, o.format, found))...)
}

// unreachable says that asking again for the next of several is in vain.
func unreachable(err error) bool {
	var e *client.ConnectError
	return errors.As(err, &e)
}
