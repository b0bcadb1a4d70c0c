//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/outletd/outlet/internal/cli"
)

func runDaemon(context.Context, cli.DaemonFlags) error {
	return errors.New("the daemon runs on Linux only; use -H or OUTLET_HOST to talk to one elsewhere")
}
