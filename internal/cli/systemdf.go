package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/progress"
)

func newSystemDFCmd(env *Env, conn *connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show what is on disk",
		Long: `Show what the daemon has on disk: for each plugin what goes with it (UNIQUE), what
other plugins have too (SHARED), and what it wrote and printed (WRITTEN); then all
there is, and how much of that "outlet system prune" gives back.

Placeholders for --format: .Plugins .Blobs .Layers .Downloads`,
		Example: `  outlet system df
  outlet system df --format '{{.Blobs.Reclaimable}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSystemDF(cmd.Context(), env, conn, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", formatUsageObject)
	return cmd
}

func runSystemDF(ctx context.Context, env *Env, conn *connection, format string) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	u, err := c.DiskUsage(ctx)
	if err != nil {
		return err
	}
	if format != "" {
		return printObjects(env.Out, format, []any{u})
	}
	w := tabwriter.NewWriter(env.Out, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "PLUGIN\tUNIQUE\tSHARED\tWRITTEN")
	for _, p := range u.Plugins {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(p.Name), progress.Bytes(p.Unique), progress.Bytes(p.Shared), progress.Bytes(p.Written))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nTYPE\tCOUNT\tSIZE\tRECLAIMABLE")
	for _, row := range []struct {
		name string
		u    outlet.StoreUsage
	}{{"Blobs", u.Blobs}, {"Layers", u.Layers}, {"Interrupted downloads", u.Downloads}} {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", row.name, row.u.Count, progress.Bytes(row.u.Bytes), progress.Bytes(row.u.Reclaimable))
	}
	return w.Flush()
}

func newSystemPruneCmd(env *Env, conn *connection) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what nothing needs",
		Long: `Remove content that no plugin uses, and downloads that broke off, which a later
install would have gone on with. Plugins, volumes and their data stay, and
operations go on meanwhile. Most of it goes by itself: content at once, downloads
after a day.`,
		Example: `  outlet system prune
  outlet system prune --force`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSystemPrune(cmd.Context(), env, conn, force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not ask")
	return cmd
}

func runSystemPrune(ctx context.Context, env *Env, conn *connection, force bool) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	if !force {
		yes, err := confirm(ctx, env, "This removes content that no plugin uses, and downloads that broke off.\nAre you sure you want to continue? [y/N] ")
		if err != nil || !yes {
			return err
		}
	}
	p, err := c.Prune(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "Removed %d %s, %d %s, %d interrupted %s\n", p.Blobs, plural(p.Blobs, "blob"), p.Layers, plural(p.Layers, "layer"), p.Downloads, plural(p.Downloads, "download"))
	fmt.Fprintf(env.Out, "Total reclaimed space: %s\n", progress.Bytes(p.Bytes))
	return nil
}
