package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

func newVolumeCmd(env *Env, conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Manage volumes of volume plugins",
		Long: `Manage volumes of volume plugins: managed ones, and those somebody else runs
(v1). There is no driver "local"; whoever wants plain directories makes them.`,
		DisableFlagsInUseLine: true,
		RunE:                  groupRun,
	}
	cmd.AddCommand(
		newVolumeCreateCmd(env, conn),
		newVolumeListCmd(env, conn),
		newVolumeInspectCmd(env, conn),
		newVolumeRemoveCmd(env, conn),
		newVolumePruneCmd(env, conn),
		newVolumeMountCmd(env, conn),
		newVolumeUnmountCmd(env, conn),
	)
	return cmd
}

type volumeCreateOptions struct {
	name, driver string
	labels, opts []string
}

func newVolumeCreateCmd(env *Env, conn *connection) *cobra.Command {
	var o volumeCreateOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Create a volume",
		Long: `Create a volume and print its name; without a name the daemon makes one.

Creating a volume that is there already, with the same driver, is no error.`,
		Example: `  outlet volume create -d example/dirvol data
  outlet volume create -d example/dirvol -o size=64m --label tier=cache scratch`,
		Args:                  maxArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			return runVolumeCreate(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.driver, "driver", "d", "", "Have this `plugin` make the volume")
	f.StringArrayVar(&o.labels, "label", nil, "Set metadata for a volume, `key=value`")
	f.StringArrayVarP(&o.opts, "opt", "o", nil, "Set driver specific options, `key=value`")
	completeFlag(cmd, "driver", completePlugins(conn, volumePlugin, true))
	return cmd
}

func runVolumeCreate(ctx context.Context, env *Env, conn *connection, o volumeCreateOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	v, err := c.VolumeCreate(ctx, outlet.VolumeCreate{
		Name:       o.name,
		Driver:     o.driver,
		DriverOpts: parsePairs(o.opts),
		Labels:     parsePairs(o.labels),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Out, v.Name)
	return nil
}

func newVolumeInspectCmd(env *Env, conn *connection) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] VOLUME [VOLUME...]",
		Short: "Display detailed information on one or more volumes",
		Long: `Display detailed information on one or more volumes, as a JSON array. Outlet
adds whether a volume was created through this daemon, and its mounts.`,
		Example: `  outlet volume inspect data
  outlet volume inspect -f '{{.Mountpoint}}' data`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completeVolumes(conn, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			c, err := conn.open()
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // never fails
			return inspectEach(env, o, func(name string) (any, error) {
				return c.VolumeInspect(cmd.Context(), name)
			})
		},
	}
	cmd.Flags().StringVarP(&o.format, "format", "f", "", formatUsageObject)
	return cmd
}

func newVolumeRemoveCmd(env *Env, conn *connection) *cobra.Command {
	var o removeOptions
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] VOLUME [VOLUME...]",
		Aliases: []string{"remove"},
		Short:   "Remove one or more volumes and their data",
		Long: `Remove one or more volumes and their data.

Each one that was removed is printed; the others' errors follow. A volume that
is mounted is not removed. With --force one that is not there is no error.`,
		Example:               `  outlet volume rm data scratch`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completeVolumes(conn, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			c, err := conn.open()
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // never fails
			return forEach(env, o.names, func(name string) error {
				return c.VolumeRemove(cmd.Context(), name, o.force)
			})
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Force the removal of one or more volumes")
	return cmd
}
