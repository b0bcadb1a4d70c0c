package api

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/events"
)

// fakePlugins keeps plugins in memory and answers as docs/spec/managed-plugins.md
// §6 says. It is the far side of the routes' border, not a test of the manager.
type fakePlugins struct {
	events *events.Publisher
	// hook, if set, is called at the start of each method with its name; its
	// error is returned.
	hook setting[func(ctx context.Context, method string) error]
	exec setting[func(ctx context.Context, p outlet.Process) (int, error)]
	logs setting[func(ctx context.Context, emit func(outlet.LogEntry) error) error]

	revision atomic.Uint64
	lists    atomic.Int64 // calls of List

	mu      sync.Mutex
	plugins map[string]*outlet.Plugin
	enabled outlet.EnableOptions // the last
	created outlet.CreateOptions // the last
	set     outlet.SetOptions    // the last
}

// setting is a value that a test sets while the server runs.
type setting[T any] struct{ p atomic.Pointer[T] }

func (s *setting[T]) set(v T) { s.p.Store(&v) }

func (s *setting[T]) get() (v T) {
	if p := s.p.Load(); p != nil {
		v = *p
	}
	return v
}

func id(n int) string { return strings.Repeat(fmt.Sprintf("%08x", n), 8) }

func samplePlugin(name string, n int) outlet.Plugin {
	value := "0"
	return outlet.Plugin{
		ID: id(n), Name: name, PluginReference: "docker.io/" + name, Enabled: true,
		Config: outlet.Config{
			Description: "a plugin <for> tests & more",
			Entrypoint:  []string{"/plugin"},
			Env:         []outlet.Env{{Name: "DEBUG", Settable: []string{"value"}, Value: &value}},
			Interface:   outlet.Interface{Socket: "p.sock", Types: []outlet.Capability{{Prefix: "docker", Capability: "volumedriver", Version: "1.0"}}},
			Network:     outlet.Network{Type: "host"},
			WorkDir:     "/",
		},
		Settings: outlet.Settings{Args: []string{}, Devices: []outlet.Device{}, Env: []string{"DEBUG=0"}, Mounts: []outlet.Mount{}},
	}
}

func (f *fakePlugins) begin(ctx context.Context, method string) error {
	hook := f.hook.get()
	if hook == nil {
		return nil
	}
	return hook(ctx, method)
}

func (f *fakePlugins) findLocked(name string) (*outlet.Plugin, error) {
	for _, p := range f.plugins {
		if p.Name == name || p.Name == name+":latest" || strings.HasPrefix(p.ID, name) {
			return p, nil
		}
	}
	return nil, outlet.Errorf(errdefs.ErrNotFound, "plugin %q not found", name)
}

