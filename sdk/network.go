package sdk

import (
	"context"
	"errors"

	"github.com/outletd/outlet/capability/network"
)

// NetworkDriver serves networks. What hosts do when they fail: a failed
// CreateEndpoint or Join is undone by them, an error of Leave, DeleteEndpoint or
// DeleteNetwork is logged and nothing more.
type NetworkDriver interface {
	// NetworkScope is asked for when the plugin becomes active.
	NetworkScope(ctx context.Context) (network.Scope, error)
	// CreateNetwork makes a network.
	CreateNetwork(ctx context.Context, r network.CreateNetworkRequest) error
	// DeleteNetwork removes a network.
	DeleteNetwork(ctx context.Context, networkID string) error
	// CreateEndpoint makes an endpoint and returns what the request left open:
	// a field that the request has filled must be empty, or the host fails.
	CreateEndpoint(ctx context.Context, r network.CreateEndpointRequest) (network.Interface, error)
	// DeleteEndpoint removes an endpoint.
	DeleteEndpoint(ctx context.Context, networkID, endpointID string) error
	// EndpointOperInfo tells what people may want to know of an endpoint.
	EndpointOperInfo(ctx context.Context, networkID, endpointID string) (map[string]any, error)
	// Join makes an endpoint ready for a sandbox.
	Join(ctx context.Context, r network.JoinRequest) (network.JoinResponse, error)
	// Leave undoes Join.
	Leave(ctx context.Context, networkID, endpointID string) error
}

// NetworkAllocator is a NetworkDriver of a cluster: what AllocateNetwork returns
// is in the options of CreateNetwork on the nodes.
type NetworkAllocator interface {
	AllocateNetwork(ctx context.Context, r network.AllocateNetworkRequest) (options map[string]string, err error)
	FreeNetwork(ctx context.Context, networkID string) error
}

// GatewayChecker is a NetworkDriver that does not want gateways of all networks.
type GatewayChecker interface {
	// CheckGateway gets the options of CreateNetwork and says which gateways
	// need not be allocated.
	CheckGateway(ctx context.Context, options map[string]any) (skipIPv4, skipIPv6 bool, err error)
}

// ExternalConnectivity is a NetworkDriver that publishes ports.
type ExternalConnectivity interface {
	// ProgramExternalConnectivity is called when an endpoint becomes the gateway
	// of its sandbox.
	ProgramExternalConnectivity(ctx context.Context, networkID, endpointID string, options map[string]any) error
	// RevokeExternalConnectivity undoes it.
	RevokeExternalConnectivity(ctx context.Context, networkID, endpointID string) error
}

// NodeDiscoverer is a NetworkDriver that wants to know the nodes of a cluster.
type NodeDiscoverer interface {
	DiscoverNew(ctx context.Context, d network.Discovery) error
	DiscoverDelete(ctx context.Context, d network.Discovery) error
}

func needNetwork(r network.NetworkRequest) string { return missing("NetworkID", r.NetworkID) }

func needEndpoint(r network.EndpointRequest) string {
	return missing("NetworkID", r.NetworkID, "EndpointID", r.EndpointID)
}

func needConnectivity(r network.ConnectivityRequest) string {
	return missing("NetworkID", r.NetworkID, "EndpointID", r.EndpointID)
}

func (h *Handler) addNetwork(d NetworkDriver) {
	if d == nil {
		return
	}
	checker, checks := d.(GatewayChecker)
	h.add(map[string]method{
		network.MethodGetCapabilities: bare(func(ctx context.Context) (any, error) {
			scope, err := d.NetworkScope(ctx)
			if err == nil && scope != network.ScopeLocal && scope != network.ScopeGlobal {
				err = errors.New("scope " + quote(string(scope)) + " is neither local nor global")
			}
			return network.Capabilities{Scope: scope, ConnectivityScope: scope, GwAllocChecker: checks}, err
		}),
		network.MethodCreateNetwork: with(func(r network.CreateNetworkRequest) string { return missing("NetworkID", r.NetworkID) },
			func(ctx context.Context, r network.CreateNetworkRequest) (any, error) {
				return empty{}, d.CreateNetwork(ctx, r)
			}),
		network.MethodDeleteNetwork: with(needNetwork, func(ctx context.Context, r network.NetworkRequest) (any, error) {
			return empty{}, d.DeleteNetwork(ctx, r.NetworkID)
		}),
	})
	if checks {
		h.addOptional(network.MethodGwAllocCheck, with(func(network.CreateNetworkRequest) string { return "" },
			func(ctx context.Context, r network.CreateNetworkRequest) (any, error) {
				v4, v6, err := checker.CheckGateway(ctx, r.Options)
				return struct{ SkipIPv4, SkipIPv6 bool }{v4, v6}, err
			}))
	}
	h.addEndpoint(d)
	h.addNetworkOptional(d)
}

