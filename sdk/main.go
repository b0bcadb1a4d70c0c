package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/outletd/outlet/plugins"
)

// Main is the main function of a plugin that has no more to say: it serves p
// under the name until SIGTERM or SIGINT, logs to standard error, and exits.
// Programs with options of their own use [Run].
func Main(name string, p Plugin) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o := Options{Config: Config{Name: name}, HandlerOptions: HandlerOptions{Logger: log}}
	if err := Run(context.Background(), p, o); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Run serves p until ctx, SIGTERM or SIGINT ends it. A person who starts the
// program in a terminal, where nothing is prepared for plugins, gets an error
// that matches ErrByHand and says what to do.
func Run(ctx context.Context, p Plugin, o Options) error {
	if o.Address == "" && byHand(o.Config, os.Stdin) {
		return &byHandError{o.Name, o.socketDir()}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if ready, log := o.Ready, o.Logger; log != nil {
		o.Ready = func(addr string) {
			log.Info("serving", "plugin", o.Name, "address", addr, "implements", p.manifest())
			if ready != nil {
				ready(addr)
			}
		}
	}
	return Serve(ctx, p, o)
}

// ErrByHand is what the error of Run matches if a person started the plugin
// where there is nothing to serve.
var ErrByHand = errors.New("started by hand")

type byHandError struct{ name, dir string }

func (e *byHandError) Error() string {
	return fmt.Sprintf(`this program is a plugin: other programs call it through a socket in %[2]s, and there is no such directory.

To have Outlet run it, pack it with its config.json:
    outlet create %[1]s DIR && outlet enable %[1]s

To run it on this host yourself, for Docker, Podman and Outlet to find:
    mkdir -p %[2]s && %[1]s`, e.name, e.dir)
}

func (e *byHandError) Is(target error) bool { return target == ErrByHand }

func (c Config) socketDir() string {
	if c.SocketDir != "" {
		return c.SocketDir
	}
	return plugins.DefaultSocketDir
}

// byHand says whether a person has started the program and there is nothing
// prepared: no directory for sockets, and no inherited one.
func byHand(c Config, stdin *os.File) bool {
	getenv := c.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if getenv("LISTEN_FDS") != "" {
		return false
	}
	if info, err := os.Stat(c.socketDir()); err == nil && info.IsDir() {
		return false
	}
	return isTerminal(stdin)
}

// isTerminal says whether f is one: a character device that is not the null
// device.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
