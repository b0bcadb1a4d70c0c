package volumes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/scopedpath"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/volumes"
	"github.com/outletd/outlet/plugins"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// plugin is a volume plugin: a real HTTP server on a unix socket, with
// directories for volumes.
type plugin struct {
	name, dir string
	client    *plugins.Client

	mu       sync.Mutex
	volumes  map[string]map[string]bool // by name, the ids they are mounted under
	options  map[string]map[string]string
	calls    []string
	instance string
	// instead, if set, may answer a call in place of the plugin: a status other
	// than 0 does.
	instead func(method, name string) (status int, body string)
}

// startPlugin starts a plugin with the name and volumes.
func startPlugin(t *testing.T, name string, has ...string) *plugin {
	t.Helper()
	dir := testutil.TempDir(t)
	p := &plugin{
		name: name, dir: dir, instance: "first",
		volumes: make(map[string]map[string]bool), options: make(map[string]map[string]string),
	}
	for _, v := range has {
		p.volumes[v] = make(map[string]bool)
	}
	for _, d := range []string{"root", "prop"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: p}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	p.client, err = plugins.NewClientWithOptions("unix://"+filepath.Join(dir, "s"), plugins.ClientOptions{RetryBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.client.Close()
		_ = srv.Close()
		<-done
	})
	return p
}

func (p *plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name, ID string
		Opts     map[string]string
	}
	_ = json.NewDecoder(r.Body).Decode(&req)
	method := strings.TrimPrefix(r.URL.Path, "/VolumeDriver.")
	p.mu.Lock()
	p.calls = append(p.calls, strings.TrimSpace(method+" "+req.Name+" "+req.ID))
	instead := p.instead
	p.mu.Unlock()
	if instead != nil {
		if status, body := instead(method, req.Name); status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status, answer := p.answer(method, req.Name, req.ID, req.Opts)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// answer does what is asked. p.mu is held.
func (p *plugin) answer(method, name, id string, opts map[string]string) (int, any) {
	type object = map[string]any
	mounts, ok := p.volumes[name]
	describe := func(name string) object {
		o := object{"Name": name, "CreatedAt": "", "Status": object{"by": p.name}}
		if len(p.volumes[name]) > 0 {
			o["Mountpoint"] = "/mnt/" + name
		}
		return o
	}
	switch method {
	case "Capabilities":
		return http.StatusOK, object{"Capabilities": object{"Scope": "GLOBAL"}}
	case "List":
		list := []object{}
		for _, n := range slices.Sorted(maps.Keys(p.volumes)) {
			list = append(list, describe(n))
		}
		return http.StatusOK, object{"Volumes": list}
	case "Create":
		if !ok {
			p.volumes[name], p.options[name] = make(map[string]bool), opts
		}
		return http.StatusOK, object{}
	}
	if !ok {
		return http.StatusInternalServerError, object{"Err": "no such volume " + name}
	}
	switch method {
	case "Get":
		return http.StatusOK, object{"Volume": describe(name)}
	case "Mount":
		if err := os.MkdirAll(filepath.Join(p.dir, "prop", name), 0o755); err != nil {
			return http.StatusInternalServerError, object{"Err": err.Error()}
		}
		mounts[id] = true
		return http.StatusOK, object{"Mountpoint": "/mnt/" + name}
	case "Unmount":
		delete(mounts, id)
		return http.StatusOK, object{}
	case "Remove":
		if len(mounts) > 0 {
			return http.StatusInternalServerError, object{"Err": "it is mounted"}
		}
		delete(p.volumes, name)
		return http.StatusOK, object{}
	}
	return http.StatusNotFound, object{}
}

// restart is what a crash and a new start do to a plugin: it forgets its mounts.
func (p *plugin) restart(instance string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instance = instance
	for v := range p.volumes {
		clear(p.volumes[v])
	}
	p.calls = nil
}

func (p *plugin) answerInstead(f func(method, name string) (int, string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = f
}

// called returns the calls since the last time it was asked, without those that
// only look something up.
func (p *plugin) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := slices.DeleteFunc(p.calls, func(c string) bool {
		return strings.HasPrefix(c, "Get") || c == "List" || c == "Capabilities"
	})
	p.calls = nil
	return calls
}

// ids are the ids the volume is mounted under, as the plugin knows them.
func (p *plugin) ids(volume string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.volumes[volume]))
}

func (p *plugin) driver(managed bool) volumes.Driver {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := volumes.Driver{
		Name: p.name, Instance: p.instance, Caller: p.client.Caller(),
		Scope: scopedpath.Identity(),
	}
	if managed {
		d.ID = "id-of-" + filepath.Base(p.dir) // another plugin of the name is another
		d.Scope = scopedpath.Scope{Root: p.dir + "/root", PropagatedMount: "/mnt", PropagatedDir: p.dir + "/prop"}
	}
	return d
}

