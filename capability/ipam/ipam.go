// Package ipam calls IPAM plugins (manifest name IpamDriver): typed methods over
// anything that can call, and the types on the wire, as
// docs/spec/capabilities.md §4 has them.
//
// It decides nothing about addresses: which pool fits is for the caller, except
// that RequestFreePool does not ask for ever.
package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what an IPAM plugin has in its manifest; Type is the same in the
// configuration of a managed plugin.
const (
	Name = "IpamDriver"
	Type = "docker.ipamdriver/1.0"
)

// Methods, as they are called.
const (
	MethodGetCapabilities         = "IpamDriver.GetCapabilities"
	MethodGetDefaultAddressSpaces = "IpamDriver.GetDefaultAddressSpaces"
	MethodRequestPool             = "IpamDriver.RequestPool"
	MethodReleasePool             = "IpamDriver.ReleasePool"
	MethodRequestAddress          = "IpamDriver.RequestAddress"
	MethodReleaseAddress          = "IpamDriver.ReleaseAddress"
)

// Keys of options and data.
const (
	// DataGateway is the key of RequestPool's Data that holds a gateway, CIDR.
	DataGateway = "com.docker.network.gateway"
	// OptionAddressType is the key that says what an address is for; for a
	// gateway its value is DataGateway.
	OptionAddressType = "RequestAddressType"
	// OptionEndpointName is the name of the endpoint an address is for.
	OptionEndpointName = "com.docker.network.endpoint.name"
	// OptionMAC is its MAC address as text, where RequiresMACAddress asks for
	// it.
	OptionMAC = "com.docker.network.endpoint.macaddress"
)

var (
	// ErrNoAvailableIPs is what errors match if the pool has no address left. It
	// does not cross the wire: it is known by its text.
	ErrNoAvailableIPs = errors.New("no available addresses on this pool")
	// ErrOutOfRange is what errors match if the address is not in the pool. It
	// is known by its text, too.
	ErrOutOfRange = errors.New("requested address is out of range")
	// ErrNoAddress is an answer to RequestAddress without an address.
	ErrNoAddress = errors.New("no address returned")
	// ErrNoPool is what RequestFreePool returns if no pool fits.
	ErrNoPool = errors.New("the plugin has no pool that fits")
)

// Replayable says whether a method may be sent again although the plugin may
// have got it: those that only ask.
func Replayable(method string) bool {
	return method == MethodGetCapabilities || method == MethodGetDefaultAddressSpaces
}

// Refusal is the part of an answer that tells of an error. IPAM plugins that
// follow Docker's network documentation call it Error, all others Err.
type Refusal struct {
	capability.Refusal
	// Error is empty if the call succeeded.
	Error string `json:",omitempty"`
}

// Refused returns what the plugin says went wrong, or nothing.
func (r *Refusal) Refused() string {
	if r.Err != "" {
		return r.Err
	}
	return r.Error
}

// Capabilities is what a plugin wants to be told.
type Capabilities struct {
	// RequiresMACAddress wants OptionMAC in requests for addresses.
	RequiresMACAddress bool
	// RequiresRequestReplay wants the requests for pools and addresses in use
	// repeated when the host starts.
	RequiresRequestReplay bool
}

// AddressSpaces are where networks get their pools from by default.
type AddressSpaces struct {
	LocalDefaultAddressSpace, GlobalDefaultAddressSpace string
}

// PoolRequest asks for a pool.
type PoolRequest struct {
	AddressSpace string
	// Pool is CIDR, or empty for whatever the plugin has.
	Pool string
	// SubPool is the part of Pool to take addresses from, CIDR, or empty.
	SubPool string
	Options map[string]string
	V6      bool
}

// Pool is a pool that is in use.
type Pool struct {
	PoolID string
	// Pool is CIDR.
	Pool string
	Data map[string]string `json:",omitempty"`
}

// AddressRequest asks for an address.
type AddressRequest struct {
	PoolID string
	// Address is the one that is wanted, without a prefix length, or empty.
	Address string
	Options map[string]string
}

// Address is an address that is in use.
type Address struct {
	// Address is CIDR.
	Address string
	Data    map[string]string `json:",omitempty"`
}

// ReleasePoolRequest gives a pool back.
type ReleasePoolRequest struct{ PoolID string }

// ReleaseAddressRequest gives an address back, which has no prefix length.
type ReleaseAddressRequest struct{ PoolID, Address string }

type (
	response             struct{ Refusal }
	capabilitiesResponse struct {
		Capabilities
		Refusal
	}
	spacesResponse struct {
		AddressSpaces
		Refusal
	}
	poolResponse struct {
		Pool
		Refusal
	}
	addressResponse struct {
		Address
		Refusal
	}
)

// DefaultTimeout is the limit of a call that Options leave at zero.
const DefaultTimeout = time.Minute

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds each call, in addition to its context. Zero means
	// DefaultTimeout, a negative value no limit.
	Timeout time.Duration
}

