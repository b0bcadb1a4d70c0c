// Dirvol is a volume plugin: a volume is a directory, or a tmpfs of limited
// size, below the plugin's propagated mount, where the host sees it.
//
//	outlet volume create -d dirvol -o mode=0770 -o gid=100 shared
//	outlet volume create -d dirvol -o type=tmpfs -o size=64m scratch
//
// A directory keeps its files until the volume is removed. A tmpfs is mounted
// while somebody uses the volume; its files are gone when the last user
// unmounted it, or when the plugin ended. What volumes there are, and who uses
// them, is kept across restarts.
//
// Beside serving, the program reads and writes files of volumes, for those who
// want to see what a plugin sees:
//
//	outlet exec dirvol /dirvol cat shared notes.txt
//	echo hello | outlet exec -i dirvol /dirvol put shared notes.txt
//
// Dirvol is an example of a plugin on package sdk; it uses nothing else but the
// standard library.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/outletd/outlet/sdk"
)

const byHand = `dirvol is a plugin: a plugin manager starts it, with %s and %s in place.

To run it by Outlet:
    examples/dirvol/build.sh /tmp/dirvol && outlet create dirvol /tmp/dirvol && outlet enable dirvol

To run it by hand, as a v1 plugin that Docker and Podman find too:
    dirvol -data /var/lib/dirvol -socket /run/docker/plugins/dirvol.sock`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv("TMPFS_SIZE"), os.Stdin, os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "dirvol:", err)
		}
		os.Exit(1)
	}
}

// run does what the arguments say.
func run(ctx context.Context, args []string, tmpfsSize string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("dirvol", flag.ContinueOnError)
	data := flags.String("data", "/var/lib/dirvol", "`directory` of the volumes")
	socket := flags.String("socket", "/run/docker/plugins/dirvol.sock", "`path` of the socket to serve")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return useFile(*data, flags.Args(), in, out)
	}
	if len(args) == 0 && (!isDir(*data) || !isDir(filepath.Dir(*socket))) {
		return fmt.Errorf(byHand, *data, filepath.Dir(*socket))
	}
	size := int64(64 << 20)
	if tmpfsSize != "" {
		var err error
		if size, err = parseSize(tmpfsSize); err != nil {
			return fmt.Errorf("TMPFS_SIZE: %w", err)
		}
	}

	return serve(ctx, *data, *socket, size, log.New(out, "", 0))
}

// serve serves until ctx ends, and then lets calls finish and unmounts what it
// mounted.
func serve(ctx context.Context, data, socket string, size int64, logger *log.Logger) error {
	socket, err := filepath.Abs(socket)
	if err != nil {
		return err
	}
	d, err := openDriver(data, size, logger)
	if err != nil {
		return err
	}
	defer d.close()
	served := false
	err = sdk.Serve(ctx, sdk.Plugin{Volume: service{d, logger}}, sdk.Options{
		Config:          sdk.Config{Name: "dirvol", Address: socket},
		HandlerOptions:  sdk.HandlerOptions{MaxBody: 1 << 20},
		ShutdownTimeout: 5 * time.Second,
		Ready: func(string) {
			served = true
			logger.Printf("serving %d volumes of %s at %s", d.count(), data, socket)
		},
	})
	if !served { // whoever serves there may have mounted things, too
		return err
	}
	logger.Print("told to end: calls are finished")
	return errors.Join(err, d.unmountAll())
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
