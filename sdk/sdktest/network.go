package sdktest

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// network follows a network as libnetwork does.
func (s *suite) network(t *testing.T) {
	var c struct{ Scope string }
	s.call(t, dockerHeader, "NetworkDriver.GetCapabilities", nil).into(t, &c)
	if c.Scope != "local" && c.Scope != "global" {
		t.Errorf("scope %q: Docker does not register such a driver", c.Scope)
	}
	pool := netip.MustParsePrefix(s.Pool)
	gateway := netip.PrefixFrom(pool.Addr().Next(), pool.Bits())
	address := netip.PrefixFrom(gateway.Addr().Next(), pool.Bits())
	id, ep := token(), token()
	generic := s.NetworkOpts
	if generic == nil {
		generic = map[string]any{}
	}
	s.call(t, dockerHeader, "NetworkDriver.CreateNetwork", args{
		"NetworkID": id,
		"Options": args{
			"com.docker.network.enable_ipv6": false,
			"com.docker.network.generic":     generic,
		},
		"IPv4Data": []args{{"AddressSpace": "LocalDefault", "Gateway": gateway.String(), "Pool": pool.String()}},
		"IPv6Data": []args{},
	}).ok(t)
	s.endpoint(t, id, ep, address)
	s.call(t, dockerHeader, "NetworkDriver.DeleteNetwork", args{"NetworkID": id}).ok(t)
	// Optional calls are known or 404, and nothing else.
	for _, method := range []string{"NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.RevokeExternalConnectivity", "NetworkDriver.DiscoverNew"} {
		if a := s.call(t, dockerHeader, method, nil); a.status != http.StatusNotFound && a.status != http.StatusBadRequest {
			t.Errorf("%s without a body: status %d", method, a.status)
		}
	}
}

func (s *suite) endpoint(t *testing.T, id, ep string, address netip.Prefix) {
	t.Helper()
	endpoint := args{"NetworkID": id, "EndpointID": ep}
	var made struct {
		Interface *struct{ Address, AddressIPv6, MacAddress string }
	}
	s.call(t, dockerHeader, "NetworkDriver.CreateEndpoint", args{
		"NetworkID": id, "EndpointID": ep,
		"Interface": args{"Address": address.String(), "AddressIPv6": "", "MacAddress": ""},
		"Options":   args{"com.docker.network.endpoint.exposedports": []any{}, "com.docker.network.portmap": []any{}},
	}).into(t, &made)
	if i := made.Interface; i != nil {
		if i.Address != "" {
			t.Errorf("the driver answers the address %q that it was given: Docker takes that for a change and fails", i.Address)
		}
		if _, err := net.ParseMAC(i.MacAddress); i.MacAddress != "" && err != nil {
			t.Error(err)
		}
	}
	var info struct{ Value map[string]any }
	s.call(t, dockerHeader, "NetworkDriver.EndpointOperInfo", endpoint).into(t, &info)
	if s.Join {
		var joined struct {
			InterfaceName struct{ SrcName, DstPrefix string }
			Gateway       string
		}
		s.call(t, dockerHeader, "NetworkDriver.Join", args{
			"NetworkID": id, "EndpointID": ep, "SandboxKey": "/var/run/docker/netns/" + ep[:12], "Options": args{},
		}).into(t, &joined)
		if i := joined.InterfaceName; (i.SrcName == "") != (i.DstPrefix == "") {
			t.Errorf("interface %+v: both names or none", i)
		}
		if _, err := netip.ParseAddr(joined.Gateway); joined.Gateway != "" && err != nil {
			t.Errorf("the gateway is no plain address: %v", err)
		}
		s.call(t, dockerHeader, "NetworkDriver.Leave", endpoint).ok(t)
	}
	s.call(t, dockerHeader, "NetworkDriver.DeleteEndpoint", endpoint).ok(t)
}

// ipam follows a network's addresses as libnetwork does.
func (s *suite) ipam(t *testing.T) {
	s.call(t, dockerHeader, "IpamDriver.GetCapabilities", nil).ok(t)
	var spaces struct{ LocalDefaultAddressSpace, GlobalDefaultAddressSpace string }
	s.call(t, dockerHeader, "IpamDriver.GetDefaultAddressSpaces", nil).into(t, &spaces)
	request := args{"AddressSpace": spaces.LocalDefaultAddressSpace, "Pool": s.Pool, "SubPool": "", "Options": nil, "V6": false}
	var pool, again struct{ PoolID, Pool string }
	s.call(t, dockerHeader, "IpamDriver.RequestPool", request).into(t, &pool)
	prefix, err := netip.ParsePrefix(pool.Pool)
	if err != nil || pool.PoolID == "" {
		t.Fatalf("pool %+v: %v", pool, err)
	}
	s.call(t, dockerHeader, "IpamDriver.RequestPool", request).into(t, &again)
	if again.PoolID != pool.PoolID {
		t.Errorf("the same request has the pools %q and %q", pool.PoolID, again.PoolID)
	}
	s.call(t, dockerHeader, "IpamDriver.ReleasePool", args{"PoolID": pool.PoolID}).ok(t) // one of two
	seen := map[netip.Addr]bool{}
	for _, options := range []any{args{"RequestAddressType": "com.docker.network.gateway"}, nil, args{"com.docker.network.endpoint.name": "one"}} {
		var a struct{ Address string }
		s.call(t, dockerHeader, "IpamDriver.RequestAddress", args{"PoolID": pool.PoolID, "Address": "", "Options": options}).into(t, &a)
		p, err := netip.ParsePrefix(a.Address)
		if err != nil || p.Bits() != prefix.Bits() || !prefix.Contains(p.Addr()) {
			t.Fatalf("address %q of pool %s: it is to have the prefix length of the pool (%v)", a.Address, prefix, err)
		}
		if seen[p.Addr()] {
			t.Errorf("%s is given twice", p.Addr())
		}
		seen[p.Addr()] = true
	}
	for a := range seen {
		taken := s.call(t, dockerHeader, "IpamDriver.RequestAddress", args{"PoolID": pool.PoolID, "Address": a.String(), "Options": nil})
		taken.refused(t)
		taken.both(t)
		s.call(t, dockerHeader, "IpamDriver.ReleaseAddress", args{"PoolID": pool.PoolID, "Address": a.String()}).ok(t)
	}
	s.call(t, dockerHeader, "IpamDriver.ReleaseAddress", args{"PoolID": pool.PoolID, "Address": prefix.Addr().Next().String()}).ok(t) // a gateway from Data
	s.call(t, dockerHeader, "IpamDriver.ReleasePool", args{"PoolID": pool.PoolID}).ok(t)
	s.call(t, dockerHeader, "IpamDriver.RequestPool", args{"AddressSpace": "", "Pool": "", "SubPool": s.Pool}).refused(t)
}
