package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/capability/network"
	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestMain(m *testing.M) {
	if os.Getenv("SDK_TEST_MAIN") != "" {
		sdk.Main("p", sdk.Plugin{Volume: new(volumes)})
		return
	}
	os.Exit(testutil.Main(m))
}

// volumes keeps volumes in memory.
type volumes struct {
	mu sync.Mutex
	m  map[string]volume.Volume
	// before, if not nil, is called by every Get.
	before func(ctx context.Context) error
}

func (v *volumes) Create(_ context.Context, name string, _ map[string]string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m == nil {
		v.m = make(map[string]volume.Volume)
	}
	v.m[name] = volume.Volume{Name: name, Mountpoint: "/v/" + name}
	return nil
}

func (v *volumes) Get(ctx context.Context, name string) (volume.Volume, error) {
	if v.before != nil {
		if err := v.before(ctx); err != nil {
			return volume.Volume{}, err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if found, ok := v.m[name]; ok {
		return found, nil
	}
	return volume.Volume{}, fmt.Errorf("no volume %s", name)
}

func (v *volumes) List(context.Context) ([]volume.Volume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Values(v.m)), nil
}

func (v *volumes) Remove(ctx context.Context, name string) error {
	if _, err := v.Get(ctx, name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.m, name)
	return nil
}

func (v *volumes) Path(ctx context.Context, name string) (string, error) {
	found, err := v.Get(ctx, name)
	return found.Mountpoint, err
}

func (v *volumes) Mount(ctx context.Context, name, _ string) (string, error) {
	return v.Path(ctx, name)
}
func (v *volumes) Unmount(context.Context, string, string) error { return nil }

type scoped struct {
	*volumes
	scope volume.Scope
}

func (s scoped) Scope(context.Context) (volume.Scope, error) { return s.scope, nil }

// networks says yes to everything, and answers addresses it was given.
type networks struct{}

func (networks) NetworkScope(context.Context) (network.Scope, error) { return network.ScopeLocal, nil }

func (networks) CreateNetwork(context.Context, network.CreateNetworkRequest) error {
	return nil
}
func (networks) DeleteNetwork(context.Context, string) error { return nil }
func (networks) CreateEndpoint(_ context.Context, r network.CreateEndpointRequest) (network.Interface, error) {
	i := r.Interface
	i.MacAddress = "02:00:00:00:00:01"
	return i, nil
}
func (networks) DeleteEndpoint(context.Context, string, string) error { return nil }
func (networks) EndpointOperInfo(context.Context, string, string) (map[string]any, error) {
	return nil, nil
}

func (networks) Join(context.Context, network.JoinRequest) (network.JoinResponse, error) {
	return network.JoinResponse{}, nil
}
func (networks) Leave(context.Context, string, string) error { return nil }

// pool gives out the addresses of one pool.
type pool struct {
	mu    sync.Mutex
	taken map[netip.Addr]bool
	p     netip.Prefix
}

func (*pool) DefaultAddressSpaces(context.Context) (ipam.AddressSpaces, error) {
	return ipam.AddressSpaces{LocalDefaultAddressSpace: "l", GlobalDefaultAddressSpace: "g"}, nil
}

func (p *pool) RequestPool(_ context.Context, r ipam.PoolRequest) (ipam.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken, p.p = make(map[netip.Addr]bool), netip.MustParsePrefix(r.Pool)
	return ipam.Pool{PoolID: "one", Pool: r.Pool}, nil
}
func (*pool) ReleasePool(context.Context, string) error { return nil }
func (p *pool) RequestAddress(_ context.Context, r ipam.AddressRequest) (ipam.Address, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := p.p.Addr().Next(); p.p.Contains(a); a = a.Next() {
		if !p.taken[a] && (r.Address == "" || r.Address == a.String()) {
			p.taken[a] = true
			return ipam.Address{Address: netip.PrefixFrom(a, p.p.Bits()).String()}, nil
		}
	}
	return ipam.Address{}, ipam.ErrNoAvailableIPs
}

func (p *pool) ReleaseAddress(_ context.Context, _ string, a netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, a)
	return nil
}

type onlyGET struct{}

func (onlyGET) AuthZReq(_ context.Context, r authz.Request) (sdk.Decision, error) {
	if r.RequestMethod != http.MethodGet {
		return sdk.Deny("only GET"), nil
	}
	return sdk.Allow(), nil
}

