package capability_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet/capability"
	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/capability/metrics"
	"github.com/outletd/outlet/capability/network"
	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// clients are all typed clients of one plugin.
type clients struct {
	volume  *volume.Client
	network *network.Client
	ipam    *ipam.Client
	authz   *authz.Client
	log     *logdriver.Client
	metrics *metrics.Client
	secret  *secret.Client
}

func start(t *testing.T) (*pluginstest.Plugin, clients) {
	t.Helper()
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	c, err := plugins.NewClientWithOptions(p.Addr, plugins.ClientOptions{RetryBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return p, connect(c)
}

func connect(pc *plugins.Client) clients {
	c := pc.Caller()
	return clients{
		volume.New(c, volume.Timeouts{}), network.New(c, network.Options{}), ipam.New(c, ipam.Options{}),
		authz.New("p", c, authz.Options{}), logdriver.New(c, logdriver.Options{}), metrics.New(c, metrics.Options{}),
		secret.New(c, secret.Options{}),
	}
}

// one returns the results of a call as one value.
func one[T any](v T, err error) (any, error) { return v, err }

func none(err error) (any, error) { return nil, err }

// mac is base64 on the wire.
var mac = []byte{2, 66, 1, 2, 3, 4}

// Every call of docs/spec/capabilities.md with its request as Docker's host
// writes it, an answer, and what the client makes of it.
var golden = []struct {
	method  string
	call    func(context.Context, clients) (any, error)
	request string
	answer  string
	want    any
}{
	{"VolumeDriver.Create", func(ctx context.Context, c clients) (any, error) {
		return none(c.volume.Create(ctx, "v", map[string]string{"size": "1"}))
	}, `{"Name":"v","Opts":{"size":"1"}}`, `{"Err":""}`, nil},
	{"VolumeDriver.Create", func(ctx context.Context, c clients) (any, error) {
		return none(c.volume.Create(ctx, "v", nil))
	}, `{"Name":"v","Opts":null}`, `{}`, nil},
	{
		"VolumeDriver.Get", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Get(ctx, "v")) },
		`{"Name":"v"}`, `{"Volume":{"Name":"v","Mountpoint":"/m","CreatedAt":"2020-01-02T03:04:05+01:00","Status":{"a":[1]}}}`,
		&volume.Volume{Name: "v", Mountpoint: "/m", CreatedAt: volume.Time{Time: time.Date(2020, 1, 2, 2, 4, 5, 0, time.UTC)}, Status: map[string]any{"a": []any{1.0}}},
	},
	{
		"VolumeDriver.Get", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Get(ctx, "v")) },
		`{"Name":"v"}`, `{"Volume":{"Name":"v","CreatedAt":""}}`, &volume.Volume{Name: "v"},
	},
	{
		"VolumeDriver.Get", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Get(ctx, "v")) },
		`{"Name":"v"}`, `{"volume":{"name":"v","createdat":"yesterday"}}`, &volume.Volume{Name: "v"},
	},
	{
		"VolumeDriver.Get", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Get(ctx, "v")) },
		`{"Name":"v"}`, `{"Volume":null}`, (*volume.Volume)(nil),
	},
	{
		"VolumeDriver.List", func(ctx context.Context, c clients) (any, error) { return one(c.volume.List(ctx)) },
		`{}`, `{"Volumes":[{"Name":"a"},null,{"Name":""},{"Name":"b"}]}`,
		[]volume.Volume{{Name: "a"}, {Name: "b"}},
	},
	{
		"VolumeDriver.List", func(ctx context.Context, c clients) (any, error) { return one(c.volume.List(ctx)) },
		`{}`, `{"Volumes":null}`,
		[]volume.Volume{},
	},
	{"VolumeDriver.Remove", func(ctx context.Context, c clients) (any, error) { return none(c.volume.Remove(ctx, "v")) }, `{"Name":"v"}`, `{}`, nil},
	{"VolumeDriver.Path", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Path(ctx, "v")) }, `{"Name":"v"}`, `{"Mountpoint":"/m"}`, "/m"},
	{"VolumeDriver.Mount", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Mount(ctx, "v", "id")) }, `{"Name":"v","ID":"id"}`, `{"Mountpoint":"/m"}`, "/m"},
	{"VolumeDriver.Unmount", func(ctx context.Context, c clients) (any, error) { return none(c.volume.Unmount(ctx, "v", "id")) }, `{"Name":"v","ID":"id"}`, `{}`, nil},
	{"VolumeDriver.Capabilities", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Scope(ctx)) }, `{}`, `{"Capabilities":{"Scope":"GLOBAL"}}`, volume.ScopeGlobal},
	{"VolumeDriver.Capabilities", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Scope(ctx)) }, `{}`, `{"Capabilities":{"Scope":"galactic"}}`, volume.ScopeLocal},
	{"VolumeDriver.Capabilities", func(ctx context.Context, c clients) (any, error) { return one(c.volume.Scope(ctx)) }, `{}`, `{}`, volume.ScopeLocal},

	{
		"NetworkDriver.GetCapabilities", func(ctx context.Context, c clients) (any, error) { return one(c.network.Capabilities(ctx)) },
		``, `{"Scope":"local"}`,
		network.Capabilities{Scope: "local", ConnectivityScope: "local"},
	},
	{
		"NetworkDriver.GetCapabilities", func(ctx context.Context, c clients) (any, error) { return one(c.network.Capabilities(ctx)) },
		``, `{"Scope":"global","ConnectivityScope":"local","GwAllocChecker":true}`,
		network.Capabilities{Scope: "global", ConnectivityScope: "local", GwAllocChecker: true},
	},
	{
		"NetworkDriver.AllocateNetwork", func(ctx context.Context, c clients) (any, error) {
			return one(c.network.AllocateNetwork(ctx, network.AllocateNetworkRequest{NetworkID: "n", IPv4Data: []network.IPAMData{{Pool: "10.0.0.0/8", Gateway: "10.0.0.1/8", AuxAddresses: map[string]string{"a": "10.0.0.2/8"}}}}))
		}, `{"NetworkID":"n","Options":null,"IPv4Data":[{"AddressSpace":"","Pool":"10.0.0.0/8","Gateway":"10.0.0.1/8","AuxAddresses":{"a":"10.0.0.2/8"}}],"IPv6Data":null}`,
		`{"Options":{"vni":"1"}}`,
		map[string]string{"vni": "1"},
	},
	{"NetworkDriver.FreeNetwork", func(ctx context.Context, c clients) (any, error) { return none(c.network.FreeNetwork(ctx, "n")) }, `{"NetworkID":"n"}`, `{}`, nil},
	{"NetworkDriver.GwAllocCheck", func(ctx context.Context, c clients) (any, error) {
		a, b, err := c.network.GwAllocCheck(ctx, map[string]any{network.OptionInternal: true})
		return []bool{a, b}, err
	}, `{"Options":{"com.docker.network.internal":true}}`, `{"SkipIPv4":true}`, []bool{true, false}},
	{"NetworkDriver.CreateNetwork", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.CreateNetwork(ctx, network.CreateNetworkRequest{NetworkID: "n", Options: map[string]any{network.OptionGeneric: map[string]any{"x": "y"}}, IPv4Data: []network.IPAMData{}, IPv6Data: []network.IPAMData{}}))
	}, `{"NetworkID":"n","Options":{"com.docker.network.generic":{"x":"y"}},"IPv4Data":[],"IPv6Data":[]}`, `{}`, nil},
	{"NetworkDriver.DeleteNetwork", func(ctx context.Context, c clients) (any, error) { return none(c.network.DeleteNetwork(ctx, "n")) }, `{"NetworkID":"n"}`, `{}`, nil},
	{
		"NetworkDriver.CreateEndpoint", func(ctx context.Context, c clients) (any, error) {
			return one(c.network.CreateEndpoint(ctx, network.CreateEndpointRequest{NetworkID: "n", EndpointID: "e", Interface: network.Interface{Address: "10.0.0.2/8"}, Options: map[string]any{network.OptionMAC: mac, network.OptionPortMap: []network.PortBinding{{Proto: 6, IP: "1.2.3.4", Port: 80, HostIP: "0.0.0.0", HostPort: 8080, HostPortEnd: 8081}}, network.OptionExposedPorts: []network.TransportPort{{Proto: 132, Port: 9}}}}))
		}, `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.0.0.2/8","AddressIPv6":"","MacAddress":""},"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":132,"Port":9}],"com.docker.network.endpoint.macaddress":"AkIBAgME","com.docker.network.portmap":[{"Proto":6,"IP":"1.2.3.4","Port":80,"HostIP":"0.0.0.0","HostPort":8080,"HostPortEnd":8081}]}}`,
		`{"Interface":{"MacAddress":"02:42:01:02:03:04"}}`,
		network.Interface{MacAddress: "02:42:01:02:03:04"},
	},
	{"NetworkDriver.CreateEndpoint", func(ctx context.Context, c clients) (any, error) {
		return one(c.network.CreateEndpoint(ctx, network.CreateEndpointRequest{NetworkID: "n", EndpointID: "e"}))
	}, `{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"","AddressIPv6":"","MacAddress":""},"Options":null}`, `{"Interface":null}`, network.Interface{}},
	{"NetworkDriver.DeleteEndpoint", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.DeleteEndpoint(ctx, "n", "e"))
	}, `{"NetworkID":"n","EndpointID":"e"}`, `{}`, nil},
	{"NetworkDriver.EndpointOperInfo", func(ctx context.Context, c clients) (any, error) {
		return one(c.network.EndpointOperInfo(ctx, "n", "e"))
	}, `{"NetworkID":"n","EndpointID":"e"}`, `{"Value":{"a":"b"}}`, map[string]any{"a": "b"}},
	{
		"NetworkDriver.Join", func(ctx context.Context, c clients) (any, error) {
			return one(c.network.Join(ctx, network.JoinRequest{NetworkID: "n", EndpointID: "e", SandboxKey: "/s"}))
		}, `{"NetworkID":"n","EndpointID":"e","SandboxKey":"/s","Options":null}`,
		`{"InterfaceName":{"SrcName":"veth0","DstPrefix":"eth"},"Gateway":"10.0.0.1","StaticRoutes":[{"Destination":"10.1.0.0/16","RouteType":1}],"DisableGatewayService":true}`,
		network.JoinResponse{InterfaceName: &network.InterfaceName{SrcName: "veth0", DstPrefix: "eth"}, Gateway: "10.0.0.1", StaticRoutes: []network.StaticRoute{{Destination: "10.1.0.0/16", RouteType: 1}}, DisableGatewayService: true},
	},
	{"NetworkDriver.Leave", func(ctx context.Context, c clients) (any, error) { return none(c.network.Leave(ctx, "n", "e")) }, `{"NetworkID":"n","EndpointID":"e"}`, `{}`, nil},
	{"NetworkDriver.ProgramExternalConnectivity", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.ProgramExternalConnectivity(ctx, network.ConnectivityRequest{NetworkID: "n", EndpointID: "e", Options: map[string]any{}}))
	}, `{"NetworkID":"n","EndpointID":"e","Options":{}}`, `{}`, nil},
	{"NetworkDriver.RevokeExternalConnectivity", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.RevokeExternalConnectivity(ctx, "n", "e"))
	}, `{"NetworkID":"n","EndpointID":"e"}`, `{}`, nil},
	{"NetworkDriver.DiscoverNew", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.DiscoverNew(ctx, network.Discovery{DiscoveryType: network.NodeDiscovery, DiscoveryData: network.NodeData{Address: "a", BindAddress: "b", Self: true}}))
	}, `{"DiscoveryType":1,"DiscoveryData":{"Address":"a","BindAddress":"b","Self":true}}`, `{}`, nil},
	{"NetworkDriver.DiscoverDelete", func(ctx context.Context, c clients) (any, error) {
		return none(c.network.DiscoverDelete(ctx, network.Discovery{DiscoveryType: 1}))
	}, `{"DiscoveryType":1,"DiscoveryData":null}`, `{}`, nil},

	{"IpamDriver.GetCapabilities", func(ctx context.Context, c clients) (any, error) { return one(c.ipam.Capabilities(ctx)) }, ``, `{"RequiresMACAddress":true}`, ipam.Capabilities{RequiresMACAddress: true}},
	{
		"IpamDriver.GetDefaultAddressSpaces", func(ctx context.Context, c clients) (any, error) { return one(c.ipam.DefaultAddressSpaces(ctx)) }, ``,
		`{"LocalDefaultAddressSpace":"l","GlobalDefaultAddressSpace":"g"}`,
		ipam.AddressSpaces{LocalDefaultAddressSpace: "l", GlobalDefaultAddressSpace: "g"},
	},
	{
		"IpamDriver.RequestPool", func(ctx context.Context, c clients) (any, error) {
			return one(c.ipam.RequestPool(ctx, ipam.PoolRequest{AddressSpace: "l", V6: true}))
		}, `{"AddressSpace":"l","Pool":"","SubPool":"","Options":null,"V6":true}`, `{"PoolID":"p","Pool":"fd00::/64","Data":{"com.docker.network.gateway":"fd00::1/64"}}`,
		ipam.Pool{PoolID: "p", Pool: "fd00::/64", Data: map[string]string{ipam.DataGateway: "fd00::1/64"}},
	},
	{"IpamDriver.ReleasePool", func(ctx context.Context, c clients) (any, error) { return none(c.ipam.ReleasePool(ctx, "p")) }, `{"PoolID":"p"}`, `{}`, nil},
	{"IpamDriver.RequestAddress", func(ctx context.Context, c clients) (any, error) {
		return one(c.ipam.RequestAddress(ctx, ipam.AddressRequest{PoolID: "p", Options: map[string]string{ipam.OptionAddressType: ipam.DataGateway}}))
	}, `{"PoolID":"p","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, `{"Address":"10.0.0.1/8"}`, ipam.Address{Address: "10.0.0.1/8"}},
	{"IpamDriver.ReleaseAddress", func(ctx context.Context, c clients) (any, error) {
		return none(c.ipam.ReleaseAddress(ctx, "p", "10.0.0.1"))
	}, `{"PoolID":"p","Address":"10.0.0.1"}`, `{}`, nil},

	{"AuthZPlugin.AuthZReq", func(ctx context.Context, c clients) (any, error) {
		return none(c.authz.AllowRequest(ctx, &authz.Request{User: "u", UserAuthNMethod: "TLS", RequestMethod: "POST", RequestURI: "/x", RequestBody: []byte("{}"), RequestHeaders: map[string]string{"A": "b"}, RequestPeerCertificates: [][]byte{[]byte("pem")}}))
	}, `{"User":"u","UserAuthNMethod":"TLS","RequestMethod":"POST","RequestUri":"/x","RequestBody":"e30=","RequestHeaders":{"A":"b"},"RequestPeerCertificates":["cGVt"]}`, `{"Allow":true}`, nil},
	{"AuthZPlugin.AuthZRes", func(ctx context.Context, c clients) (any, error) {
		return none(c.authz.AllowResponse(ctx, &authz.Request{ResponseStatusCode: 200, ResponseBody: []byte("x"), ResponseHeaders: map[string]string{"A": "b"}}))
	}, `{"ResponseStatusCode":200,"ResponseBody":"eA==","ResponseHeaders":{"A":"b"}}`, `{"Allow":true}`, nil},

	{"LogDriver.StartLogging", func(ctx context.Context, c clients) (any, error) {
		return none(c.log.StartLogging(ctx, "/f", logdriver.Info{ContainerID: "c"}))
	}, `{"File":"/f","Info":{"Config":null,"ContainerID":"c","ContainerName":"","ContainerEntrypoint":"","ContainerArgs":null,"ContainerImageID":"","ContainerImageName":"","ContainerCreated":"0001-01-01T00:00:00Z","ContainerEnv":null,"ContainerLabels":null,"LogPath":"","DaemonName":""}}`, `{}`, nil},
	{"LogDriver.StopLogging", func(ctx context.Context, c clients) (any, error) { return none(c.log.StopLogging(ctx, "/f")) }, `{"File":"/f"}`, `{}`, nil},
	{"LogDriver.Capabilities", func(ctx context.Context, c clients) (any, error) {
		caps, warning, err := c.log.Capabilities(ctx)
		return caps, errors.Join(warning, err)
	}, ``, `{"Cap":{"ReadLogs":true}}`, logdriver.Capabilities{ReadLogs: true}},
	{"LogDriver.ReadLogs", func(ctx context.Context, c clients) (any, error) {
		r, err := c.log.ReadLogs(ctx, logdriver.Info{ContainerID: "c", ContainerCreated: time.Unix(1, 5).UTC()}, logdriver.ReadConfig{Tail: -1, Follow: true})
		if err == nil {
			r.Close()
		}
		return nil, err
	}, `{"Info":{"Config":null,"ContainerID":"c","ContainerName":"","ContainerEntrypoint":"","ContainerArgs":null,"ContainerImageID":"","ContainerImageName":"","ContainerCreated":"1970-01-01T00:00:01.000000005Z","ContainerEnv":null,"ContainerLabels":null,"LogPath":"","DaemonName":""},"Config":{"Since":"0001-01-01T00:00:00Z","Until":"0001-01-01T00:00:00Z","Tail":-1,"Follow":true}}`, ``, nil},

	{"MetricsCollector.StartMetrics", func(ctx context.Context, c clients) (any, error) { return none(c.metrics.Start(ctx)) }, ``, `{"Err":"is not read"}`, nil},
	{"MetricsCollector.StopMetrics", func(ctx context.Context, c clients) (any, error) { return none(c.metrics.Stop(ctx)) }, ``, ``, nil},

	{"SecretProvider.GetSecret", func(ctx context.Context, c clients) (any, error) {
		v, reuse, err := c.secret.Get(ctx, secret.Request{SecretName: "s", ServiceEndpointSpec: &secret.EndpointSpec{Mode: 1, Ports: []secret.PortConfig{{TargetPort: 80}}}})
		return fmt.Sprint(string(v), reuse), err
	}, `{"SecretName":"s","ServiceEndpointSpec":{"Mode":1,"Ports":[{"TargetPort":80}]}}`, `{"Value":"aGk=","DoNotReuse":true}`, "hitrue"},
}

func TestGolden(t *testing.T) {
	for i, tt := range golden {
		t.Run(fmt.Sprint(i, " ", tt.method), func(t *testing.T) {
			p, c := start(t)
			p.Handle(tt.method, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, tt.answer) })
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b volume.Time) bool { return a.Equal(b.Time) })); d != "" {
				t.Error(d)
			}
			reqs := p.Requests("")
			if len(reqs) != 1 || reqs[0].Method != tt.method {
				t.Fatalf("requests %+v", reqs)
			}
			if got := strings.TrimSuffix(string(reqs[0].Body), "\n"); got != tt.request {
				t.Errorf("request\n%s\nwant\n%s", got, tt.request)
			}
		})
	}
}

// docs/spec/capabilities.md §1.1: the two ways to refuse, for every call, and
// what 404 and no answer at all mean.
func TestErrorMatrix(t *testing.T) {
	tolerant := map[string]bool{ // an answer that is an error means a default
		"VolumeDriver.Capabilities": true, "IpamDriver.GetCapabilities": true,
	}
	optional := map[string]bool{ // 404 means a default
		"VolumeDriver.Capabilities": true, "IpamDriver.GetCapabilities": true, "LogDriver.Capabilities": true,
		"VolumeDriver.Get":                          true, // no such volume
		"NetworkDriver.ProgramExternalConnectivity": true, "NetworkDriver.RevokeExternalConnectivity": true,
	}
	statusDecides := map[string]bool{"MetricsCollector.StartMetrics": true, "MetricsCollector.StopMetrics": true, "LogDriver.ReadLogs": true}
	for _, tt := range golden {
		t.Run(tt.method, func(t *testing.T) {
			p, c := start(t)
			for _, answer := range []struct {
				status int
				body   string
			}{
				{500, `{"Err":"it broke"}`},
				{200, `{"Err":"it broke","Allow":true,"Mountpoint":"/m","Volume":{"Name":"v"}}`},
				{500, "it broke"},
				{404, `{"Err":"it broke"}`},
				{200, `{"Error":"it broke","Pool":"10.0.0.0/8","Address":"10.0.0.1/8"}`},
			} {
				if strings.Contains(answer.body, `"Error"`) && !strings.HasPrefix(tt.method, "IpamDriver.") {
					continue
				}
				p.Handle(tt.method, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(answer.status)
					io.WriteString(w, answer.body)
				})
				_, err := tt.call(t.Context(), c)
				fine := tolerant[tt.method] || answer.status == 404 && optional[tt.method] || answer.status == 200 && statusDecides[tt.method]
				if fine {
					if err != nil {
						t.Errorf("%d %s: %v", answer.status, answer.body, err)
					}
					continue
				}
				var e *capability.Error
				if !errors.As(err, &e) || e.Status != answer.status || e.Message != "it broke" || e.Method != tt.method || !capability.IsAnswer(err) {
					t.Errorf("%d %s: %#v %v", answer.status, answer.body, err, err)
				}
				if got := capability.IsNotImplemented(err); got != (answer.status == 404) {
					t.Errorf("%d: not implemented is %v", answer.status, got)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			p.Handle(tt.method, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			if _, err := tt.call(ctx, c); !errors.Is(err, context.DeadlineExceeded) || capability.IsAnswer(err) {
				t.Errorf("no answer: %v", err)
			}
			p.Close()
			if _, err := tt.call(t.Context(), c); err == nil || capability.IsAnswer(err) {
				t.Errorf("no plugin: %v", err)
			}
		})
	}
}

// What may be sent twice is said in two places, which have to agree.
func TestReplayableAgrees(t *testing.T) {
	of := map[string]func(string) bool{
		"VolumeDriver": volume.Replayable, "NetworkDriver": network.Replayable, "IpamDriver": ipam.Replayable,
		"AuthZPlugin": authz.Replayable, "LogDriver": logdriver.Replayable, "MetricsCollector": metrics.Replayable,
		"SecretProvider": secret.Replayable,
	}
	for _, tt := range golden {
		prefix, _, _ := strings.Cut(tt.method, ".")
		if a, b := plugins.Replayable(tt.method), of[prefix](tt.method); a != b {
			t.Errorf("%s: the client says %v, the capability %v", tt.method, a, b)
		}
	}
	if !plugins.Replayable("/Plugin.Activate") || plugins.Replayable("GraphDriver.ApplyDiff?id=VolumeDriver.Get") {
		t.Error("methods are not told apart")
	}
}

func TestNetworkRefusesWhatHostsMustNotUse(t *testing.T) {
	p, c := start(t)
	p.Reply(network.MethodGetCapabilities, map[string]string{"Scope": "Local"})
	if _, err := c.network.Capabilities(t.Context()); err == nil || err.Error() != `invalid capability: expecting 'local' or 'global', got "Local"` {
		t.Errorf("scope: %v", err)
	}
	given := network.Interface{Address: "10.0.0.2/8", MacAddress: "02:42:01:02:03:04"}
	for _, tt := range []struct {
		back network.Interface
		text string
	}{
		{network.Interface{Address: "10.0.0.2/8"}, "driver modified interface address: endpoint interface IP present (10.0.0.2/8). Cannot be modified with (10.0.0.2/8)."},
		{network.Interface{MacAddress: "x"}, "driver modified interface address: endpoint interface MAC address present (02:42:01:02:03:04). Cannot be modified with (x)."},
	} {
		p.Reply(network.MethodCreateEndpoint, map[string]any{"Interface": tt.back})
		_, err := c.network.CreateEndpoint(t.Context(), network.CreateEndpointRequest{Interface: given})
		var me *network.ModifiedInterfaceError
		if !errors.As(err, &me) || err.Error() != tt.text {
			t.Errorf("%v, want %s", err, tt.text)
		}
	}
}

func TestIpamConditionsAreKnownByTheirTexts(t *testing.T) {
	p, c := start(t)
	for text, want := range map[string]error{
		"pool p: no available addresses on this pool": ipam.ErrNoAvailableIPs,
		"requested address is out of range":           ipam.ErrOutOfRange,
	} {
		p.Fail(ipam.MethodRequestAddress, 500, text)
		if _, err := c.ipam.RequestAddress(t.Context(), ipam.AddressRequest{}); !errors.Is(err, want) || !capability.IsAnswer(err) {
			t.Errorf("%s: %v", text, err)
		}
	}
	p.Reply(ipam.MethodRequestAddress, struct{}{})
	if _, err := c.ipam.RequestAddress(t.Context(), ipam.AddressRequest{}); !errors.Is(err, ipam.ErrNoAddress) {
		t.Errorf("no address: %v", err)
	}
	if _, err := c.ipam.RequestPool(t.Context(), ipam.PoolRequest{SubPool: "10.0.0.0/16"}); err == nil {
		t.Error("a sub-pool without a pool was sent")
	}
}

// Looking for a pool that fits ends, and gives back what does not.
func TestIpamSearchForAFreePoolEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		pool     func(n int) (id, pool string)
		requests int
		found    bool
	}{
		"same pool again":  {func(int) (string, string) { return "p", "10.0.0.0/8" }, 2, false},
		"third one fits":   {func(n int) (string, string) { return fmt.Sprint("p", n), fmt.Sprintf("10.%d.0.0/16", n) }, 3, true},
		"none ever fits":   {func(n int) (string, string) { return fmt.Sprint("p", n), "10.1.0.0/16" }, 64, false},
		"nonsense as pool": {func(int) (string, string) { return "p", "nonsense" }, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, c := start(t)
			n := 0
			p.Handle(ipam.MethodRequestPool, func(w http.ResponseWriter, _ *http.Request) {
				n++
				id, pool := tt.pool(n)
				json.NewEncoder(w).Encode(map[string]string{"PoolID": id, "Pool": pool})
			})
			p.Reply(ipam.MethodReleasePool, struct{}{})
			_, err := c.ipam.RequestFreePool(t.Context(), ipam.PoolRequest{}, func(p netip.Prefix) bool { return p.String() == "10.3.0.0/16" })
			released := len(p.Requests(ipam.MethodReleasePool))
			want := tt.requests
			if tt.found || name == "nonsense as pool" {
				want--
			}
			if n != tt.requests || released != want || (err == nil) != tt.found || !tt.found && !errors.Is(err, ipam.ErrNoPool) {
				t.Errorf("%d requests, %d releases, %v", n, released, err)
			}
		})
	}
}

func TestAuthzFailsClosed(t *testing.T) {
	p, c := start(t)
	for _, tt := range []struct {
		name, text string
		answer     any
		status     int
	}{
		{"denied", "authorization denied by plugin p: not you", map[string]any{"Allow": false, "Msg": "not you"}, 200},
		{"empty answer", "authorization denied by plugin p: ", struct{}{}, 200},
		{"allowed and failed", "plugin p failed with error: AuthZPlugin.AuthZReq: hm", map[string]any{"Allow": true, "Err": "hm"}, 200},
		{"failed", "plugin p failed with error: AuthZPlugin.AuthZReq: hm", map[string]any{"Allow": true, "Err": "hm"}, 500},
		{"not implemented", "plugin p failed with error: AuthZPlugin.AuthZReq: hm", map[string]any{"Err": "hm"}, 404},
		{"undecodable", "", "yes", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.Handle(authz.MethodRequest, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				json.NewEncoder(w).Encode(tt.answer)
			})
			err := c.authz.AllowRequest(t.Context(), &authz.Request{})
			if err == nil || tt.text != "" && err.Error() != tt.text {
				t.Errorf("%v, want %s", err, tt.text)
			}
			var denied *authz.DeniedError
			if errors.As(err, &denied) != (reflect.TypeOf(err) == reflect.TypeFor[*authz.DeniedError]()) {
				t.Errorf("type %T", err)
			}
		})
	}
}

func TestSecretSizes(t *testing.T) {
	p, c := start(t)
	for size, ok := range map[int]bool{0: false, 1: true, 511999: true, 512000: false} {
		for _, own := range []bool{true, false} {
			p.Reply(secret.MethodGetSecret, secret.Response{Value: make([]byte, size), DoNotReuse: own})
			v, doNotReuse, err := c.secret.Get(t.Context(), secret.Request{})
			if (err == nil) != ok || ok && (len(v) != size || doNotReuse != own) || !ok && !errors.Is(err, secret.ErrSize) {
				t.Errorf("%d bytes: %d bytes, %v, %v", size, len(v), doNotReuse, err)
			}
		}
	}
}

func TestLogCapabilities(t *testing.T) {
	p, c := start(t)
	for status, warns := range map[int]bool{404: false, 405: false, 501: false, 500: true} {
		p.Fail(logdriver.MethodCapabilities, status, "no")
		caps, warning, err := c.log.Capabilities(t.Context())
		if caps.ReadLogs || (warning != nil) != warns || err != nil {
			t.Errorf("%d: %v, warning %v, error %v", status, caps, warning, err)
		}
	}
	p.Close()
	if _, _, err := c.log.Capabilities(t.Context()); err == nil {
		t.Error("no answer is no error")
	}
}

func TestReadLogsKeepsItsPromises(t *testing.T) {
	p, c := start(t)
	at := func(s int64) int64 { return time.Unix(s, 0).UnixNano() }
	p.Handle(logdriver.MethodReadLogs, func(w http.ResponseWriter, r *http.Request) {
		enc := logdriver.NewEncoder(w)
		for _, e := range []logdriver.Entry{
			{Source: "stdout", TimeNano: at(1), Line: []byte("too old\n")},
			{Source: "stdout", TimeNano: at(2), Line: []byte("a\n")},
			{Source: "stdin", TimeNano: at(2), Line: []byte("no source\n")},
			{Source: "stderr", TimeNano: at(3), Line: []byte("b\n")},
			{Source: "stdout", TimeNano: at(4), Line: []byte("too new\n")},
			{Source: "stdout", TimeNano: at(3), Line: []byte("after the end\n")},
		} {
			enc.Encode(&e)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r, err := c.log.ReadLogs(t.Context(), logdriver.Info{ContainerID: "c"}, logdriver.ReadConfig{Since: time.Unix(2, 0), Until: time.Unix(3, 0), Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got string
	var e logdriver.Entry
	for err = r.Next(&e); err == nil; err = r.Next(&e) {
		got += string(e.Line)
	}
	if got != "a\nb\n" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	p, c := start(t)
	p.Handle(logdriver.MethodReadLogs, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.log.ReadLogs(ctx, logdriver.Info{}, logdriver.ReadConfig{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := r.Next(new(logdriver.Entry)); !errors.Is(err, context.Canceled) { // nothing else would end it
		t.Errorf("got %v", err)
	}
}
