package interop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/capability"
	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/capability/network"
	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/plugins"
)

// helpers starts the plugins of the module helpers and returns a function that
// finds one of them.
func helpers(t *testing.T) func(name, subsystem string) capability.Caller {
	t.Helper()
	testutil.Need(t, testutil.Go)
	dir := testutil.TempDir(t)
	program := filepath.Join(t.TempDir(), "helpers")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(testutil.RepoRoot(t), "test/interop/helpers")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugins: %v\n%s", err, out)
	}
	var log strings.Builder
	cmd := exec.Command(program, dir)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	r, err := plugins.New(plugins.Config{SocketDir: dir, SpecDirs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(name, subsystem string) capability.Caller {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, err := r.Get(ctx, name, subsystem)
		if err != nil {
			t.Fatal(err)
		}
		return p.Client().Caller()
	}
}

// Servers that other people have made with Docker's helpers work with our
// clients: what they answer is understood, and what they refuse is an error.
func TestClientsUnderstandPluginsOfDockersHelpers(t *testing.T) {
	find := helpers(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	refused := func(err error) {
		t.Helper()
		if err == nil || !capability.IsAnswer(err) || !strings.Contains(err.Error(), "refused by the plugin") {
			t.Errorf("got %v", err)
		}
	}

	v := volume.New(find("volume", volume.Name), volume.Timeouts{})
	must(v.Create(ctx, "a", nil))
	refused(v.Create(ctx, "a", map[string]string{"fail": "1"}))
	all, err := v.List(ctx)
	if err != nil || len(all) != 2 || all[0].CreatedAt.Year() != 2026 || !all[1].CreatedAt.IsZero() {
		t.Errorf("volumes: %+v, %v", all, err)
	}
	got, err := v.Get(ctx, "a")
	if err != nil || got == nil || got.Status["n"] != 1.0 {
		t.Errorf("volume: %+v, %v", got, err)
	}
	_, err = v.Get(ctx, "b")
	refused(err)
	if path, err := v.Mount(ctx, "a", "1"); path != "/m/a/1" || err != nil {
		t.Errorf("mount: %s, %v", path, err)
	}
	if path, err := v.Path(ctx, "a"); path != "/m/a" || err != nil {
		t.Errorf("path: %s, %v", path, err)
	}
	refused(v.Unmount(ctx, "a", "1"))
	must(v.Remove(ctx, "a"))
	if scope, err := v.Scope(ctx); scope != volume.ScopeGlobal || err != nil {
		t.Errorf("scope: %s, %v", scope, err)
	}

	n := network.New(find("network", network.Name), network.Options{})
	if c, err := n.Capabilities(ctx); c.Scope != network.ScopeLocal || c.ConnectivityScope != network.ScopeGlobal || err != nil {
		t.Errorf("capabilities: %+v, %v", c, err)
	}
	must(n.CreateNetwork(ctx, network.CreateNetworkRequest{NetworkID: "n", IPv4Data: []network.IPAMData{{Pool: "192.0.2.0/24", Gateway: "192.0.2.1/24"}}}))
	refused(n.CreateNetwork(ctx, network.CreateNetworkRequest{NetworkID: "n"}))
	if o, err := n.AllocateNetwork(ctx, network.AllocateNetworkRequest{NetworkID: "n"}); o["vni"] != "1" || err != nil {
		t.Errorf("allocate: %v, %v", o, err)
	}
	if i, err := n.CreateEndpoint(ctx, network.CreateEndpointRequest{NetworkID: "n", EndpointID: "e", Interface: network.Interface{Address: "192.0.2.2/24"}}); i.MacAddress != "02:00:00:00:00:01" || err != nil {
		t.Errorf("endpoint: %+v, %v", i, err)
	}
	if j, err := n.Join(ctx, network.JoinRequest{NetworkID: "n", EndpointID: "e", SandboxKey: "/k"}); err != nil || j.InterfaceName == nil || j.InterfaceName.SrcName != "s" || j.Gateway != "192.0.2.1" {
		t.Errorf("join: %+v, %v", j, err)
	}
	if info, err := n.EndpointOperInfo(ctx, "n", "e"); info["a"] != "b" || err != nil {
		t.Errorf("info: %v, %v", info, err)
	}
	must(n.ProgramExternalConnectivity(ctx, network.ConnectivityRequest{NetworkID: "n", EndpointID: "e"}))
	must(n.RevokeExternalConnectivity(ctx, "n", "e"))
	must(n.Leave(ctx, "n", "e"))
	must(n.DeleteEndpoint(ctx, "n", "e"))
	must(n.DiscoverNew(ctx, network.Discovery{DiscoveryType: network.NodeDiscovery, DiscoveryData: network.NodeData{Address: "192.0.2.9", Self: true}}))
	must(n.FreeNetwork(ctx, "n"))
	refused(n.DeleteNetwork(ctx, "n"))

	i := ipam.New(find("ipam", ipam.Name), ipam.Options{})
	if c, err := i.Capabilities(ctx); !c.RequiresMACAddress || err != nil {
		t.Errorf("capabilities: %+v, %v", c, err)
	}
	if s, err := i.DefaultAddressSpaces(ctx); s.LocalDefaultAddressSpace != "l" || err != nil {
		t.Errorf("spaces: %+v, %v", s, err)
	}
	if p, err := i.RequestPool(ctx, ipam.PoolRequest{AddressSpace: "l"}); p.PoolID != "p" || err != nil {
		t.Errorf("pool: %+v, %v", p, err)
	}
	if a, err := i.RequestAddress(ctx, ipam.AddressRequest{PoolID: "p"}); a.Address != "192.0.2.2/24" || err != nil {
		t.Errorf("address: %+v, %v", a, err)
	}
	if _, err := i.RequestAddress(ctx, ipam.AddressRequest{PoolID: "p", Address: "192.0.2.3"}); !errors.Is(err, ipam.ErrNoAvailableIPs) {
		t.Errorf("no address left: %v", err)
	}
	must(i.ReleaseAddress(ctx, "p", "192.0.2.2"))
	must(i.ReleasePool(ctx, "p"))

	z := authz.New("z", find("authz", authz.Name), authz.Options{})
	must(z.AllowRequest(ctx, &authz.Request{RequestMethod: "GET", RequestURI: "/_ping"}))
	var denied *authz.DeniedError
	if err := z.AllowRequest(ctx, &authz.Request{RequestMethod: "POST", RequestURI: "/build"}); !errors.As(err, &denied) || denied.Msg != "only GET" {
		t.Errorf("denied: %v", err)
	}
	var failed *authz.FailedError
	if err := z.AllowResponse(ctx, &authz.Request{RequestMethod: "GET", RequestURI: "/_ping", ResponseStatusCode: 200}); !errors.As(err, &failed) {
		t.Errorf("failed: %v", err)
	}

	s := secret.New(find("secret", secret.Name), secret.Options{})
	if value, once, err := s.Get(ctx, secret.Request{SecretName: "a"}); string(value) != "open sesame" || !once || err != nil {
		t.Errorf("secret: %q, %v, %v", value, once, err)
	}
	_, _, err = s.Get(ctx, secret.Request{SecretName: "b"})
	refused(err)
}
