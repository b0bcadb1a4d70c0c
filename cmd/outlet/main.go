// Command outlet is the daemon that runs managed plugins, and the client that
// talks to it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/outletd/outlet/internal/cli"
	"github.com/outletd/outlet/internal/version"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once, whatever it waits for.
	context.AfterFunc(ctx, stop)

	build := cli.ReadBuildInfo()
	build.Version, build.GitCommit = version.Version(), version.Commit()
	return cli.Run(ctx, os.Args[1:], cli.Env{
		In:        os.Stdin,
		Out:       os.Stdout,
		Err:       os.Stderr,
		Getenv:    os.Getenv,
		Build:     build,
		RunDaemon: runDaemon,
	})
}
