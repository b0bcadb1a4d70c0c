package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/api"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/version"
)

// system tells the API what the daemon and its host are.
type system struct{ d *daemon }

func (s system) Version(context.Context) (api.Version, error) {
	rt := s.d.manager.RuntimeInfo()
	return api.Version{
		Version:       version.Version(),
		GitCommit:     version.Commit(),
		KernelVersion: s.d.host.Facts().Kernel,
		Components: []api.Component{{
			Name: rt.Name, Version: rt.Version, Details: map[string]string{"GitCommit": rt.Commit},
		}},
	}, nil
}

func (s system) Info(ctx context.Context) (api.Info, error) {
	c := s.d.config()
	rt := s.d.manager.RuntimeInfo()
	facts := s.d.host.Facts()
	id, err := daemonID(c.DataRoot)
	if err != nil {
		return api.Info{}, err
	}
	info := api.Info{
		ID:              id,
		Name:            hostname(),
		ServerVersion:   version.Version(),
		KernelVersion:   facts.Kernel,
		OperatingSystem: facts.OS,
		Architecture:    machine(),
		NCPU:            facts.CPUs,
		MemTotal:        facts.MemoryBytes,
		DataRoot:        c.DataRoot,
		CgroupDriver:    "cgroupfs",
		CgroupVersion:   "1",
		LiveRestore:     c.LiveRestore,
		Debug:           c.Debug,
		HTTPProxy:       proxy(s.d.opts.Getenv, "HTTP_PROXY"),
		HTTPSProxy:      proxy(s.d.opts.Getenv, "HTTPS_PROXY"),
		NoProxy:         proxy(s.d.opts.Getenv, "NO_PROXY"),
		Labels:          c.Labels,
		Warnings:        s.warnings(),
		Descriptors:     descriptors(),
		Goroutines:      runtime.NumGoroutine(),
		EventListeners:  s.d.events.Subscribers(),
		Runtime:         rt.Name,
		RuntimePath:     rt.Path,
		RuntimeCommit:   cmp.Or(rt.Commit, rt.Version), // what clients print as its version
	}
	if facts.Cgroups.Mode == host.CgroupV2 {
		info.CgroupVersion = "2"
	}
	if !rt.Isolates {
		info.CgroupDriver, info.CgroupVersion = "none", ""
	}
	info.Plugins, err = s.pluginNames(ctx)
	return info, err
}

// pluginNames are the names of enabled plugins by what they do.
func (s system) pluginNames(ctx context.Context) (api.InfoPlugins, error) {
	on := true
	list, err := s.d.manager.List(ctx, outlet.ListFilter{Enabled: &on})
	if err != nil {
		return api.InfoPlugins{}, err
	}
	var p api.InfoPlugins
	for _, kind := range []struct {
		capability string
		names      *[]string
	}{{"volumedriver", &p.Volume}, {"networkdriver", &p.Network}, {"authz", &p.Authorization}, {"logdriver", &p.Log}} {
		for _, pl := range list {
			if slices.ContainsFunc(pl.Config.Interface.Types, func(t outlet.Capability) bool { return t.Matches(kind.capability) }) {
				*kind.names = append(*kind.names, pl.Name)
			}
		}
	}
	s.legacyNames(ctx, &p)
	return p, nil
}

// legacyWait is how long the answer to an info waits for v1 plugins that were
// never asked what they are.
const legacyWait = 2 * time.Second

// legacyNames adds the names of v1 plugins.
func (s system) legacyNames(ctx context.Context, p *api.InfoPlugins) {
	ctx, cancel := context.WithTimeout(ctx, legacyWait)
	defer cancel()
	for _, kind := range []struct {
		subsystem string
		names     *[]string
	}{{"VolumeDriver", &p.Volume}, {"NetworkDriver", &p.Network}, {"authz", &p.Authorization}, {"LogDriver", &p.Log}} {
		found, err := s.d.legacy.GetAll(ctx, kind.subsystem)
		if err != nil {
			s.d.log.Debug("ask v1 plugins what they are", "err", err)
		}
		for _, pl := range found {
			*kind.names = append(*kind.names, pl.Name())
		}
	}
}

func (s system) OutletInfo(ctx context.Context) (api.OutletInfo, error) {
	c := s.d.config()
	rt := s.d.manager.RuntimeInfo()
	list, err := s.d.manager.List(ctx, outlet.ListFilter{})
	if err != nil {
		return api.OutletInfo{}, err
	}
	info := api.OutletInfo{
		Version:     version.Version(),
		Root:        c.DataRoot,
		ExecRoot:    c.ExecRoot,
		Runtime:     api.RuntimeInfo{Name: rt.Name, Path: rt.Path, Version: rt.Version, Commit: rt.Commit, Isolates: rt.Isolates, Seccomp: rt.Seccomp},
		Snapshotter: s.d.manager.Store().Snapshotter(),
		LiveRestore: c.LiveRestore,
		Warnings:    s.warnings(),
		Plugins:     api.PluginCounts{Total: len(list)},
	}
	for _, p := range list {
		if p.Enabled {
			info.Plugins.Enabled++
		}
		if p.Status.State == outlet.StateRunning {
			info.Plugins.Running++
		}
	}
	return info, nil
}

// warnings are what an operator should know about this daemon.
func (s system) warnings() []string {
	w := []string{}
	if rt := s.d.manager.RuntimeInfo(); !rt.Isolates {
		w = append(w, "WARNING: the "+rt.Name+" runtime isolates nothing: plugins are as powerful as the daemon")
	}
	return w
}

// proxy reads a proxy variable as Go's HTTP client does.
func proxy(env func(string) string, name string) string {
	if v := env(name); v != "" {
		return v
	}
	return env(strings.ToLower(name))
}

// daemonID is the id of the daemon of a root, made once.
func daemonID(root string) (string, error) {
	path := filepath.Join(root, "daemon-id")
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the daemon's id: %w", err)
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make the daemon's id: %w", err)
	}
	id := hex.EncodeToString(b[:])
	// A crash in between makes another id later: nobody has seen this one.
	if err := durable.ReplaceFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the daemon's id: %w", err)
	}
	return id, nil
}

// descriptors is how many files this process has open, 0 if the kernel does not
// tell.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries) - 1 // that of the directory itself
}

// machine is the hardware's name as uname(2) tells it.
func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil { // it cannot fail with a valid pointer
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// needRestart names the keys that differ and are not taken over by a reload.
func needRestart(old, fresh Config) []string {
	live := []string{"debug", "log-level", "live-restore", "shutdown-timeout", "labels"}
	var names []string
	a, b := reflect.ValueOf(old), reflect.ValueOf(fresh)
	for i := range a.NumField() {
		key := a.Type().Field(i).Tag.Get("json")
		if !slices.Contains(live, key) && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			names = append(names, key)
		}
	}
	return names
}
