package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/outletd/outlet/capability/ipam"
)

// maxScan bounds the search for a free address.
const maxScan = 1 << 20

// pool is what is kept of a pool.
type pool struct {
	Pool netip.Prefix
	// Sub is what addresses are taken from.
	Sub   netip.Prefix
	Uses  int
	Taken map[netip.Addr]bool
}

// driver keeps pools in a file.
type driver struct {
	file   string
	ranges netip.Prefix

	mu    sync.Mutex
	pools map[string]*pool
}

func openDriver(file string, ranges netip.Prefix) (*driver, error) {
	d := &driver{file: file, ranges: ranges, pools: make(map[string]*pool)}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &d.pools); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for id, p := range d.pools {
		if p == nil || !p.Pool.IsValid() || !p.Sub.IsValid() {
			return nil, fmt.Errorf("%s: pool %q is damaged", file, id)
		}
		if p.Taken == nil {
			p.Taken = make(map[netip.Addr]bool)
		}
	}
	return d, nil
}

// saveLocked replaces the file as a whole.
func (d *driver) saveLocked() error {
	b, err := json.MarshalIndent(d.pools, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.file+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(d.file+".new", d.file)
}

// DefaultAddressSpaces returns the two there are.
func (d *driver) DefaultAddressSpaces(context.Context) (ipam.AddressSpaces, error) {
	return ipam.AddressSpaces{LocalDefaultAddressSpace: "fileipam-local", GlobalDefaultAddressSpace: "fileipam-global"}, nil
}

// RequestPool takes a pool into use: the one that is asked for, or a free part
// of the range.
func (d *driver) RequestPool(_ context.Context, r ipam.PoolRequest) (ipam.Pool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Pool == "" {
		return d.freePoolLocked(r)
	}
	p, err := netip.ParsePrefix(r.Pool)
	if err != nil {
		return ipam.Pool{}, err
	}
	p = p.Masked()
	sub := p
	if r.SubPool != "" {
		if sub, err = netip.ParsePrefix(r.SubPool); err != nil {
			return ipam.Pool{}, err
		}
		sub = sub.Masked()
		if !p.Contains(sub.Addr()) || sub.Bits() < p.Bits() {
			return ipam.Pool{}, fmt.Errorf("%s is not in %s", sub, p)
		}
	}
	id := r.AddressSpace + "/" + p.String()
	if sub != p {
		id += "/" + sub.String()
	}
	found := d.pools[id]
	if found == nil {
		for other, q := range d.pools {
			if q.Pool.Overlaps(p) {
				return ipam.Pool{}, fmt.Errorf("%s overlaps the pool %s", p, other)
			}
		}
		found = &pool{Pool: p, Sub: sub, Taken: make(map[netip.Addr]bool)}
		d.pools[id] = found
	}
	found.Uses++
	return ipam.Pool{PoolID: id, Pool: p.String()}, d.saveLocked()
}

func (d *driver) freePoolLocked(r ipam.PoolRequest) (ipam.Pool, error) {
	if r.V6 {
		return ipam.Pool{}, errors.New("IPv6 pools have to be named")
	}
	for p := netip.PrefixFrom(d.ranges.Addr(), 24); d.ranges.Contains(p.Addr()); {
		free := true
		for _, q := range d.pools {
			free = free && !q.Pool.Overlaps(p)
		}
		if free {
			id := r.AddressSpace + "/" + p.String()
			d.pools[id] = &pool{Pool: p, Sub: p, Uses: 1, Taken: make(map[netip.Addr]bool)}
			return ipam.Pool{PoolID: id, Pool: p.String()}, d.saveLocked()
		}
		p = netip.PrefixFrom(lastAddr(p).Next(), 24)
	}
	return ipam.Pool{}, fmt.Errorf("all pools of %s are in use", d.ranges)
}

// ReleasePool ends one use of a pool; the last one forgets its addresses.
func (d *driver) ReleasePool(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pools[id]
	if p == nil {
		return nil // it was released before, and the host did not get the answer
	}
	if p.Uses--; p.Uses <= 0 {
		delete(d.pools, id)
	}
	return d.saveLocked()
}

// RequestAddress takes an address into use.
func (d *driver) RequestAddress(_ context.Context, r ipam.AddressRequest) (ipam.Address, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pools[r.PoolID]
	if p == nil {
		return ipam.Address{}, fmt.Errorf("no pool %q", r.PoolID)
	}
	a, err := p.choose(r.Address)
	if err != nil {
		return ipam.Address{}, err
	}
	p.Taken[a] = true
	if err := d.saveLocked(); err != nil {
		delete(p.Taken, a)
		return ipam.Address{}, err
	}
	return ipam.Address{Address: netip.PrefixFrom(a, p.Pool.Bits()).String()}, nil
}

// choose is the address that is wanted, or the lowest that is free.
func (p *pool) choose(wanted string) (netip.Addr, error) {
	if wanted != "" {
		a, err := netip.ParseAddr(wanted)
		switch {
		case err != nil:
			return a, err
		case !p.Pool.Contains(a):
			return a, ipam.ErrOutOfRange
		case p.Taken[a]:
			return a, fmt.Errorf("address %s is in use", a)
		}
		return a, nil
	}
	for a, n := p.Sub.Addr(), 0; p.Sub.Contains(a) && n < maxScan; a, n = a.Next(), n+1 {
		if !p.Taken[a] && !p.reserved(a) {
			return a, nil
		}
	}
	return netip.Addr{}, ipam.ErrNoAvailableIPs
}

// reserved says whether an address stands for the whole pool.
func (p *pool) reserved(a netip.Addr) bool {
	if p.Pool.Addr().BitLen()-p.Pool.Bits() < 2 {
		return false // links of two have no such addresses
	}
	return a == p.Pool.Addr() || a.Is4() && a == lastAddr(p.Pool)
}

// lastAddr is the last address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// ReleaseAddress gives an address back. One that is not in use is no error:
// hosts also release gateways that they were told of.
func (d *driver) ReleaseAddress(_ context.Context, id string, a netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pools[id]
	if p == nil || !p.Taken[a] {
		return nil
	}
	delete(p.Taken, a)
	return d.saveLocked()
}
