package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
)

type eventsOptions struct {
	filters      []string
	since, until string
	format       string
}

func newEventsCmd(env *Env, conn *connection) *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Get real time events from the daemon",
		Long: `Get real time events from the daemon, until interrupted or --until has come.

The daemon keeps the last 256 events for --since. Filters of one key are
alternatives; filters of different keys must all fit. Keys: type, event, plugin,
volume, scope, label.`,
		Example: `  outlet events --filter type=plugin
  outlet events --since 10m --until 0s
  outlet events --format '{{.Action}} {{.Actor.Attributes.name}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEvents(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "Only events with `key=value`")
	f.StringVar(&o.since, "since", "", "Show also the events since a `time`: "+whenUsage)
	f.StringVar(&o.until, "until", "", "End at a `time`, written as for --since")
	f.StringVar(&o.format, "format", "", "Format the output: 'json' (one object per line), or a Go template such as '{{.Action}}'")
	return cmd
}

func runEvents(ctx context.Context, env *Env, conn *connection, o eventsOptions) error {
	filters, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	eo := client.EventOptions{Filters: filters}
	if eo.Since, err = parseWhen(o.since, env.Now()); err != nil {
		return err
	}
	if eo.Until, err = parseWhen(o.until, env.Now()); err != nil {
		return err
	}
	var tmpl *template.Template
	switch o.format {
	case "":
	case formatJSON:
		tmpl, err = parseTemplate("{{json .}}")
	default:
		tmpl, err = parseTemplate(o.format)
	}
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	return c.Events(ctx, eo, func(m outlet.Message) error {
		if tmpl != nil {
			return printObject(env.Out, tmpl, m)
		}
		return printEvent(env.Out, m)
	})
}

// printEvent writes one line in Docker's form: time, type, action, id, and the
// attributes in brackets.
func printEvent(w io.Writer, m outlet.Message) error {
	at := time.Unix(m.Time, 0)
	if m.TimeNano != 0 {
		at = time.Unix(0, m.TimeNano)
	}
	line := fmt.Sprintf("%s %s %s %s", at.Local().Format(timeLayout), m.Type, m.Action, oneLine(m.Actor.ID))
	if len(m.Actor.Attributes) > 0 {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
			pairs = append(pairs, oneLine(k+"="+m.Actor.Attributes[k]))
		}
		line += " (" + strings.Join(pairs, ", ") + ")"
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
