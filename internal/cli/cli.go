package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/outletd/outlet/client"
)

// The exit codes of the program. "outlet exec" passes on the code of the
// process it ran, and exits with exitNotRun where it ran none.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotRun      = 125
	exitInterrupted = 130
)

// Env is what the command line needs of the world around it.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv is os.Getenv, or what stands in for it.
	Getenv func(string) string
	// Now is time.Now, or what stands in for it.
	Now func() time.Time
	// Build describes this program.
	Build BuildInfo
	// RunDaemon runs the daemon until ctx ends. Nil: the daemon is not part of
	// this program.
	RunDaemon func(ctx context.Context, flags DaemonFlags) error
}

// exitError makes the program exit with a code of its own. A nil err prints
// nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// errInterrupted ends a command whose user pressed Ctrl-C at a prompt.
var errInterrupted = &exitError{code: exitInterrupted}

// usagef is an error in how the program was called.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// Run runs the command line args (without the program's name) and gives the
// exit code. When ctx ends, the command is interrupted.
func Run(ctx context.Context, args []string, env Env) int {
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	root := newRootCmd(&env) //nolint:contextcheck // commands get ctx when they run
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var e *exitError
	switch {
	case errors.As(err, &e):
		if e.err != nil {
			printError(env.Err, e.err)
		}
		return e.code
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return exitInterrupted
	}
	printError(env.Err, err)
	return exitFailure
}

// several are the errors of a command that does one thing to each of several.
type several []error

// join gives nil for none, and the error itself for one.
func join(errs ...error) error {
	var list several
	for _, err := range errs {
		var many several
		switch {
		case errors.As(err, &many):
			list = append(list, many...)
		case err != nil:
			list = append(list, err)
		}
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return list
}

func (s several) Error() string { return errors.Join(s...).Error() }

func (s several) Unwrap() []error { return s }

// printError prints err, a line for each of several, and says which come from
// the daemon in the words Docker's users know.
func printError(w io.Writer, err error) {
	var many several
	if errors.As(err, &many) {
		for _, e := range many {
			printError(w, e)
		}
		return
	}
	text := strings.TrimRight(err.Error(), "\n")
	var fromDaemon *client.Error
	if errors.As(err, &fromDaemon) {
		text = "Error response from daemon: " + text
	}
	fmt.Fprintln(w, text)
}

// terminal gives the descriptor of a stream that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile {
		return 0, false
	}
	fd = int(f.Fd()) //nolint:gosec // descriptors are small
	return fd, term.IsTerminal(fd)
}
