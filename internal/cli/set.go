package cli

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

type setOptions struct {
	name     string
	settings []string
	args     string
	hasArgs  bool
	unset    []string
}

func newSetCmd(_ *Env, conn *connection) *cobra.Command {
	var o setOptions
	cmd := &cobra.Command{
		Use:   "set [OPTIONS] PLUGIN KEY=VALUE [KEY=VALUE...]",
		Short: "Change settings for a plugin",
		Long: `Change settings for a disabled plugin: all that is given, or nothing.

KEY is the name of what the plugin's config declares as settable: an environment
variable, a mount, a device, or its arguments; NAME.FIELD where more than one
field of it is settable. KEY without a value sets it to empty.`,
		Example: `  outlet set example/dirvol DEBUG=1
  outlet set example/dirvol data.source=/srv/data
  outlet set --args '["--flag", "a value"]' example/dirvol
  outlet set --unset DEBUG example/dirvol`,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, disabledPlugin, false),
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("args") || cmd.Flags().Changed("unset") {
				return minArgs(1)(cmd, args)
			}
			return minArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.settings = args[0], args[1:]
			o.hasArgs = cmd.Flags().Changed("args")
			return runSet(cmd.Context(), conn, o)
		},
	}
	cmd.Flags().StringVar(&o.args, "args", "", "Set the plugin's arguments to a `json` array of strings, without splitting them")
	cmd.Flags().StringArrayVar(&o.unset, "unset", nil, "Give the setting of this `name` its default again")
	return cmd
}

func runSet(ctx context.Context, conn *connection, o setOptions) error {
	settings := outlet.SetOptions{Set: o.settings, Unset: o.unset}
	if o.hasArgs {
		settings.Args = []string{}
		if err := json.Unmarshal([]byte(o.args), &settings.Args); err != nil || settings.Args == nil {
			return usagef("invalid value for --args: write a JSON array of strings, for example '[\"-v\", \"a b\"]'")
		}
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	return c.Set(ctx, o.name, settings)
}
