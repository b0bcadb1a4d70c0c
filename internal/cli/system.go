package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

func newSystemCmd(env *Env, conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "system",
		Short:                 "Look after the daemon's state",
		DisableFlagsInUseLine: true,
		RunE:                  groupRun,
	}
	cmd.AddCommand(
		newSystemCheckCmd(env, conn),
		newSystemDFCmd(env, conn),
		newSystemPruneCmd(env, conn),
	)
	return cmd
}

type systemCheckOptions struct {
	repair bool
	format string
}

func newSystemCheckCmd(env *Env, conn *connection) *cobra.Command {
	var o systemCheckOptions
	cmd := &cobra.Command{
		Use:   "check [OPTIONS]",
		Short: "Look for what is inconsistent or left over, and mend it",
		Long: `Compare the daemon's records with what is on disk, mounted and running, and show
what does not fit. Nothing is changed without --repair, which mends what can be
mended without losing anything that is referred to: it removes what was left
over, and puts indexes and holds right. Plugins go on meanwhile.

The exit status is 1 if a problem remains.

Placeholders for --format: .Kind .Subject .Detail .Repaired`,
		Example: `  outlet system check
  outlet system check --repair
  outlet system check --format json`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSystemCheck(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.repair, "repair", false, "Mend what can be mended")
	f.StringVar(&o.format, "format", "", formatUsage)
	return cmd
}

func runSystemCheck(ctx context.Context, env *Env, conn *connection, o systemCheckOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	report, err := c.Check(ctx, o.repair)
	if err != nil {
		return err
	}
	if err := printCheck(env, report, o.format); err != nil {
		return err
	}
	if n := len(report.Remaining()); n > 0 {
		hint := ""
		if !o.repair {
			hint = "; --repair mends what it can"
		}
		return fmt.Errorf("%d %s found%s", n, plural(n, "problem"), hint)
	}
	return nil
}

func printCheck(env *Env, report outlet.CheckReport, format string) error {
	if len(report.Problems) == 0 {
		if format == "" || format == formatTable {
			fmt.Fprintln(env.Out, "No problems found")
		}
		return nil
	}
	l := list{
		table:   "{{.Kind}}\t{{.Subject}}\t{{.Repaired}}\t{{.Detail}}",
		headers: headings{"Kind": "PROBLEM", "Subject": "SUBJECT", "Repaired": "REPAIRED", "Detail": "DETAIL"},
	}
	for _, p := range report.Problems {
		l.rows = append(l.rows, p)
	}
	return l.print(env.Out, format)
}
