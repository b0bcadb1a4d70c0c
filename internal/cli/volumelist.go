package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

func newVolumeListCmd(env *Env, conn *connection) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Long: `List the volumes of all volume plugins. A plugin that cannot be asked is a
warning.

Placeholders for --format: .Name .Driver .Scope .Mountpoint .Labels
.Label "KEY" .Mounts`,
		Example: `  outlet volume ls
  outlet volume ls -q --filter driver=example/dirvol --filter dangling=true
  outlet volume ls --format '{{.Name}} {{.Label "tier"}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVolumeList(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display volume names")
	f.StringVar(&o.format, "format", "", formatUsage)
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "Only volumes with `key=value`: name, driver, label, dangling=true|false")
	return cmd
}

func runVolumeList(ctx context.Context, env *Env, conn *connection, o listOptions) error {
	filters, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	found, err := c.VolumeListFiltered(ctx, filters)
	if err != nil {
		return err
	}
	for _, w := range found.Warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", w)
	}
	slices.SortStableFunc(found.Volumes, func(a, b outlet.Volume) int { return compareNatural(a.Name, b.Name) })
	l := list{
		table: "{{.Driver}}\t{{.Name}}",
		raw:   "name: {{.Name}}\ndriver: {{.Driver}}\n",
		headers: headings{
			"Driver": "DRIVER", "Name": "VOLUME NAME", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT",
			"Labels": "LABELS", "Mounts": "MOUNTS",
		},
	}
	for _, v := range found.Volumes {
		l.rows = append(l.rows, newVolumeRow(v))
	}
	format := o.format
	if o.quiet {
		switch format {
		case "", formatTable:
			format = "{{.Name}}"
		case formatRaw:
			format = "name: {{.Name}}"
		}
	}
	return l.print(env.Out, format)
}

// volumeRow is a volume as templates see it.
type volumeRow struct {
	Driver, Labels, Mountpoint string
	Mounts                     int
	Name, Scope                string

	labels map[string]string
}

func newVolumeRow(v outlet.Volume) volumeRow {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(v.Labels)) {
		pairs = append(pairs, k+"="+v.Labels[k])
	}
	row := volumeRow{
		Driver: oneLine(v.Driver), Name: oneLine(v.Name), Scope: v.Scope, Mountpoint: v.Mountpoint,
		Labels: strings.Join(pairs, ","), labels: v.Labels,
	}
	if v.Outlet != nil {
		row.Mounts = len(v.Outlet.Mounts)
	}
	return row
}

// Label is the value of one label.
func (r volumeRow) Label(key string) string { return r.labels[key] }
