// Helpers serves plugins made with docker/go-plugins-helpers, one of each kind,
// on sockets in a directory, for the tests of the directory above. It is a module
// of its own, so that the main one has nothing to do with what it needs; nothing
// else is built from it.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/docker/go-plugins-helpers/authorization"
	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/docker/go-plugins-helpers/secrets"
	"github.com/docker/go-plugins-helpers/volume"
)

var errRefused = errors.New("refused by the plugin")

func main() {
	dir := os.Args[1]
	failed := make(chan error)
	for name, serve := range map[string]func(net.Listener) error{
		"volume":  volume.NewHandler(volumes{}).Serve,
		"network": network.NewHandler(networks{}).Serve,
		"ipam":    ipam.NewHandler(addresses{}).Serve,
		"authz":   authorization.NewHandler(authz{}).Serve,
		"secret":  secrets.NewHandler(vault{}).Serve,
	} {
		l, err := net.Listen("unix", filepath.Join(dir, name+".sock"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() { failed <- serve(l) }()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

type volumes struct{}

func (volumes) Create(r *volume.CreateRequest) error {
	if r.Options["fail"] != "" {
		return errRefused
	}
	return nil
}

func (volumes) List() (*volume.ListResponse, error) {
	return &volume.ListResponse{Volumes: []*volume.Volume{{Name: "a", Mountpoint: "/m/a", CreatedAt: "2026-01-02T03:04:05Z"}, {Name: "b"}}}, nil
}

func (volumes) Get(r *volume.GetRequest) (*volume.GetResponse, error) {
	if r.Name != "a" {
		return nil, errRefused
	}
	return &volume.GetResponse{Volume: &volume.Volume{Name: "a", Status: map[string]any{"n": 1}}}, nil
}
func (volumes) Remove(*volume.RemoveRequest) error { return nil }
func (volumes) Path(r *volume.PathRequest) (*volume.PathResponse, error) {
	return &volume.PathResponse{Mountpoint: "/m/" + r.Name}, nil
}

func (volumes) Mount(r *volume.MountRequest) (*volume.MountResponse, error) {
	return &volume.MountResponse{Mountpoint: "/m/" + r.Name + "/" + r.ID}, nil
}
func (volumes) Unmount(*volume.UnmountRequest) error { return errRefused }
func (volumes) Capabilities() *volume.CapabilitiesResponse {
	return &volume.CapabilitiesResponse{Capabilities: volume.Capability{Scope: "global"}}
}

type networks struct{}

func (networks) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: network.LocalScope, ConnectivityScope: network.GlobalScope}, nil
}

func (networks) CreateNetwork(r *network.CreateNetworkRequest) error {
	if len(r.IPv4Data) != 1 || r.IPv4Data[0].Gateway != "192.0.2.1/24" {
		return errRefused
	}
	return nil
}

func (networks) AllocateNetwork(*network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return &network.AllocateNetworkResponse{Options: map[string]string{"vni": "1"}}, nil
}
func (networks) DeleteNetwork(*network.DeleteNetworkRequest) error { return errRefused }
func (networks) FreeNetwork(*network.FreeNetworkRequest) error     { return nil }
func (networks) CreateEndpoint(*network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	return &network.CreateEndpointResponse{Interface: &network.EndpointInterface{MacAddress: "02:00:00:00:00:01"}}, nil
}
func (networks) DeleteEndpoint(*network.DeleteEndpointRequest) error { return nil }
func (networks) EndpointInfo(*network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{"a": "b"}}, nil
}

func (networks) Join(*network.JoinRequest) (*network.JoinResponse, error) {
	return &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: "s", DstPrefix: "eth"}, Gateway: "192.0.2.1"}, nil
}
func (networks) Leave(*network.LeaveRequest) error                   { return nil }
func (networks) DiscoverNew(*network.DiscoveryNotification) error    { return nil }
func (networks) DiscoverDelete(*network.DiscoveryNotification) error { return nil }
func (networks) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}

func (networks) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}

type addresses struct{}

func (addresses) GetCapabilities() (*ipam.CapabilitiesResponse, error) {
	return &ipam.CapabilitiesResponse{RequiresMACAddress: true}, nil
}

func (addresses) GetDefaultAddressSpaces() (*ipam.AddressSpacesResponse, error) {
	return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: "l", GlobalDefaultAddressSpace: "g"}, nil
}

func (addresses) RequestPool(r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	return &ipam.RequestPoolResponse{PoolID: "p", Pool: "192.0.2.0/24"}, nil
}
func (addresses) ReleasePool(*ipam.ReleasePoolRequest) error { return nil }
func (addresses) RequestAddress(r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	if r.Address != "" {
		return nil, errors.New("no available addresses on this pool")
	}
	return &ipam.RequestAddressResponse{Address: "192.0.2.2/24"}, nil
}
func (addresses) ReleaseAddress(*ipam.ReleaseAddressRequest) error { return nil }

type authz struct{}

func (authz) AuthZReq(r authorization.Request) authorization.Response {
	return authorization.Response{Allow: r.RequestMethod == "GET", Msg: "only GET"}
}

func (authz) AuthZRes(authorization.Request) authorization.Response {
	return authorization.Response{Err: "refused by the plugin"}
}

type vault struct{}

func (vault) Get(r secrets.Request) secrets.Response {
	if r.SecretName != "a" {
		return secrets.Response{Err: "refused by the plugin"}
	}
	return secrets.Response{Value: []byte("open sesame"), DoNotReuse: true}
}
