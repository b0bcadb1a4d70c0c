// Package network calls network plugins (manifest name NetworkDriver): typed
// methods over anything that can call, and the types on the wire, as
// docs/spec/capabilities.md §3 has them.
//
// It allocates no addresses and touches no interface: it is how to ask, not what
// to do with the answer.
package network

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what a network plugin has in its manifest; Type is the same in the
// configuration of a managed plugin.
const (
	Name = "NetworkDriver"
	Type = "docker.networkdriver/1.0"
)

// Methods, as they are called.
const (
	MethodGetCapabilities             = "NetworkDriver.GetCapabilities"
	MethodAllocateNetwork             = "NetworkDriver.AllocateNetwork"
	MethodFreeNetwork                 = "NetworkDriver.FreeNetwork"
	MethodGwAllocCheck                = "NetworkDriver.GwAllocCheck"
	MethodCreateNetwork               = "NetworkDriver.CreateNetwork"
	MethodDeleteNetwork               = "NetworkDriver.DeleteNetwork"
	MethodCreateEndpoint              = "NetworkDriver.CreateEndpoint"
	MethodDeleteEndpoint              = "NetworkDriver.DeleteEndpoint"
	MethodEndpointOperInfo            = "NetworkDriver.EndpointOperInfo"
	MethodJoin                        = "NetworkDriver.Join"
	MethodLeave                       = "NetworkDriver.Leave"
	MethodProgramExternalConnectivity = "NetworkDriver.ProgramExternalConnectivity"
	MethodRevokeExternalConnectivity  = "NetworkDriver.RevokeExternalConnectivity"
	MethodDiscoverNew                 = "NetworkDriver.DiscoverNew"
	MethodDiscoverDelete              = "NetworkDriver.DiscoverDelete"
)

// Keys of the Options of requests.
const (
	// OptionGeneric holds what the user gave the driver, an object.
	OptionGeneric = "com.docker.network.generic"
	// OptionEnableIPv4 and OptionEnableIPv6 are bool.
	OptionEnableIPv4 = "com.docker.network.enable_ipv4"
	OptionEnableIPv6 = "com.docker.network.enable_ipv6"
	// OptionInternal is true for a network without a way out, and absent
	// otherwise.
	OptionInternal = "com.docker.network.internal"
	// OptionExposedPorts is a list of TransportPort.
	OptionExposedPorts = "com.docker.network.endpoint.exposedports"
	// OptionPortMap is a list of PortBinding.
	OptionPortMap = "com.docker.network.portmap"
	// OptionMAC is six bytes, which is base64 on the wire, unlike the MacAddress
	// of an interface.
	OptionMAC = "com.docker.network.endpoint.macaddress"
	// OptionNoProxy6To4 is true where another endpoint is the gateway for IPv6.
	OptionNoProxy6To4 = "com.docker.network.driver.private.no_proxy_6to4"
)

// Replayable says whether a method may be sent again although the plugin may
// have got it.
func Replayable(method string) bool {
	switch method {
	case MethodGetCapabilities, MethodGwAllocCheck, MethodEndpointOperInfo, MethodDiscoverNew, MethodDiscoverDelete:
		return true
	}
	return false
}

// Scope is local or global.
type Scope string

const (
	// ScopeLocal is a network of one machine.
	ScopeLocal Scope = "local"
	// ScopeGlobal is a network of a cluster.
	ScopeGlobal Scope = "global"
)

// Capabilities is what a plugin says of itself.
type Capabilities struct {
	// Scope is for whom networks are made.
	Scope Scope
	// ConnectivityScope is how far they reach; Client.Capabilities fills it in
	// where a plugin leaves it out.
	ConnectivityScope Scope `json:",omitempty"`
	// GwAllocChecker says that GwAllocCheck may be called.
	GwAllocChecker bool `json:",omitempty"`
}

// IPAMData is one address pool of a network. Unset fields are empty.
type IPAMData struct {
	AddressSpace string
	// Pool and Gateway are CIDR.
	Pool    string `json:",omitempty"`
	Gateway string `json:",omitempty"`
	// AuxAddresses are CIDR, too, by name.
	AuxAddresses map[string]string `json:",omitempty"`
}

// AllocateNetworkRequest asks a cluster's driver to set a network aside.
type AllocateNetworkRequest struct {
	NetworkID          string
	Options            map[string]string
	IPv4Data, IPv6Data []IPAMData
}

// CreateNetworkRequest asks for a network.
type CreateNetworkRequest struct {
	NetworkID          string
	Options            map[string]any
	IPv4Data, IPv6Data []IPAMData
}

// Interface is an endpoint's. In requests all fields are there, empty where the
// plugin may choose; addresses are CIDR.
type Interface struct {
	Address, AddressIPv6, MacAddress string
}

// CreateEndpointRequest asks for an endpoint.
type CreateEndpointRequest struct {
	NetworkID, EndpointID string
	Interface             Interface
	Options               map[string]any
}

// JoinRequest asks to make an endpoint ready for a sandbox.
type JoinRequest struct {
	NetworkID, EndpointID, SandboxKey string
	Options                           map[string]any
}

