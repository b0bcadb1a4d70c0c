package ipam_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/plugins"
)

func Example() {
	ctx := context.Background()
	p, err := plugins.Default().Get(ctx, "ipam", ipam.Name)
	if err != nil {
		log.Fatal(err)
	}
	c := ipam.New(p.Client().Caller(), ipam.Options{})
	spaces, err := c.DefaultAddressSpaces(ctx)
	if err != nil {
		log.Fatal(err)
	}
	inUse := netip.MustParsePrefix("10.0.0.0/16")
	pool, err := c.RequestFreePool(ctx, ipam.PoolRequest{AddressSpace: spaces.LocalDefaultAddressSpace}, func(p netip.Prefix) bool {
		return !p.Overlaps(inUse)
	})
	if pool.PoolID == "" {
		log.Fatal(err)
	}
	fmt.Println(pool.Pool)
}