func (onlyGET) AuthZRes(context.Context, authz.Request) (sdk.Decision, error) {
	return sdk.Allow(), nil
}

// memoryLog keeps the entries of all containers.
type memoryLog struct {
	mu      sync.Mutex
	entries []logdriver.Entry
	closed  int
}

func (l *memoryLog) StartLogging(context.Context, logdriver.Info) (sdk.LogSink, error) { return l, nil }

func (l *memoryLog) Log(e *logdriver.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := *e
	kept.Line = slices.Clone(e.Line)
	l.entries = append(l.entries, kept)
	return nil
}

func (l *memoryLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed++
	return nil
}

type readableLog struct{ *memoryLog }

func (l readableLog) ReadLogs(ctx context.Context, _ logdriver.Info, c logdriver.ReadConfig, emit func(*logdriver.Entry) error) error {
	l.mu.Lock()
	entries := slices.Clone(l.entries)
	l.mu.Unlock()
	skip := 0
	for lines, i := 0, len(entries)-1; c.Tail >= 0 && i >= 0; i-- {
		if !entries[i].Partial || entries[i].Metadata.Last {
			if lines++; lines > c.Tail {
				skip = i + 1
				break
			}
		}
	}
	for i := range entries[skip:] {
		if err := emit(&entries[skip+i]); err != nil {
			return err
		}
	}
	if c.Follow {
		<-ctx.Done()
	}
	return nil
}

type collector struct{}

func (collector) StartMetrics(context.Context) error { return nil }
func (collector) StopMetrics(context.Context) error  { return nil }

type vault map[string]string

func (v vault) GetSecret(_ context.Context, r secret.Request) (sdk.Secret, error) {
	value, ok := v[r.SecretName]
	if !ok {
		return sdk.Secret{}, errors.New("no such secret")
	}
	return sdk.Secret{Value: []byte(value)}, nil
}

// running is a plugin that is served.
type running struct {
	addr   string
	stop   context.CancelFunc
	result chan error
}

func start(t *testing.T, p sdk.Plugin, o sdk.Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, result: make(chan error, 1)}
	ready := make(chan string, 1)
	o.Ready = func(addr string) { ready <- addr }
	go func() { r.result <- sdk.Serve(ctx, p, o) }()
	select {
	case r.addr = <-ready:
	case err := <-r.result:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	t.Cleanup(func() { cancel(); r.result <- <-r.result })
	return r
}

// end ends the plugin and returns what Serve returned.
func (r *running) end() error {
	r.stop()
	err := <-r.result
	r.result <- err
	return err
}

func inDir(dir string) sdk.Options {
	return sdk.Options{Config: sdk.Config{Name: "p", SocketDir: filepath.Join(dir, "s"), SpecDir: filepath.Join(dir, "e")}}
}

func everything() sdk.Plugin {
	return sdk.Plugin{
		Volume: scoped{new(volumes), volume.ScopeGlobal}, Network: networks{}, Ipam: new(pool), AuthZ: onlyGET{},
		Log: readableLog{new(memoryLog)}, Metrics: collector{}, Secret: vault{"a": "b"},
	}
}