// addEndpoint takes up the methods of endpoints.
func (h *Handler) addEndpoint(d NetworkDriver) {
	h.add(map[string]method{
		network.MethodCreateEndpoint: with(func(r network.CreateEndpointRequest) string {
			return missing("NetworkID", r.NetworkID, "EndpointID", r.EndpointID)
		}, func(ctx context.Context, r network.CreateEndpointRequest) (any, error) {
			i, err := d.CreateEndpoint(ctx, r)
			if err == nil {
				err = leftOpen(r.Interface, &i)
			}
			return struct{ Interface network.Interface }{i}, err
		}),
		network.MethodDeleteEndpoint: with(needEndpoint, func(ctx context.Context, r network.EndpointRequest) (any, error) {
			return empty{}, d.DeleteEndpoint(ctx, r.NetworkID, r.EndpointID)
		}),
		network.MethodEndpointOperInfo: with(needEndpoint, func(ctx context.Context, r network.EndpointRequest) (any, error) {
			v, err := d.EndpointOperInfo(ctx, r.NetworkID, r.EndpointID)
			if v == nil {
				v = map[string]any{}
			}
			return struct{ Value map[string]any }{v}, err
		}),
		network.MethodJoin: with(func(r network.JoinRequest) string {
			return missing("NetworkID", r.NetworkID, "EndpointID", r.EndpointID)
		}, func(ctx context.Context, r network.JoinRequest) (any, error) {
			answer, err := d.Join(ctx, r)
			if err == nil && answer.Err != "" { // a failure is told by the status, too
				err = errors.New(answer.Err)
			}
			if answer.InterfaceName == nil {
				answer.InterfaceName = new(network.InterfaceName) // Docker takes it for granted
			}
			return answer, err
		}),
		network.MethodLeave: with(needEndpoint, func(ctx context.Context, r network.EndpointRequest) (any, error) {
			return empty{}, d.Leave(ctx, r.NetworkID, r.EndpointID)
		}),
	})
}

// leftOpen takes out of i what the request has already: hosts take it for a
// change, even if it is the same. A value that is another one is an error.
func leftOpen(given network.Interface, i *network.Interface) error {
	for _, f := range []struct {
		kind, given string
		got         *string
	}{
		{"IP", given.Address, &i.Address}, {"IP", given.AddressIPv6, &i.AddressIPv6}, {"MAC address", given.MacAddress, &i.MacAddress},
	} {
		switch {
		case f.given == "", *f.got == "":
		case f.given == *f.got:
			*f.got = ""
		default:
			return &network.ModifiedInterfaceError{Kind: f.kind, Given: f.given, Returned: *f.got}
		}
	}
	return nil
}

// addNetworkOptional takes up what drivers may leave out.
func (h *Handler) addNetworkOptional(d NetworkDriver) {
	if a, ok := d.(NetworkAllocator); ok {
		h.addOptional(network.MethodAllocateNetwork, with(func(r network.AllocateNetworkRequest) string { return missing("NetworkID", r.NetworkID) },
			func(ctx context.Context, r network.AllocateNetworkRequest) (any, error) {
				o, err := a.AllocateNetwork(ctx, r)
				return struct{ Options map[string]string }{o}, err
			}))
		h.addOptional(network.MethodFreeNetwork, with(needNetwork, func(ctx context.Context, r network.NetworkRequest) (any, error) {
			return empty{}, a.FreeNetwork(ctx, r.NetworkID)
		}))
	}
	if e, ok := d.(ExternalConnectivity); ok {
		h.addOptional(network.MethodProgramExternalConnectivity, with(needConnectivity, func(ctx context.Context, r network.ConnectivityRequest) (any, error) {
			return empty{}, e.ProgramExternalConnectivity(ctx, r.NetworkID, r.EndpointID, r.Options)
		}))
		h.addOptional(network.MethodRevokeExternalConnectivity, with(needEndpoint, func(ctx context.Context, r network.EndpointRequest) (any, error) {
			return empty{}, e.RevokeExternalConnectivity(ctx, r.NetworkID, r.EndpointID)
		}))
	}
	if n, ok := d.(NodeDiscoverer); ok {
		anything := func(network.Discovery) string { return "" }
		h.addOptional(network.MethodDiscoverNew, with(anything, func(ctx context.Context, r network.Discovery) (any, error) {
			return empty{}, n.DiscoverNew(ctx, r)
		}))
		h.addOptional(network.MethodDiscoverDelete, with(anything, func(ctx context.Context, r network.Discovery) (any, error) {
			return empty{}, n.DiscoverDelete(ctx, r)
		}))
	}
}
