package cli

import (
	"context"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

// timeLayout is how times are printed: always nine digits, so that columns
// stand.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

type logsOptions struct {
	name         string
	follow       bool
	tail         string
	since, until string
	timestamps   bool
}

func newLogsCmd(env *Env, conn *connection) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] PLUGIN",
		Short: "Fetch what a plugin printed",
		Long: `Fetch what a plugin printed, across its restarts.

Lines of the plugin's standard output go to standard output, those of its
standard error to standard error. What Outlet has to say of the plugin (started,
ended, lines dropped) goes to standard error, behind "[outlet]".`,
		Example: `  outlet logs -n 20 example/dirvol
  outlet logs -f --since 10m example/dirvol
  outlet logs -t example/dirvol 2>/dev/null`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runLogs(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow the output until interrupted")
	f.StringVarP(&o.tail, "tail", "n", "all", "Show this `number` of lines from the end")
	f.StringVar(&o.since, "since", "", "Only lines since a `time`: "+whenUsage)
	f.StringVar(&o.until, "until", "", "Only lines before a `time`, written as for --since")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show when each line was printed")
	return cmd
}

func runLogs(ctx context.Context, env *Env, conn *connection, o logsOptions) error {
	lo := outlet.LogOptions{Tail: -1, Follow: o.follow}
	if o.tail != "all" {
		n, err := strconv.Atoi(o.tail)
		if err != nil {
			return usagef("invalid value %q for --tail: write a number or all", o.tail)
		}
		lo.Tail = max(n, -1)
	}
	var err error
	if lo.Since, err = parseWhen(o.since, env.Now()); err != nil {
		return err
	}
	if lo.Until, err = parseWhen(o.until, env.Now()); err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	p := logPrinter{env: env, timestamps: o.timestamps}
	return c.Logs(ctx, o.name, lo, p.print)
}

// logPrinter writes entries to their streams and joins the parts of lines that
// were too long for one.
type logPrinter struct {
	env        *Env
	timestamps bool
	partial    map[string]bool // by stream: the last entry goes on
}

func (p *logPrinter) print(e outlet.LogEntry) error {
	w := p.env.Err
	prefix := ""
	switch e.Stream {
	case "stdout":
		w = p.env.Out
	case "stderr":
	default:
		prefix = "[outlet] "
	}
	if p.timestamps {
		prefix = e.Time.Local().Format(timeLayout) + " " + prefix
	}
	if p.partial[e.Stream] {
		prefix = ""
	}
	end := "\n"
	if e.Partial {
		end = ""
	}
	if p.partial == nil {
		p.partial = make(map[string]bool)
	}
	p.partial[e.Stream] = e.Partial
	_, err := io.WriteString(w, prefix+e.Line+end)
	return err
}