// Client calls one IPAM plugin. It is safe for concurrent use if its Caller is,
// and has no state.
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
	return typed(capability.Do(ctx, c.caller, c.timeout, method, args, ret))
}

// typed recognises conditions by their texts.
func typed(err error) error {
	var e *capability.Error
	if !errors.As(err, &e) {
		return err
	}
	for _, known := range []error{ErrNoAvailableIPs, ErrOutOfRange} {
		if strings.Contains(e.Message, known.Error()) {
			return &condition{err, known}
		}
	}
	return err
}

// condition is an answer that also matches what it means.
type condition struct{ err, is error }

func (c *condition) Error() string   { return c.err.Error() }
func (c *condition) Unwrap() []error { return []error{c.err, c.is} }

// Capabilities asks what the plugin wants to be told. Whatever it answers that
// is an error means nothing; only a call without an answer is an error.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	var r capabilitiesResponse
	err := c.do(ctx, MethodGetCapabilities, nil, &r)
	if capability.IsAnswer(err) {
		return Capabilities{}, nil
	}
	if err != nil {
		return Capabilities{}, err
	}
	return r.Capabilities, nil
}

// DefaultAddressSpaces returns where networks get their pools from.
func (c *Client) DefaultAddressSpaces(ctx context.Context) (AddressSpaces, error) {
	var r spacesResponse
	if err := c.do(ctx, MethodGetDefaultAddressSpaces, nil, &r); err != nil {
		return AddressSpaces{}, err
	}
	return r.AddressSpaces, nil
}

// RequestPool takes a pool into use. A SubPool without a Pool is an error. Not
// replayable: plugins count.
func (c *Client) RequestPool(ctx context.Context, q PoolRequest) (Pool, error) {
	if q.SubPool != "" && q.Pool == "" {
		return Pool{}, errors.New("a sub-pool needs a pool that it is part of")
	}
	var r poolResponse
	if err := c.do(ctx, MethodRequestPool, q, &r); err != nil {
		return Pool{}, err
	}
	if _, err := netip.ParsePrefix(r.Pool.Pool); err != nil {
		return Pool{}, fmt.Errorf("%s: the plugin's pool: %w", MethodRequestPool, err)
	}
	return r.Pool, nil
}

// maxPools is how many pools RequestFreePool sets aside.
const maxPools = 64

// RequestFreePool requests pools until fits says that one does not overlap what
// is in use, and releases those that do. It ends with ErrNoPool when the plugin
// returns a pool that it returned before, or after 64 pools. The error joins
// those of releases; with a pool it is one of those only.
func (c *Client) RequestFreePool(ctx context.Context, q PoolRequest, fits func(netip.Prefix) bool) (Pool, error) {
	var aside []string
	var errs []error
	release := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(c.timeout, DefaultTimeout))
		defer cancel()
		for _, id := range aside {
			if err := c.ReleasePool(ctx, id); err != nil {
				errs = append(errs, err)
			}
		}
	}
	seen := make(map[string]bool)
	for range maxPools {
		p, err := c.RequestPool(ctx, q)
		if err != nil {
			errs = append(errs, err)
			break
		}
		prefix, err := netip.ParsePrefix(p.Pool)
		if err == nil && !seen[p.PoolID] && fits(prefix) {
			release()
			return p, errors.Join(errs...)
		}
		aside = append(aside, p.PoolID)
		if seen[p.PoolID] {
			break
		}
		seen[p.PoolID] = true
	}
	release()
	return Pool{}, errors.Join(append([]error{ErrNoPool}, errs...)...)
}

// ReleasePool gives a pool back, once for each time it was requested. Not
// replayable.
func (c *Client) ReleasePool(ctx context.Context, poolID string) error {
	return c.do(ctx, MethodReleasePool, ReleasePoolRequest{poolID}, new(response))
}

// RequestAddress takes an address into use. Its error can match
// ErrNoAvailableIPs, ErrOutOfRange and ErrNoAddress. Not replayable.
func (c *Client) RequestAddress(ctx context.Context, q AddressRequest) (Address, error) {
	var r addressResponse
	if err := c.do(ctx, MethodRequestAddress, q, &r); err != nil {
		return Address{}, err
	}
	if r.Address.Address == "" {
		return Address{}, ErrNoAddress
	}
	if _, err := netip.ParsePrefix(r.Address.Address); err != nil {
		return Address{}, fmt.Errorf("%s: the plugin's address: %w", MethodRequestAddress, err)
	}
	return r.Address, nil
}

// ReleaseAddress gives an address back, which is without a prefix length. Not
// replayable.
func (c *Client) ReleaseAddress(ctx context.Context, poolID, address string) error {
	return c.do(ctx, MethodReleaseAddress, ReleaseAddressRequest{poolID, address}, new(response))
}
