// Filelog is a log driver: what a container prints goes to a file of its own, one
// JSON object a line, and docker logs reads it back. Files are never removed or
// rotated by it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/outletd/outlet/sdk"
)

func main() {
	dir := flag.String("dir", "/var/log/filelog", "`directory` of the files")
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	d, err := newDriver(*dir)
	if err == nil {
		err = sdk.Run(context.Background(), sdk.Plugin{Log: d}, sdk.Options{
			Config:         sdk.Config{Name: "filelog", Address: *addr},
			HandlerOptions: sdk.HandlerOptions{Logger: log},
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "filelog:", err)
		os.Exit(1)
	}
}
