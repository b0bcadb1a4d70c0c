package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
)

type volumePruneOptions struct {
	driver  string
	force   bool
	filters []string
}

func newVolumePruneCmd(env *Env, conn *connection) *cobra.Command {
	var o volumePruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS] --driver PLUGIN",
		Short: "Remove unmounted volumes of a plugin, and their data",
		Long: `Remove the volumes of one plugin that were created through this daemon and are
not mounted, with their data.

They are listed first, and a question is asked; anything but y declines. Whoever
else may use a volume is not known here: a volume on other machines' storage may
be mounted there.`,
		Example: `  outlet volume prune --driver example/dirvol
  outlet volume prune --driver example/dirvol --filter label=tier=cache --force`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVolumePrune(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.driver, "driver", "d", "", "Remove volumes of this `plugin`")
	f.BoolVarP(&o.force, "force", "f", false, "Do not ask")
	f.StringArrayVar(&o.filters, "filter", nil, "Only volumes with `label=key[=value]`")
	completeFlag(cmd, "driver", completePlugins(conn, volumePlugin, true))
	return cmd
}

func runVolumePrune(ctx context.Context, env *Env, conn *connection, o volumePruneOptions) error {
	if o.driver == "" {
		return usagef("--driver is missing: name the plugin whose unmounted volumes shall be removed")
	}
	filters, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	for key := range filters {
		if key != "label" {
			return usagef("invalid filter %q: prune knows label only", key)
		}
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	names, err := prunable(ctx, env, c, o.driver, filters["label"])
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintf(env.Err, "Nothing to remove: %s has no unmounted volume that was created through this daemon.\n", o.driver)
		return nil
	}
	if !o.force {
		fmt.Fprintf(env.Err, "These volumes of %s and their data will be removed:\n", o.driver)
		for _, n := range names {
			fmt.Fprintf(env.Err, "  %s\n", oneLine(n))
		}
		yes, err := confirm(ctx, env, "Are you sure you want to continue? [y/N] ")
		if err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("nothing was removed")
		}
	}
	return forEach(env, names, func(name string) error { return c.VolumeRemove(ctx, name, false) })
}

// prunable gives the names of volumes that may go. Whether a volume is mounted
// is looked up by the daemon again when it is removed.
func prunable(ctx context.Context, env *Env, c *client.Client, driver string, labels []string) ([]string, error) {
	full, err := driverName(ctx, c, driver)
	if err != nil {
		return nil, err
	}
	found, err := c.VolumeList(ctx, outlet.VolumeFilter{Labels: labels})
	if err != nil {
		return nil, err
	}
	for _, w := range found.Warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", w)
	}
	var names []string
	for _, v := range found.Volumes {
		if v.Outlet != nil && v.Outlet.Created && len(v.Outlet.Mounts) == 0 && (v.Driver == driver || v.Driver == full) {
			names = append(names, v.Name)
		}
	}
	slices.SortFunc(names, compareNatural)
	return names, nil
}

// driverName is how volumes call the plugin a user named: its whole name with
// the tag. A v1 plugin has only the one.
func driverName(ctx context.Context, c *client.Client, name string) (string, error) {
	p, err := c.Inspect(ctx, name)
	if isNotFound(err) {
		return name, nil
	}
	if err != nil {
		return "", err
	}
	return p.Name, nil
}
