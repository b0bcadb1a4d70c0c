package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/outletd/outlet/capability/network"
)

// networkState is what is kept of a network.
type networkState struct {
	// Gateway is the address of the bridge, and Pool the network's.
	Gateway netip.Prefix
	// Endpoints are addresses by the ids of endpoints.
	Endpoints map[string]netip.Prefix
}

// driver keeps networks in a file: hosts do not tell them again.
type driver struct {
	file string

	mu       sync.Mutex
	networks map[string]*networkState
}

// openDriver takes over the networks of an earlier run. Those whose bridge is
// gone, because the machine was started again, get it again.
func openDriver(file string) (*driver, error) {
	d := &driver{file: file, networks: make(map[string]*networkState)}
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
	if err := json.Unmarshal(b, &d.networks); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for id, n := range d.networks {
		if n == nil || !n.Gateway.IsValid() || checkID(id) != nil {
			return nil, fmt.Errorf("%s: network %q is damaged", file, id)
		}
		if n.Endpoints == nil {
			n.Endpoints = make(map[string]netip.Prefix)
		}
		if _, err := net.InterfaceByName(bridgeOf(id)); err == nil {
			continue
		}
		if err := provide(id, n.Gateway); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *driver) saveLocked() error {
	b, err := json.MarshalIndent(d.networks, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.file+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(d.file+".new", d.file)
}

// checkID accepts what hosts make: names of links are made of it.
func checkID(id string) error {
	if len(id) < 12 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		return fmt.Errorf("%q is no id", id)
	}
	return nil
}

// Names of links have at most 15 bytes.
func bridgeOf(network string) string { return "bn" + network[:12] }
func portOf(endpoint string) string  { return "bp" + endpoint[:12] }
func peerOf(endpoint string) string  { return "bc" + endpoint[:12] }

// provide makes the bridge of a network.
func provide(id string, gateway netip.Prefix) error {
	if err := addBridge(bridgeOf(id)); err != nil {
		return err
	}
	if err := addAddress(bridgeOf(id), gateway); err != nil {
		return errors.Join(err, removeLink(bridgeOf(id)))
	}
	return nil
}

// NetworkScope is local: a bridge is one machine's.
func (d *driver) NetworkScope(context.Context) (network.Scope, error) {
	return network.ScopeLocal, nil
}

// CreateNetwork makes a bridge with the address of the gateway.
func (d *driver) CreateNetwork(_ context.Context, r network.CreateNetworkRequest) error {
	if err := checkID(r.NetworkID); err != nil {
		return err
	}
	if len(r.IPv4Data) != 1 || len(r.IPv6Data) > 0 {
		return errors.New("a network has one IPv4 pool and no IPv6 here")
	}
	gateway, err := netip.ParsePrefix(r.IPv4Data[0].Gateway)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.networks[r.NetworkID]; ok {
		return fmt.Errorf("network %s exists", r.NetworkID)
	}
	if err := provide(r.NetworkID, gateway); err != nil {
		return err
	}
	d.networks[r.NetworkID] = &networkState{Gateway: gateway, Endpoints: make(map[string]netip.Prefix)}
	if err := d.saveLocked(); err != nil {
		delete(d.networks, r.NetworkID)
		return errors.Join(err, removeLink(bridgeOf(r.NetworkID)))
	}
	return nil
}

// DeleteNetwork removes the bridge. A network that is not known is no error: the
// host wants it not to be.
func (d *driver) DeleteNetwork(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.networks[id]; !ok {
		return nil
	}
	if err := removeLink(bridgeOf(id)); err != nil {
		return err
	}
	delete(d.networks, id)
	return d.saveLocked()
}

func (d *driver) findLocked(id string) (*networkState, error) {
	if n, ok := d.networks[id]; ok {
		return n, nil
	}
	return nil, fmt.Errorf("no network %q", id)
}

// CreateEndpoint notes the endpoint's address, and makes a MAC address of it if
// the host has none: the same address keeps the same one.
func (d *driver) CreateEndpoint(_ context.Context, r network.CreateEndpointRequest) (network.Interface, error) {
	var made network.Interface
	if err := checkID(r.EndpointID); err != nil {
		return made, err
	}
	address, err := netip.ParsePrefix(r.Interface.Address)
	if err != nil || !address.Addr().Is4() {
		return made, fmt.Errorf("endpoint address %q is no IPv4 CIDR", r.Interface.Address)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.findLocked(r.NetworkID)
	if err != nil {
		return made, err
	}
	n.Endpoints[r.EndpointID] = address
	if err := d.saveLocked(); err != nil {
		delete(n.Endpoints, r.EndpointID)
		return made, err
	}
	if r.Interface.MacAddress == "" {
		a := address.Addr().As4()
		made.MacAddress = net.HardwareAddr{0x02, 0x42, a[0], a[1], a[2], a[3]}.String()
	}
	return made, nil
}

// DeleteEndpoint forgets an endpoint.
func (d *driver) DeleteEndpoint(_ context.Context, id, endpoint string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.findLocked(id)
	if err != nil {
		return err
	}
	if _, ok := n.Endpoints[endpoint]; !ok {
		return nil
	}
	delete(n.Endpoints, endpoint)
	return errors.Join(removeLink(portOf(endpoint)), d.saveLocked())
}

// EndpointOperInfo tells the names of the links.
func (d *driver) EndpointOperInfo(_ context.Context, id, endpoint string) (map[string]any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.findLocked(id)
	if err != nil {
		return nil, err
	}
	if _, ok := n.Endpoints[endpoint]; !ok {
		return nil, fmt.Errorf("no endpoint %q", endpoint)
	}
	return map[string]any{"bridge": bridgeOf(id), "port": portOf(endpoint)}, nil
}

// Join makes the pair of links, of which the host moves one into the sandbox.
func (d *driver) Join(_ context.Context, r network.JoinRequest) (network.JoinResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.findLocked(r.NetworkID)
	if err != nil {
		return network.JoinResponse{}, err
	}
	if _, ok := n.Endpoints[r.EndpointID]; !ok {
		return network.JoinResponse{}, fmt.Errorf("no endpoint %q", r.EndpointID)
	}
	if err := addPair(bridgeOf(r.NetworkID), portOf(r.EndpointID), peerOf(r.EndpointID)); err != nil {
		return network.JoinResponse{}, err
	}
	return network.JoinResponse{
		InterfaceName:         &network.InterfaceName{SrcName: peerOf(r.EndpointID), DstPrefix: "eth"},
		Gateway:               n.Gateway.Addr().String(),
		DisableGatewayService: true,
	}, nil
}

// Leave removes the pair.
func (d *driver) Leave(_ context.Context, _, endpoint string) error {
	if err := checkID(endpoint); err != nil {
		return err
	}
	return removeLink(portOf(endpoint))
}
