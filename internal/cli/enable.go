package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

type enableOptions struct {
	name         string
	timeout      int
	startTimeout time.Duration
}

func newEnableCmd(env *Env, conn *connection) *cobra.Command {
	var o enableOptions
	cmd := &cobra.Command{
		Use:   "enable [OPTIONS] PLUGIN",
		Short: "Enable a plugin",
		Long: `Enable a plugin: start it, and wait until its socket accepts connections.

When the plugin does not become ready, it is stopped, stays disabled, and the
error says why: how its process ended, what it printed last, and what is likely
wrong. Once enabled, it is started again whenever it ends.`,
		Example: `  outlet enable example/dirvol
  outlet enable --timeout 0 --start-timeout 2m example/slow`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, disabledPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runEnable(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.timeout, "timeout", 30, "Limit of each later call to the plugin, in `seconds`; 0 is none")
	f.DurationVar(&o.startTimeout, "start-timeout", 0, "Limit of the wait for the plugin to be ready, for example 90s; 0 takes the daemon's")
	return cmd
}

func runEnable(ctx context.Context, env *Env, conn *connection, o enableOptions) error {
	if o.timeout < 0 {
		return fmt.Errorf("negative timeout %d is invalid", o.timeout)
	}
	if o.startTimeout < 0 {
		return fmt.Errorf("negative start timeout %v is invalid", o.startTimeout)
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	err = c.Enable(ctx, o.name, outlet.EnableOptions{
		Timeout:      time.Duration(o.timeout) * time.Second,
		StartTimeout: o.startTimeout,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Out, o.name)
	return nil
}
