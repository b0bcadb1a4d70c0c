package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/outletd/outlet"
)

type execOptions struct {
	name        string
	command     []string
	interactive bool
	tty         bool
	env         []string
	workdir     string
}

func newExecCmd(env *Env, conn *connection) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] PLUGIN COMMAND [ARG...]",
		Short: "Run a command in a running plugin",
		Long: `Run a command in a running plugin, with the plugin's namespaces, root
filesystem and privileges. It ends when this command does.`,
		Example: `  outlet exec example/dirvol /bin/ls /data
  outlet exec -it example/dirvol sh
  echo hello | outlet exec -i example/dirvol /bin/sh -c 'cat >/data/hello'`,
		Args:                  minArgs(2),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, enabledPlugin, false),
		Annotations: map[string]string{exitCodes: `  N    the command's own exit code, 128+N if a signal ended it
  1    a wrong number of arguments
  2    unknown option or value of an option
  125  the command was not run: no daemon, no such plugin, no such program
  130  interrupted`},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.command = args[0], args[1:]
			return runExec(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Hand standard input to the command")
	f.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set an environment variable, `name=value`; NAME alone takes the value it has here")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working `directory` inside the plugin")
	return cmd
}

func runExec(ctx context.Context, env *Env, conn *connection, o execOptions) error {
	p := outlet.Process{
		Args:     o.command,
		Env:      execEnv(env, o.env),
		Cwd:      o.workdir,
		Terminal: o.tty,
		Stdout:   env.Out,
		Stderr:   env.Err,
	}
	if o.interactive {
		p.Stdin = env.In
	}
	c, err := conn.open()
	if err != nil {
		return &exitError{exitNotRun, err}
	}
	defer c.Close() //nolint:errcheck // never fails
	if o.tty {
		restore, sizes, err := rawTerminal(env, o.interactive)
		if err != nil {
			return &exitError{exitNotRun, err}
		}
		defer restore()
		p.Resize = sizes
	}
	code, err := c.Exec(ctx, o.name, p)
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return errInterrupted
	case err != nil:
		return &exitError{exitNotRun, err}
	case code != 0:
		return &exitError{code: code}
	}
	return nil
}

// execEnv gives names without a value the value they have here, and leaves out
// those that have none.
func execEnv(env *Env, vars []string) []string {
	var out []string
	for _, v := range vars {
		if !strings.Contains(v, "=") {
			value := env.Getenv(v)
			if value == "" {
				continue
			}
			v += "=" + value
		}
		out = append(out, v)
	}
	return out
}

// rawTerminal hands the terminal over to the process: keys go to it as they
// are, and its size follows ours.
func rawTerminal(env *Env, interactive bool) (restore func(), sizes <-chan outlet.WindowSize, err error) {
	restoreInput := func() {}
	if interactive {
		fd, ok := terminal(env.In)
		if !ok {
			return nil, nil, errors.New("the input device is not a TTY: leave out -t, or run this on a terminal")
		}
		old, err := term.MakeRaw(fd)
		if err != nil {
			return nil, nil, err
		}
		restoreInput = func() {
			term.Restore(fd, old)         //nolint:errcheck // nothing is left to be done
			io.WriteString(env.Err, "\r") //nolint:errcheck // only puts the cursor back
		}
	}
	var stream any = env.Out
	if _, ok := terminal(env.Out); !ok {
		stream = env.In
	}
	fd, ok := terminal(stream)
	if !ok {
		return restoreInput, nil, nil
	}
	ch, stop := watchSize(fd)
	return func() { stop(); restoreInput() }, ch, nil
}

// windowSize reads a terminal's size.
func windowSize(fd int) (outlet.WindowSize, bool) {
	w, h, err := term.GetSize(fd)
	if err != nil || w <= 0 || h <= 0 || w > 0xffff || h > 0xffff {
		return outlet.WindowSize{}, false
	}
	return outlet.WindowSize{Rows: uint16(h), Columns: uint16(w)}, true
}
