package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

type discoverOptions struct {
	quiet   bool
	noTrunc bool
	format  string
}

func newDiscoverCmd(env *Env, conn *connection) *cobra.Command {
	var o discoverOptions
	cmd := &cobra.Command{
		Use:   "discover [OPTIONS]",
		Short: "List v1 plugins: those that somebody else runs",
		Long: `List v1 plugins: those that somebody else runs, and that a socket in
/run/docker/plugins or a file in /etc/docker/plugins or /usr/lib/docker/plugins
makes known to the daemon. Each is asked what it can do; one that does not answer
is listed with the reason.

Their names can be used wherever a plugin is called or a driver is named. A
managed plugin of the same name comes first.

Placeholders for --format: .Name .Address .Origin .Capabilities .Reachable
.Status .Error`,
		Example: `  outlet discover
  outlet discover --format json
  outlet discover --format '{{.Name}}: {{.Status}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDiscover(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display names")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&o.format, "format", "", formatUsage)
	return cmd
}

func runDiscover(ctx context.Context, env *Env, conn *connection, o discoverOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	found, err := c.Discover(ctx)
	if err != nil {
		return err
	}
	for _, w := range found.Warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", oneLine(w))
	}
	slices.SortStableFunc(found.Plugins, func(a, b outlet.V1Plugin) int { return compareNatural(a.Name, b.Name) })
	l := list{
		table: "{{.Name}}\t{{join .Capabilities \",\"}}\t{{.Address}}\t{{.Origin}}\t{{.Status}}",
		raw:   "name: {{.Name}}\naddress: {{.Address}}\norigin: {{.Origin}}\nreachable: {{.Reachable}}\n",
		headers: headings{
			"Name": "NAME", "Address": "ADDRESS", "Origin": "ORIGIN", "Capabilities": "CAPABILITIES", "Reachable": "REACHABLE",
			"Status": "STATUS", "Error": "ERROR",
		},
	}
	for _, p := range found.Plugins {
		l.rows = append(l.rows, v1Row(p, o.noTrunc))
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

func v1Row(p outlet.V1Plugin, noTrunc bool) map[string]any {
	status := "reachable"
	if !p.Reachable {
		status = "unreachable: " + oneLine(p.Error)
	}
	if !noTrunc {
		status = ellipsis(status, shortStatus)
	}
	capabilities := make([]string, len(p.Capabilities))
	for i, c := range p.Capabilities {
		capabilities[i] = strings.ReplaceAll(oneLine(c), ",", " ")
	}
	return map[string]any{
		"Name": oneLine(p.Name), "Address": oneLine(p.Address), "Origin": oneLine(p.Origin), "Capabilities": capabilities,
		"Reachable": p.Reachable, "Status": status, "Error": oneLine(p.Error),
	}
}