// ConnectivityRequest is about an endpoint that is its sandbox's gateway.
type ConnectivityRequest struct {
	NetworkID, EndpointID string
	Options               map[string]any
}

// NetworkRequest names a network, EndpointRequest an endpoint.
type NetworkRequest struct{ NetworkID string } //nolint:revive // beside EndpointRequest, Request alone says nothing

// EndpointRequest names an endpoint.
type EndpointRequest struct{ NetworkID, EndpointID string }

// InterfaceName says which interface to move into the sandbox. It is called
// DstPrefix and a number there; DstName is ignored by hosts.
type InterfaceName struct {
	SrcName, DstPrefix string
	DstName            string `json:",omitempty"`
}

// Types of StaticRoute.
const (
	// RouteNextHop is a route through NextHop.
	RouteNextHop = 0
	// RouteConnected is a route without one.
	RouteConnected = 1
)

// StaticRoute is a route of a sandbox.
type StaticRoute struct {
	Destination string
	RouteType   int
	NextHop     string `json:",omitempty"`
}

// JoinResponse is the answer to Join.
type JoinResponse struct {
	InterfaceName         *InterfaceName
	Gateway, GatewayIPv6  string
	StaticRoutes          []StaticRoute
	DisableGatewayService bool
	capability.Refusal
}

// TransportPort is a port of OptionExposedPorts. Proto is an IP protocol number:
// 1 icmp, 6 tcp, 17 udp, 132 sctp.
type TransportPort struct {
	Proto uint8
	Port  uint16
}

// PortBinding is a port of OptionPortMap. IPs are text.
type PortBinding struct {
	Proto       uint8
	IP          string
	Port        uint16
	HostIP      string
	HostPort    uint16
	HostPortEnd uint16
}

// NodeDiscovery is the only DiscoveryType that plugins get: a machine that joins
// or leaves, as DiscoveryData.
const NodeDiscovery = 1

// Discovery tells of something that was found, or is gone.
type Discovery struct {
	DiscoveryType int
	DiscoveryData any
}

// NodeData is a machine of a cluster.
type NodeData struct {
	Address, BindAddress string
	Self                 bool
}

type (
	response             struct{ capability.Refusal }
	capabilitiesResponse struct {
		Capabilities
		capability.Refusal
	}
	allocateResponse struct {
		Options map[string]string
		capability.Refusal
	}
	gwAllocRequest  struct{ Options map[string]any }
	gwAllocResponse struct {
		SkipIPv4, SkipIPv6 bool
		capability.Refusal
	}
	endpointResponse struct {
		Interface *Interface
		capability.Refusal
	}
	infoResponse struct {
		Value map[string]any
		capability.Refusal
	}
)

// DefaultTimeout is the limit of a call that Options leave at zero.
const DefaultTimeout = 2 * time.Minute

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds each call, in addition to its context. Zero means
	// DefaultTimeout, a negative value no limit.
	Timeout time.Duration
}

// Client calls one network plugin. It is safe for concurrent use if its Caller
// is, and has no state.
type Client struct {
	caller  capability.Caller
	timeout time.Duration
}

// New returns a client that calls through c.
func New(c capability.Caller, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Client{caller: c, timeout: o.Timeout}
}

func (c *Client) do(ctx context.Context, method string, args any, ret capability.Refuser) error {
	return capability.Do(ctx, c.caller, c.timeout, method, args, ret)
}

// Capabilities asks a plugin for its scope. A scope other than exactly local or
// global is an error: such a plugin is not to be used.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	var r capabilitiesResponse
	if err := c.do(ctx, MethodGetCapabilities, nil, &r); err != nil {
		return Capabilities{}, err
	}
	if r.ConnectivityScope == "" {
		r.ConnectivityScope = r.Scope
	}
	for _, s := range []Scope{r.Scope, r.ConnectivityScope} {
		if s != ScopeLocal && s != ScopeGlobal {
			return Capabilities{}, fmt.Errorf("invalid capability: expecting 'local' or 'global', got %q", string(s))
		}
	}
	return r.Capabilities, nil
}

// AllocateNetwork sets a network of a cluster aside and returns the options for
// CreateNetwork on the machines. Not replayable.
func (c *Client) AllocateNetwork(ctx context.Context, q AllocateNetworkRequest) (map[string]string, error) {
	var r allocateResponse
	if err := c.do(ctx, MethodAllocateNetwork, q, &r); err != nil {
		return nil, err
	}
	return r.Options, nil
}

// FreeNetwork undoes AllocateNetwork. Not replayable.
func (c *Client) FreeNetwork(ctx context.Context, networkID string) error {
	return c.do(ctx, MethodFreeNetwork, NetworkRequest{networkID}, new(response))
}

// GwAllocCheck asks which gateways need no address. Only plugins whose
// Capabilities say so know the call.
func (c *Client) GwAllocCheck(ctx context.Context, options map[string]any) (skipIPv4, skipIPv6 bool, err error) {
	var r gwAllocResponse
	err = c.do(ctx, MethodGwAllocCheck, gwAllocRequest{options}, &r)
	return r.SkipIPv4 && err == nil, r.SkipIPv6 && err == nil, err
}

