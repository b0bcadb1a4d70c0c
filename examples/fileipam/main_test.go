package main

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func open(t *testing.T, file string) *driver {
	t.Helper()
	d, err := openDriver(file, netip.MustParsePrefix("10.201.0.0/23"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConforms(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state"))
	sdktest.Run(t, sdktest.Options{
		Addr:       sdktest.Serve(t, "fileipam", sdk.Plugin{Ipam: d}),
		Implements: []string{"IpamDriver"},
	})
	if len(d.pools) != 0 {
		t.Errorf("pools are left: %v", d.pools)
	}
}

func TestWhatIsInUseSurvives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	ctx := t.Context()
	d := open(t, file)
	p, err := d.RequestPool(ctx, ipam.PoolRequest{Pool: "192.0.2.0/29", SubPool: "192.0.2.4/30"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(d *driver) (string, error) {
		a, err := d.RequestAddress(ctx, ipam.AddressRequest{PoolID: p.PoolID})
		return a.Address, err
	}
	for _, want := range []string{"192.0.2.4/29", "192.0.2.5/29"} {
		if got, err := next(d); got != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	d = open(t, file) // started again
	if got, err := next(d); got != "192.0.2.6/29" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := next(d); !errors.Is(err, ipam.ErrNoAvailableIPs) { // the last one is the broadcast address
		t.Errorf("%s, %v", got, err)
	}
	if _, err := d.RequestAddress(ctx, ipam.AddressRequest{PoolID: p.PoolID, Address: "192.0.3.1"}); !errors.Is(err, ipam.ErrOutOfRange) {
		t.Error(err)
	}
	if _, err := d.RequestPool(ctx, ipam.PoolRequest{Pool: "192.0.2.0/24"}); err == nil {
		t.Error("a pool that overlaps another is given out")
	}
}

func TestPoolsNobodyNamed(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state"))
	for _, want := range []string{"10.201.0.0/24", "10.201.1.0/24", ""} {
		p, err := d.RequestPool(t.Context(), ipam.PoolRequest{})
		if p.Pool != want || (err != nil) != (want == "") {
			t.Errorf("%+v, %v; want %q", p, err, want)
		}
	}
}