func TestEveryCapabilityConforms(t *testing.T) {
	for name, p := range map[string]sdk.Plugin{
		"all at once": everything(),
		"without what is optional": {
			Volume: new(volumes), Log: new(memoryLog),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, p, inDir(testutil.TempDir(t)))
			o := sdktest.Options{
				Addr: r.addr, Implements: []string{"VolumeDriver", "LogDriver"}, Join: true,
				AuthZAllowed: map[string]any{"RequestMethod": "GET", "RequestUri": "/_ping"},
				AuthZDenied:  map[string]any{"RequestMethod": "POST", "RequestUri": "/build"},
				Secrets:      map[string]string{"a": "b"},
			}
			if p.Network != nil {
				o.Implements = append(o.Implements, "NetworkDriver", "IpamDriver", "authz", "MetricsCollector", "secretprovider")
			}
			sdktest.Run(t, o)
			if err := r.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// post sends a call to a plugin and returns status and answer.
func post(t *testing.T, addr, method, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(addr, "unix://"); ok {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(addr, "tcp://"))
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post("http://p/"+method, "text/whatever", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(b.String(), "\r\n\r\n")
	return resp.StatusCode, strings.TrimSpace(text)
}

func TestAnswersToWhatFails(t *testing.T) {
	v := &volumes{}
	o := inDir(testutil.TempDir(t))
	o.MaxBody = 1000
	r := start(t, sdk.Plugin{Volume: scoped{v, "nowhere"}, Ipam: new(pool)}, o)
	for _, tt := range []struct {
		name   string
		err    error
		method string
		body   string
		status int
		answer string
	}{
		{"an error is 500", errors.New("no"), "VolumeDriver.Get", `{"Name":"a"}`, 500, `{"Err":"no"}`},
		{"an error can have a status", sdk.WithStatus(404, errors.New("no")), "VolumeDriver.Get", `{"Name":"a"}`, 404, `{"Err":"no"}`},
		{"also one that is wrapped", fmt.Errorf("get: %w", sdk.WithStatus(409, errors.New("no"))), "VolumeDriver.Get", `{"Name":"a"}`, 409, `{"Err":"get: no"}`},
		{"no error has a status that is none", sdk.WithStatus(200, errors.New("no")), "VolumeDriver.Get", `{"Name":"a"}`, 500, `{"Err":"no"}`},
		{"an error without text has one", errors.New(""), "VolumeDriver.Get", `{"Name":"a"}`, 500, `{"Err":"Internal Server Error"}`},
		{"IPAM has two names for it", nil, "IpamDriver.ReleasePool", `{}`, 400, `{"Err":"the call has no PoolID","Error":"the call has no PoolID"}`},
		{"a body that is too long", nil, "VolumeDriver.Get", `{"Name":"` + strings.Repeat("a", 1000) + `"}`, 413, `{"Err":"the body of the call is longer than 1000 bytes"}`},
		{"only the first value counts", nil, "VolumeDriver.Create", `{"name":"a"} {`, 200, `{}`},
		{"a scope there is not", nil, "VolumeDriver.Capabilities", ``, 500, `{"Err":"scope \"nowhere\" is neither local nor global"}`},
		{"a method there is not", nil, "VolumeDriver.Nothing", ``, 404, `{"Err":"the plugin has no method \"VolumeDriver.Nothing\""}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v.before = func(context.Context) error { return tt.err }
			if status, answer := post(t, r.addr, tt.method, tt.body); status != tt.status || answer != tt.answer {
				t.Errorf("got %d %s, want %d %s", status, answer, tt.status, tt.answer)
			}
		})
	}
	v.before = func(context.Context) error { panic("oh") }
	if status, answer := post(t, r.addr, "VolumeDriver.Get", `{"Name":"a"}`); status != 500 || !strings.Contains(answer, "the plugin panicked: oh") {
		t.Errorf("a panic: %d %s", status, answer)
	}
	if status, _ := post(t, r.addr, "VolumeDriver.List", ""); status != 200 {
		t.Errorf("after the panic: %d", status)
	}
}

func TestOptionalMethodsAreNever404ByAnError(t *testing.T) {
	r := start(t, sdk.Plugin{Volume: lying{new(volumes)}}, inDir(testutil.TempDir(t)))
	if status, _ := post(t, r.addr, "VolumeDriver.Capabilities", "{}"); status != 500 {
		t.Errorf("status %d would mean that there is no such method", status)
	}
}

type lying struct{ *volumes }

func (lying) Scope(context.Context) (volume.Scope, error) {
	return "", sdk.WithStatus(404, errors.New("backend not found"))
}

func TestSocketIsForRootAndTheGroup(t *testing.T) {
	dir := testutil.TempDir(t)
	o := inDir(dir)
	o.GID = os.Getgid()
	r := start(t, sdk.Plugin{Volume: new(volumes)}, o)
	path := filepath.Join(dir, "s/p.sock")
	if r.addr != "unix://"+path {
		t.Errorf("served at %s", r.addr)
	}
	for file, want := range map[string]os.FileMode{path: 0o660, filepath.Dir(path): 0o755} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", file, info.Mode().Perm(), want)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestSocketOfSomebodyElse(t *testing.T) {
	dir := testutil.TempDir(t)
	path := filepath.Join(dir, "s/p.sock")
	first := start(t, sdk.Plugin{Volume: new(volumes)}, inDir(dir))
	if err := sdk.Serve(t.Context(), sdk.Plugin{Volume: new(volumes)}, inDir(dir)); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("a second plugin: %v", err)
	}
	// What is somebody else's by now is left alone.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := start(t, sdk.Plugin{Volume: new(volumes)}, inDir(dir))
	if err := first.end(); err != nil {
		t.Error(err)
	}
	if status, _ := post(t, second.addr, "Plugin.Activate", ""); status != 200 {
		t.Errorf("the second plugin answers %d", status)
	}
	if err := second.end(); err != nil {
		t.Error(err)
	}
	// A file that is no socket is not ours to remove.
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sdk.Serve(t.Context(), sdk.Plugin{Volume: new(volumes)}, inDir(dir)); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file in its place: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// A crash leaves a socket behind.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	start(t, sdk.Plugin{Volume: new(volumes)}, inDir(dir))
}

func TestNamesAndAddresses(t *testing.T) {
	dir := testutil.TempDir(t)
	for _, tt := range []struct{ name, address, want string }{
		{"p", "", "unix://" + dir + "/s/p.sock"},
		{"p", "other", "unix://" + dir + "/s/other.sock"},
		{"p", "other.sock", "unix://" + dir + "/s/other.sock"},
		{"p", dir + "/abs", "unix://" + dir + "/abs"},
		{"p", "unix://" + dir + "/abs", "unix://" + dir + "/abs"},
	} {
		o := inDir(dir)
		o.Name, o.Address = tt.name, tt.address
		r := start(t, sdk.Plugin{Volume: new(volumes)}, o)
		if r.addr != tt.want {
			t.Errorf("%q: served at %s, want %s", tt.address, r.addr, tt.want)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct{ name, address string }{
		{"", ""}, {"a/b", ""}, {"..", ""}, {"p", "../x"}, {"p", "ftp://x:1"}, {"p", "tcp://x"}, {"p", "unix://rel"}, {"p", "npipe:////./pipe/x"},
	} {
		o := inDir(dir)
		o.Name, o.Address = tt.name, tt.address
		if err := sdk.Serve(t.Context(), sdk.Plugin{Volume: new(volumes)}, o); err == nil {
			t.Errorf("name %q at %q is accepted", tt.name, tt.address)
		}
	}
	if err := sdk.Serve(t.Context(), sdk.Plugin{}, inDir(dir)); err == nil {
		t.Error("a plugin without capabilities is served")
	}
}

func TestCallsFinishBeforeTheEnd(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	v := &volumes{before: func(ctx context.Context) error {
		close(entered)
		select {
		case <-leave:
			return errors.New("finished")
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	dir := testutil.TempDir(t)
	r := start(t, sdk.Plugin{Volume: v}, inDir(dir))
	answered := make(chan string, 1)
	go func() {
		_, answer := post(t, r.addr, "VolumeDriver.Get", `{"Name":"a"}`)
		answered <- answer
	}()
	<-entered
	r.stop()
	testutil.Eventually(t, time.Minute, func() error {
		if c, err := net.Dial("unix", filepath.Join(dir, "s/p.sock")); err == nil {
			c.Close()
			return errors.New("it still accepts")
		}
		return nil
	})
	close(leave)
	if got := <-answered; got != `{"Err":"finished"}` {
		t.Errorf("the call was answered %s", got)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

func TestTheEndDoesNotWaitForEver(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	v := &volumes{before: func(ctx context.Context) error {
		close(entered)
		<-ctx.Done() // what a handler gets when the time is up
		close(ended)
		return ctx.Err()
	}}
	o := inDir(testutil.TempDir(t))
	o.ShutdownTimeout = 50 * time.Millisecond
	r := start(t, sdk.Plugin{Volume: v}, o)
	go func() {
		c, err := net.Dial("unix", strings.TrimPrefix(r.addr, "unix://"))
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /VolumeDriver.Get HTTP/1.1\r\nHost: p\r\nContent-Length: 12\r\n\r\n%s", `{"Name":"a"}`)
		_, _ = c.Read(make([]byte, 1)) // until it is closed
	}()
	<-entered
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "calls did not end within 50ms") {
		t.Errorf("got %v", err)
	}
	<-ended
}