// CreateNetwork makes a network. Not replayable.
func (c *Client) CreateNetwork(ctx context.Context, q CreateNetworkRequest) error {
	return c.do(ctx, MethodCreateNetwork, q, new(response))
}

// DeleteNetwork removes a network. Not replayable.
func (c *Client) DeleteNetwork(ctx context.Context, networkID string) error {
	return c.do(ctx, MethodDeleteNetwork, NetworkRequest{networkID}, new(response))
}

// A ModifiedInterfaceError is an answer to CreateEndpoint that sets what the
// request had set already. The endpoint exists, so the caller has to delete it.
type ModifiedInterfaceError struct {
	// Kind is "IP" or "MAC address"; Given is what the request had, Returned
	// what the plugin answered.
	Kind, Given, Returned string
}

// Error says which address it is.
func (e *ModifiedInterfaceError) Error() string {
	return fmt.Sprintf("driver modified interface address: endpoint interface %s present (%s). Cannot be modified with (%s).", e.Kind, e.Given, e.Returned)
}

// CreateEndpoint makes an endpoint and returns what the plugin chose. A field
// that the request has and the plugin answers, too, is a
// *ModifiedInterfaceError, be it the same value. Not replayable.
func (c *Client) CreateEndpoint(ctx context.Context, q CreateEndpointRequest) (Interface, error) {
	var r endpointResponse
	if err := c.do(ctx, MethodCreateEndpoint, q, &r); err != nil {
		return Interface{}, err
	}
	if r.Interface == nil {
		return Interface{}, nil
	}
	for _, f := range []struct{ kind, given, returned string }{
		{"MAC address", q.Interface.MacAddress, r.Interface.MacAddress},
		{"IP", q.Interface.Address, r.Interface.Address},
		{"IP", q.Interface.AddressIPv6, r.Interface.AddressIPv6},
	} {
		if f.given != "" && f.returned != "" {
			return Interface{}, &ModifiedInterfaceError{f.kind, f.given, f.returned}
		}
	}
	return *r.Interface, nil
}

// DeleteEndpoint removes an endpoint. Not replayable.
func (c *Client) DeleteEndpoint(ctx context.Context, networkID, endpointID string) error {
	return c.do(ctx, MethodDeleteEndpoint, EndpointRequest{networkID, endpointID}, new(response))
}

// EndpointOperInfo returns what a plugin wants people to see of an endpoint.
func (c *Client) EndpointOperInfo(ctx context.Context, networkID, endpointID string) (map[string]any, error) {
	var r infoResponse
	if err := c.do(ctx, MethodEndpointOperInfo, EndpointRequest{networkID, endpointID}, &r); err != nil {
		return nil, err
	}
	return r.Value, nil
}

// Join makes an endpoint ready for a sandbox. Not replayable.
func (c *Client) Join(ctx context.Context, q JoinRequest) (JoinResponse, error) {
	var r JoinResponse
	if err := c.do(ctx, MethodJoin, q, &r); err != nil {
		return JoinResponse{}, err
	}
	for _, route := range r.StaticRoutes {
		if strings.TrimSpace(route.Destination) == "" || route.RouteType == RouteNextHop && route.NextHop == "" {
			return JoinResponse{}, fmt.Errorf("%s: static route %+v is not complete", MethodJoin, route)
		}
	}
	return r, nil
}

// Leave undoes Join. Not replayable.
func (c *Client) Leave(ctx context.Context, networkID, endpointID string) error {
	return c.do(ctx, MethodLeave, EndpointRequest{networkID, endpointID}, new(response))
}

// ProgramExternalConnectivity says that an endpoint became its sandbox's
// gateway. A plugin that does not know the call is no error. Not replayable.
func (c *Client) ProgramExternalConnectivity(ctx context.Context, q ConnectivityRequest) error {
	return optional(c.do(ctx, MethodProgramExternalConnectivity, q, new(response)))
}

// RevokeExternalConnectivity says that it is not the gateway any more. A plugin
// that does not know the call is no error. Not replayable.
func (c *Client) RevokeExternalConnectivity(ctx context.Context, networkID, endpointID string) error {
	return optional(c.do(ctx, MethodRevokeExternalConnectivity, EndpointRequest{networkID, endpointID}, new(response)))
}

func optional(err error) error {
	if capability.IsNotImplemented(err) {
		return nil
	}
	return err
}

// DiscoverNew tells of a machine that joined. Callers only log its error.
func (c *Client) DiscoverNew(ctx context.Context, d Discovery) error {
	return c.do(ctx, MethodDiscoverNew, d, new(response))
}

// DiscoverDelete tells of a machine that left. Callers only log its error.
func (c *Client) DiscoverDelete(ctx context.Context, d Discovery) error {
	return c.do(ctx, MethodDiscoverDelete, d, new(response))
}
