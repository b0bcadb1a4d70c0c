// Bridgenet is a network driver: a network is a bridge that has the address of
// the gateway, a container's interface is one end of a pair of links whose other
// end is a port of the bridge. Containers reach each other and the host, and
// nothing else: there is no forwarding, no address translation, no open port.
//
// It is for Linux, talks to the kernel by itself and needs CAP_NET_ADMIN.
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
	file := flag.String("state", "/var/lib/bridgenet/state.json", "`file` of the networks")
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	d, err := openDriver(*file)
	if err == nil {
		err = sdk.Run(context.Background(), sdk.Plugin{Network: d}, sdk.Options{
			Config:         sdk.Config{Name: "bridgenet", Address: *addr},
			HandlerOptions: sdk.HandlerOptions{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))},
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bridgenet:", err)
		os.Exit(1)
	}
}
