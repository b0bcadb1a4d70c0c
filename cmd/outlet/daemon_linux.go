package main

import (
	"context"
	"os"

	"github.com/outletd/outlet/internal/cli"
	"github.com/outletd/outlet/internal/daemon"
)

func runDaemon(ctx context.Context, f cli.DaemonFlags) error {
	return daemon.Run(ctx, daemon.Options{
		Flags:      f.Directives(),
		ConfigFile: f.ConfigFile,
		Validate:   f.Validate,
		Stderr:     os.Stderr,
		Getenv:     os.Getenv,
	})
}
