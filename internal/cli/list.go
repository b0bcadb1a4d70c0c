package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

type listOptions struct {
	quiet   bool
	noTrunc bool
	format  string
	filters []string
}

func newListCmd(env *Env, conn *connection) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List plugins",
		Long: `List plugins.

STATUS is what a plugin is doing; ENABLED is what it is meant to do. A plugin
that is enabled and in backoff ended or did not start, and will be started
again by itself; one that failed needs what its status says.

Placeholders for --format: .ID .Name .Description .Enabled .PluginReference
.Status .State .Restarts .PID`,
		Example: `  outlet ls
  outlet ls --filter enabled=true --filter capability=volumedriver
  outlet ls --format '{{.Name}}: {{.Status}}'
  outlet ls -q --no-trunc`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runList(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display plugin IDs")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&o.format, "format", "", formatUsage)
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "Only plugins with `key=value`: enabled=true|false, capability=NAME")
	return cmd
}

func runList(ctx context.Context, env *Env, conn *connection, o listOptions) error {
	filters, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	plugins, err := c.ListFiltered(ctx, filters)
	if err != nil {
		return err
	}
	slices.SortStableFunc(plugins, func(a, b outlet.Plugin) int { return compareNatural(a.Name, b.Name) })
	l := list{
		table: "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}\t{{.Status}}",
		raw:   "plugin_id: {{.ID}}\nname: {{.Name}}\ndescription: {{.Description}}\nenabled: {{.Enabled}}\n",
		headers: headings{
			"ID": "ID", "Name": "NAME", "Description": "DESCRIPTION", "Enabled": "ENABLED", "PluginReference": "IMAGE",
			"Status": "STATUS", "State": "STATE", "Restarts": "RESTARTS", "PID": "PID",
		},
	}
	for _, p := range plugins {
		l.rows = append(l.rows, pluginRow(p, o.noTrunc, env))
	}
	format := o.format
	if o.quiet {
		switch format {
		case "", formatTable:
			format = "{{.ID}}"
		case formatRaw:
			format = "plugin_id: {{.ID}}"
		}
	}
	return l.print(env.Out, format)
}

// The widths cells of the list are cut to.
const (
	shortID          = 12
	shortDescription = 45
	shortStatus      = 60
)

func pluginRow(p outlet.Plugin, noTrunc bool, env *Env) map[string]any {
	id, description, status := p.ID, oneLine(p.Config.Description), oneLine(statusText(p, env.Now()))
	if !noTrunc {
		id = id[:min(len(id), shortID)]
		description = ellipsis(description, shortDescription)
		status = ellipsis(status, shortStatus)
	}
	row := map[string]any{
		"ID": id, "Name": p.Name, "Description": description, "Enabled": p.Enabled,
		"PluginReference": p.PluginReference, "Status": status, "State": "", "Restarts": 0, "PID": 0,
	}
	if p.Status != nil {
		row["State"], row["Restarts"], row["PID"] = string(p.Status.State), p.Status.Restarts, p.Status.PID
	}
	return row
}
