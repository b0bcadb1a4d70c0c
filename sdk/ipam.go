package sdk

import (
	"context"
	"errors"
	"net/netip"

	"github.com/outletd/outlet/capability/ipam"
)

// IpamDriver gives out pools and addresses (docs/spec/capabilities.md §4). Hosts
// recognize the texts of ipam.ErrNoAvailableIPs and ipam.ErrOutOfRange: wrap
// them where they apply.
type IpamDriver interface {
	// DefaultAddressSpaces are those of networks of one machine and of a
	// cluster.
	DefaultAddressSpaces(ctx context.Context) (ipam.AddressSpaces, error)
	// RequestPool takes a pool into use once more.
	RequestPool(ctx context.Context, r ipam.PoolRequest) (ipam.Pool, error)
	// ReleasePool undoes one RequestPool.
	ReleasePool(ctx context.Context, poolID string) error
	// RequestAddress takes an address into use.
	RequestAddress(ctx context.Context, r ipam.AddressRequest) (ipam.Address, error)
	// ReleaseAddress gives an address back. Hosts also give back gateways that
	// came from the Data of a pool, which is no error.
	ReleaseAddress(ctx context.Context, poolID string, address netip.Addr) error
}

// IpamCapable is an IpamDriver that wants to be told more by hosts. Of one that is
// not hosts learn that it wants nothing.
type IpamCapable interface {
	// IpamCapabilities is asked for once by each host.
	IpamCapabilities(ctx context.Context) (ipam.Capabilities, error)
}

func (h *Handler) addIpam(d IpamDriver) {
	if d == nil {
		return
	}
	pooled := func(r ipam.ReleasePoolRequest) string { return missing("PoolID", r.PoolID) }
	h.add(map[string]method{
		ipam.MethodGetCapabilities: bare(func(ctx context.Context) (any, error) {
			if c, ok := d.(IpamCapable); ok {
				return c.IpamCapabilities(ctx)
			}
			return ipam.Capabilities{}, nil
		}),
		ipam.MethodGetDefaultAddressSpaces: bare(func(ctx context.Context) (any, error) { return d.DefaultAddressSpaces(ctx) }),
		ipam.MethodRequestPool: with(func(r ipam.PoolRequest) string {
			if r.SubPool != "" {
				return missing("Pool", r.Pool)
			}
			return ""
		}, func(ctx context.Context, r ipam.PoolRequest) (any, error) {
			p, err := d.RequestPool(ctx, r)
			if err == nil && (p.PoolID == "" || p.Pool == "") {
				err = errors.New("the driver returned no pool")
			}
			return p, err
		}),
		ipam.MethodReleasePool: with(pooled, func(ctx context.Context, r ipam.ReleasePoolRequest) (any, error) {
			return empty{}, d.ReleasePool(ctx, r.PoolID)
		}),
		ipam.MethodRequestAddress: with(func(r ipam.AddressRequest) string { return missing("PoolID", r.PoolID) },
			func(ctx context.Context, r ipam.AddressRequest) (any, error) {
				a, err := d.RequestAddress(ctx, r)
				if err == nil && a.Address == "" {
					err = errors.New("the driver returned no address")
				}
				return a, err
			}),
		ipam.MethodReleaseAddress: with(func(r ipam.ReleaseAddressRequest) string { return missing("PoolID", r.PoolID, "Address", r.Address) },
			func(ctx context.Context, r ipam.ReleaseAddressRequest) (any, error) {
				a, err := netip.ParseAddr(r.Address)
				if err != nil {
					return nil, WithStatus(400, err)
				}
				return empty{}, d.ReleaseAddress(ctx, r.PoolID, a)
			}),
	})
}