// host are the plugins of a machine: what manager and the v1 library are to a
// daemon.
type host struct {
	mu       sync.Mutex
	managed  map[string]*plugin
	legacy   map[string]*plugin
	disabled map[string]bool
	holders  map[string]map[string]bool // by plugin, "kind name"
}

func newHost(managed ...*plugin) *host {
	h := &host{
		managed: make(map[string]*plugin), legacy: make(map[string]*plugin),
		disabled: make(map[string]bool), holders: make(map[string]map[string]bool),
	}
	for _, p := range managed {
		h.managed[p.name] = p
	}
	return h
}

func (h *host) Lookup(_ context.Context, name, capability string) (volumes.Driver, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	full, err := outlet.ParseName(name)
	p, ok := h.managed[full]
	switch {
	case err != nil || !ok || capability != "volumedriver":
		return volumes.Driver{}, outlet.Errorf(errdefs.ErrNotFound, "plugin %q not found", name)
	case h.disabled[full]:
		return volumes.Driver{}, outlet.Errorf(errdefs.ErrConflict, "plugin %s found but disabled", full)
	}
	return p.driver(true), nil
}

func (h *host) Acquire(ctx context.Context, name, capability string, holder outlet.Holder) (volumes.Driver, error) {
	d, err := h.Lookup(ctx, name, capability)
	if err != nil {
		return d, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders[d.Name] == nil {
		h.holders[d.Name] = make(map[string]bool)
	}
	h.holders[d.Name][holder.Kind+" "+holder.Name] = true
	return d, nil
}

func (h *host) HoldByID(_ context.Context, id string, holder outlet.Holder) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, p := range h.managed {
		if p.driver(true).ID == id {
			if h.holders[name] == nil {
				h.holders[name] = make(map[string]bool)
			}
			h.holders[name][holder.Kind+" "+holder.Name] = true
			return nil
		}
	}
	return outlet.Errorf(errdefs.ErrNotFound, "plugin %q not found", id)
}

func (h *host) ReleaseHolder(_ context.Context, name string, holder outlet.Holder) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.holders[name], holder.Kind+" "+holder.Name)
	return nil
}

func (h *host) ByCapability(context.Context, string) []volumes.Driver {
	h.mu.Lock()
	defer h.mu.Unlock()
	var l []volumes.Driver
	for name, p := range h.managed {
		if !h.disabled[name] {
			l = append(l, p.driver(true))
		}
	}
	return l
}

func (h *host) disable(name string, disabled bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disabled[name] = disabled
}

// replace is what removing a plugin by force, and creating and enabling another
// under its name, are to a host.
func (h *host) replace(p *plugin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.managed[p.name] = p
	delete(h.holders, p.name)
}

func (h *host) heldBy(name string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.holders[name]))
}

// v1 are the v1 plugins of a host.
type v1 struct{ *host }

func (l v1) Get(_ context.Context, name string) (volumes.Driver, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.legacy[name]; ok {
		return p.driver(false), nil
	}
	return volumes.Driver{}, outlet.Errorf(errdefs.ErrNotFound, "plugin not found")
}

func (l v1) All(context.Context) ([]volumes.Driver, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []volumes.Driver
	for _, p := range l.legacy {
		all = append(all, p.driver(false))
	}
	return all, nil
}

// machine is a host with a daemon's volumes and what it keeps on disk.
type machine struct {
	*host
	*volumes.Service
	store *volumes.BoltStore

	mu     sync.Mutex
	events []string
}

func newMachine(t *testing.T, managed ...*plugin) *machine {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	m := &machine{host: newHost(managed...), store: volumes.NewBoltStore(db)}
	m.restartDaemon(t)
	return m
}

// restartDaemon makes the daemon anew from what is on disk; holders are lost.
func (m *machine) restartDaemon(t *testing.T, change ...func(*volumes.Config)) {
	t.Helper()
	m.host.mu.Lock()
	clear(m.holders)
	m.host.mu.Unlock()
	cfg := volumes.Config{Plugins: m.host, Legacy: v1{m.host}, Store: m.store, Event: m.event}
	for _, c := range change {
		c(&cfg)
	}
	s, err := volumes.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Service = s
}

func (m *machine) event(action string, v outlet.Volume, attributes map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, action+" "+v.Name+" "+attributes["driver"]+" "+attributes["id"])
}

// journal are the ids that the records on disk say the volume is mounted under.
func (m *machine) journal(t *testing.T, volume string) []string {
	t.Helper()
	all, err := m.store.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, r := range all {
		if r.Name == volume {
			for _, mount := range r.Mounts {
				ids = append(ids, mount.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}
