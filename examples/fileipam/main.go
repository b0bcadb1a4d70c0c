// Fileipam is an IPAM driver: it gives out the lowest free address of a pool, and
// keeps in a file what is in use. It knows nothing of what else the network uses;
// pools that nobody asked for by name come from a range of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/outletd/outlet/sdk"
)

func main() {
	file := flag.String("state", "/var/lib/fileipam/state.json", "`file` of what is in use")
	pools := flag.String("range", "10.201.0.0/16", "`CIDR` that pools of 256 addresses are taken from if none is asked for")
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	if err := run(*file, *pools, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "fileipam:", err)
		os.Exit(1)
	}
}

func run(file, pools, addr string) error {
	prefix, err := netip.ParsePrefix(pools)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 24 {
		return fmt.Errorf("range %q is no IPv4 CIDR of at least 256 addresses", pools)
	}
	d, err := openDriver(file, prefix.Masked())
	if err != nil {
		return err
	}
	return sdk.Run(context.Background(), sdk.Plugin{Ipam: d}, sdk.Options{
		Config:         sdk.Config{Name: "fileipam", Address: addr},
		HandlerOptions: sdk.HandlerOptions{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))},
	})
}
