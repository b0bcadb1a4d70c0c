package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type volumeMountOptions struct {
	name, id, format string
}

func newVolumeMountCmd(env *Env, conn *connection) *cobra.Command {
	var o volumeMountOptions
	cmd := &cobra.Command{
		Use:   "mount [OPTIONS] VOLUME",
		Short: "Mount a volume and print where it is on this host",
		Long: `Mount a volume and print where it is on the daemon's host.

The mount holds the volume's plugin until "outlet volume unmount" ends it, also
when the daemon is started again. A volume can be mounted several times, each
under an ID of its own.`,
		Example: `  dir=$(outlet volume mount data)
  outlet volume mount --id backup data
  outlet volume mount --format '{{.ID}} {{.Mountpoint}}' data`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completeVolumes(conn, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runVolumeMount(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().StringVar(&o.id, "id", "", "The `id` the mount is ended with (default: one is made)")
	cmd.Flags().StringVar(&o.format, "format", "{{.Mountpoint}}", formatUsageObject)
	return cmd
}

func runVolumeMount(ctx context.Context, env *Env, conn *connection, o volumeMountOptions) error {
	if o.format != formatJSON {
		if _, err := parseTemplate(o.format); err != nil { // before anything is mounted
			return err
		}
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	m, err := c.VolumeMount(ctx, o.name, o.id)
	if err != nil {
		return err
	}
	return printObjects(env.Out, o.format, []any{m})
}

func newVolumeUnmountCmd(env *Env, conn *connection) *cobra.Command {
	var o volumeMountOptions
	cmd := &cobra.Command{
		Use:     "unmount [OPTIONS] VOLUME",
		Aliases: []string{"umount"},
		Short:   "End a mount of a volume",
		Long: `End a mount of a volume and print the volume's name. Without --id it is the
only mount there is; where there are several, the error names them.`,
		Example: `  outlet volume unmount data
  outlet volume unmount --id backup data`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completeVolumes(conn, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runVolumeUnmount(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().StringVar(&o.id, "id", "", "End the mount of this `id`")
	return cmd
}

func runVolumeUnmount(ctx context.Context, env *Env, conn *connection, o volumeMountOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	if err := c.VolumeUnmount(ctx, o.name, o.id); err != nil {
		return err
	}
	fmt.Fprintln(env.Out, o.name)
	return nil
}