func (f *fakePlugins) List(ctx context.Context, filter outlet.ListFilter) ([]outlet.Plugin, error) {
	f.lists.Add(1)
	if err := f.begin(ctx, "List"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []outlet.Plugin
	for _, p := range f.plugins {
		if filter.Enabled != nil && *filter.Enabled != p.Enabled {
			continue
		}
		if slices.ContainsFunc(filter.Capabilities, func(c string) bool { return p.Config.Interface.Types[0].Capability != c }) {
			continue
		}
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b outlet.Plugin) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (f *fakePlugins) Inspect(ctx context.Context, name string) (outlet.Plugin, error) {
	if err := f.begin(ctx, "Inspect"); err != nil {
		return outlet.Plugin{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.findLocked(name)
	if err != nil {
		return outlet.Plugin{}, err
	}
	return *p, nil
}

func (f *fakePlugins) Create(ctx context.Context, name string, r io.Reader, o outlet.CreateOptions) (outlet.Plugin, []string, error) {
	if err := f.begin(ctx, "Create"); err != nil {
		return outlet.Plugin{}, nil, err
	}
	p := samplePlugin(name+":latest", 0xabc)
	p.Enabled = false
	found := false
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return outlet.Plugin{}, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "failed to read from tar: %w", err)
		}
		if h.Name == "config.json" {
			found = true
			if err := json.NewDecoder(tr).Decode(&p.Config); err != nil {
				return outlet.Plugin{}, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "failed to parse config: %w", err)
			}
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return outlet.Plugin{}, nil, err
	}
	if !found {
		return outlet.Plugin{}, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "config not found")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.findLocked(name); err == nil {
		return outlet.Plugin{}, nil, outlet.Errorf(errdefs.ErrConflict, "plugin %s already exists", p.Name)
	}
	f.created = o
	f.plugins[p.Name] = &p
	f.changed("create", p)
	return p, []string{"unknown key \"x\""}, nil
}

func (f *fakePlugins) changed(action string, p outlet.Plugin) {
	f.revision.Add(1)
	f.events.Publish(outlet.Message{Type: "plugin", Action: action, Actor: outlet.Actor{ID: p.ID, Attributes: map[string]string{"name": p.Name}}})
}

func (f *fakePlugins) change(ctx context.Context, method, name string, do func(p *outlet.Plugin) error) error {
	if err := f.begin(ctx, method); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.findLocked(name)
	if err == nil {
		err = do(p)
	}
	if err == nil {
		f.changed(strings.ToLower(method), *p)
	}
	return err
}

func (f *fakePlugins) Enable(ctx context.Context, name string, o outlet.EnableOptions) error {
	return f.change(ctx, "Enable", name, func(p *outlet.Plugin) error {
		if p.Enabled {
			return outlet.Errorf(errdefs.ErrConflict, "plugin already enabled: plugin %s is enabled", p.Name)
		}
		p.Enabled, f.enabled = true, o
		return nil
	})
}

func (f *fakePlugins) lastEnable() outlet.EnableOptions {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.enabled
}

func (f *fakePlugins) Disable(ctx context.Context, name string, force bool) error {
	return f.change(ctx, "Disable", name, func(p *outlet.Plugin) error {
		switch {
		case !p.Enabled:
			return outlet.Errorf(errdefs.ErrConflict, "plugin is already disabled: plugin %s found but disabled", p.Name)
		case strings.HasPrefix(p.Name, "used") && !force:
			return outlet.Errorf(errdefs.ErrConflict, "plugin %s is in use", p.Name)
		}
		p.Enabled = false
		return nil
	})
}

func (f *fakePlugins) Remove(ctx context.Context, name string, force bool) error {
	return f.change(ctx, "Remove", name, func(p *outlet.Plugin) error {
		if p.Enabled && !force {
			return outlet.Errorf(errdefs.ErrConflict, "plugin %s is enabled", p.Name)
		}
		delete(f.plugins, p.Name)
		return nil
	})
}

func (f *fakePlugins) Set(ctx context.Context, name string, o outlet.SetOptions) error {
	if err := f.begin(ctx, "Set"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.findLocked(name)
	if err != nil {
		return err
	}
	f.set = o
	for _, arg := range o.Set {
		if !strings.HasPrefix(arg, "DEBUG=") {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "setting %q not found in the plugin configuration", arg)
		}
		p.Settings.Env = []string{arg}
	}
	f.revision.Add(1)
	return nil
}

func (f *fakePlugins) Privileges(ctx context.Context, name string) (outlet.Privileges, error) {
	if _, err := f.Inspect(ctx, name); err != nil {
		return nil, err
	}
	return outlet.Privileges{{Name: "network", Description: "permissions to access a network", Value: []string{"host"}}}, nil
}

func (f *fakePlugins) Logs(ctx context.Context, name string, _ outlet.LogOptions, emit func(outlet.LogEntry) error) error {
	if _, err := f.Inspect(ctx, name); err != nil {
		return err
	}
	return f.logs.get()(ctx, emit)
}

func (f *fakePlugins) Exec(ctx context.Context, _ string, p outlet.Process) (int, error) {
	return f.exec.get()(ctx, p)
}

func (f *fakePlugins) Call(ctx context.Context, name, method string, body []byte) (int, []byte, error) {
	if _, err := f.Inspect(ctx, name); err != nil {
		return 0, nil, err
	}
	if method == "Bad.Answer" {
		return http.StatusInternalServerError, []byte("oops"), nil
	}
	return http.StatusOK, []byte(fmt.Sprintf(`{"method":%q,"got":%q}`, method, body)), nil
}

// withRevisions is a fakePlugins that knows when it changed.
func (f *fakePlugins) Discover(ctx context.Context) (outlet.V1Plugins, error) {
	if err := f.begin(ctx, "Discover"); err != nil {
		return outlet.V1Plugins{}, err
	}
	return outlet.V1Plugins{Plugins: []outlet.V1Plugin{
		{Name: "dead", Address: "unix:///run/docker/plugins/dead.sock", Origin: "/run/docker/plugins/dead.sock", Error: "connection refused"},
		{Name: "nfs", Address: "tcp://127.0.0.1:9", Origin: "/etc/docker/plugins/nfs.spec", Capabilities: []string{"VolumeDriver"}, Reachable: true},
	}}, nil
}

type withRevisions struct{ *fakePlugins }

func (f withRevisions) Revision() uint64 { return f.revision.Load() }

// fakeVolumes keeps volumes in memory.
type fakeVolumes struct {
	mu      sync.Mutex
	volumes map[string]outlet.Volume
	filter  outlet.VolumeFilter // the last
	mounted map[string]string   // id by name
	forced  bool
}

func (f *fakeVolumes) List(_ context.Context, filter outlet.VolumeFilter) (outlet.VolumeList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filter = filter
	var l outlet.VolumeList
	for _, v := range f.volumes {
		l.Volumes = append(l.Volumes, v)
	}
	slices.SortFunc(l.Volumes, func(a, b outlet.Volume) int { return strings.Compare(a.Name, b.Name) })
	return l, nil
}

func (f *fakeVolumes) Create(_ context.Context, c outlet.VolumeCreate) (outlet.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Driver == "" || c.Driver == "local" {
		return outlet.Volume{}, outlet.Errorf(errdefs.ErrInvalidArgument, "no volume driver is named; there are: sample")
	}
	if c.Name == "" {
		c.Name = "made"
	}
	v := outlet.Volume{Name: c.Name, Driver: c.Driver, Labels: c.Labels, Options: c.DriverOpts, Scope: "local"}
	f.volumes[c.Name] = v
	return v, nil
}

func (f *fakeVolumes) find(name string) (outlet.Volume, error) {
	v, ok := f.volumes[name]
	if !ok {
		return v, outlet.Errorf(errdefs.ErrNotFound, "get %s: no such volume", name)
	}
	return v, nil
}

func (f *fakeVolumes) Inspect(_ context.Context, name string) (outlet.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(name)
}

func (f *fakeVolumes) Remove(_ context.Context, name string, force bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forced = force
	if id, ok := f.mounted[name]; ok {
		return outlet.Errorf(errdefs.ErrConflict, "remove %s: volume is in use - [%s]", name, id)
	}
	_, err := f.find(name)
	delete(f.volumes, name)
	return err
}

func (f *fakeVolumes) Mount(_ context.Context, name, id string) (string, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.find(name); err != nil {
		return "", "", err
	}
	if id == "" {
		id = "made"
	}
	f.mounted[name] = id
	return "/host/" + name, id, nil
}

func (f *fakeVolumes) Unmount(_ context.Context, name, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok := f.mounted[name]; !ok || (id != "" && id != have) {
		return outlet.Errorf(errdefs.ErrNotFound, "%s is not mounted", name)
	}
	delete(f.mounted, name)
	return nil
}

type fakeSystem struct{}

func (fakeSystem) Version(context.Context) (Version, error) {
	return Version{
		Version: "1.2.3", GitCommit: "abcdef0", BuildTime: "2026-01-02T03:04:05.000000000+00:00", KernelVersion: "6.1.0",
		Components: []Component{{Name: "runc", Version: "1.1.5", Details: map[string]string{"GitCommit": "v1.1.5-0"}}},
	}, nil
}

func (fakeSystem) Info(context.Context) (Info, error) {
	return Info{
		ID: "9f0c", Name: "host", ServerVersion: "1.2.3", KernelVersion: "6.1.0", OperatingSystem: "Debian GNU/Linux 12",
		Architecture: "x86_64", NCPU: 2, MemTotal: 1 << 30, DataRoot: "/var/lib/outlet", CgroupDriver: "cgroupfs", CgroupVersion: "1",
		LiveRestore: true, Descriptors: 30, Goroutines: 40, EventListeners: 1,
		HTTPProxy: "http://user:secret@proxy:3128", Plugins: InfoPlugins{Volume: []string{"foo/bar:latest"}},
		RuntimeCommit: "v1.1.5-0",
	}, nil
}

func (fakeSystem) Check(_ context.Context, repair bool) (outlet.CheckReport, error) {
	return outlet.CheckReport{Problems: []outlet.Problem{{Kind: "orphan blob", Subject: "sha256:1", Detail: "nothing holds it", Repaired: repair}}}, nil
}

func (fakeSystem) OutletInfo(context.Context) (OutletInfo, error) {
	return OutletInfo{
		Version: "1.2.3", Root: "/var/lib/outlet", ExecRoot: "/run/outlet", Snapshotter: "overlayfs", LiveRestore: true,
		Runtime: RuntimeInfo{Name: "runc", Path: "/usr/bin/runc", Version: "1.1.5", Isolates: true},
		Plugins: PluginCounts{Total: 3, Enabled: 2, Running: 1},
	}, nil
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a server over fakes that serves a unix socket.
type rig struct {
	*Server
	t       testing.TB
	plugins *fakePlugins
	volumes *fakeVolumes
	events  *events.Publisher
	log     *logBuffer
	socket  string
	client  *http.Client
	serving sync.WaitGroup
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	pub := events.New(nil)
	g := &rig{
		t:       t,
		events:  pub,
		plugins: &fakePlugins{events: pub, plugins: map[string]*outlet.Plugin{}},
		volumes: &fakeVolumes{volumes: map[string]outlet.Volume{}, mounted: map[string]string{}},
		log:     &logBuffer{},
	}
	for i, name := range []string{"foo/bar:latest", "localhost:5000/a/b/c:1", "used/one:latest"} {
		p := samplePlugin(name, i+1)
		g.plugins.plugins[name] = &p
	}
	g.volumes.volumes["vol"] = outlet.Volume{Name: "vol", Driver: "sample", Scope: "local", Mountpoint: "/host/vol"}
	cfg := Config{
		Plugins: withRevisions{g.plugins}, Volumes: g.volumes, System: fakeSystem{}, Events: pub, Version: "1.2.3",
		Logger: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	dir, err := os.MkdirTemp("", "api") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g.socket = filepath.Join(dir, "s")
	g.serve("unix", g.socket)
	g.client = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", g.socket)
			},
			MaxIdleConnsPerHost: 128,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		g.serving.Wait()
	})
	return g
}

// serve serves one more listener until the test ends, and returns its address.
func (g *rig) serve(network, address string) net.Addr {
	g.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.serving.Go(func() {
		if err := g.Serve(l); err != nil {
			g.t.Errorf("serve: %v", err)
		}
	})
	return l.Addr()
}

// dial opens a connection of its own.
func (g *rig) dial() *net.UnixConn {
	g.t.Helper()
	c, err := net.Dial("unix", g.socket)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c.(*net.UnixConn)
}

// raw sends a request as it is and returns everything that comes back until the
// server closes.
func (g *rig) raw(request string) string {
	g.t.Helper()
	c := g.dial()
	if _, err := io.WriteString(c, request); err != nil {
		g.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		g.t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}
