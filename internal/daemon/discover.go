package daemon

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/plugins"
)

// discoverWait bounds the time that a plugin has to answer.
const discoverWait = 5 * time.Second

// discoverProbes bounds how many plugins are asked at once.
const discoverProbes = 32

// subsystems are the capabilities that v1 plugins can have.
var subsystems = []string{"VolumeDriver", "NetworkDriver", "IpamDriver", "authz", "LogDriver", "MetricsCollector", "secretprovider", "GraphDriver"}

// Discover asks every v1 plugin of the host what it can do.
func (b backend) Discover(ctx context.Context) (outlet.V1Plugins, error) {
	definitions, err := b.legacy.Definitions()
	found := outlet.V1Plugins{Plugins: make([]outlet.V1Plugin, len(definitions))}
	for _, e := range split(err) {
		found.Warnings = append(found.Warnings, e.Error())
	}
	slots := make(chan struct{}, discoverProbes)
	var wg sync.WaitGroup
	for i, d := range definitions {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found.Plugins[i] = b.ask(ctx, d)
		})
	}
	wg.Wait()
	slices.SortFunc(found.Plugins, func(a, b outlet.V1Plugin) int { return strings.Compare(a.Name, b.Name) })
	return found, ctx.Err()
}

// split undoes errors.Join.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// ask asks one plugin, within bounds.
func (b backend) ask(ctx context.Context, d plugins.Definition) outlet.V1Plugin {
	ctx, cancel := context.WithTimeout(ctx, discoverWait)
	defer cancel()
	p := outlet.V1Plugin{Name: d.Name, Address: d.Addr, Origin: d.Path}
	err := reach(ctx, d.Address)
	if err == nil {
		p.Capabilities, err = b.capabilities(ctx, d)
	}
	if err != nil {
		p.Error = reason(err)
		return p
	}
	p.Reachable = true
	return p
}

// reach connects to the plugin: that it was activated once does not mean that it
// is still there.
func reach(ctx context.Context, a plugins.Address) error {
	network, address := "tcp", a.Host
	switch a.Scheme {
	case "unix":
		network, address = "unix", a.Path
	case "npipe": // only there is nothing to dial with
		return nil
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return c.Close()
}

// capabilities is what the plugin implements.
func (b backend) capabilities(ctx context.Context, d plugins.Definition) ([]string, error) {
	for _, s := range subsystems {
		p, err := b.legacy.Get(ctx, d.Name, s, plugins.WithBudget(0))
		if err == nil {
			return p.Manifest.Implements, nil
		}
		if !errors.Is(err, plugins.ErrNotImplements) {
			return nil, err
		}
	}
	// It has only what nobody knows here, so the registry does not give it out.
	c, err := plugins.NewClient(d.Addr, d.TLS)
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	var m plugins.Manifest
	err = c.CallContext(ctx, activate, nil, &m, plugins.WithRetryBudget(-1))
	return m.Implements, err
}

// reason is why a plugin does not answer, without what stands beside it anyway.
func reason(err error) string {
	var a *plugins.ActivationError
	if errors.As(err, &a) {
		err = a.Err
	}
	return err.Error()
}

// watchLegacy tells of v1 plugins that appear and go, until ctx ends. Those that
// are there when it begins are no news.
func (d *daemon) watchLegacy(ctx context.Context) {
	var known map[string]legacyFile
	err := d.legacy.Watch(ctx, func() {
		now := d.legacyNow()
		if known == nil { // nothing had been read yet, and nothing is missed from now on
			known = now
			return
		}
		for name, p := range known {
			if _, ok := now[name]; !ok {
				d.legacyEvent("vanish", p)
			}
		}
		for name, p := range now {
			if before, ok := known[name]; !ok || before != p {
				d.legacyEvent("discover", p)
			}
		}
		known = now
	})
	if err != nil && !errors.Is(err, plugins.ErrClosed) {
		d.log.Warn("changes of v1 plugins are not noticed until they are used", "err", err)
	}
}

// legacyFile is where a v1 plugin is, and by which file that is known.
type legacyFile struct{ name, address, path string }

func (d *daemon) legacyNow() map[string]legacyFile {
	definitions, err := d.legacy.Definitions()
	if err != nil {
		d.log.Debug("read definitions of v1 plugins", "err", err)
	}
	now := make(map[string]legacyFile, len(definitions))
	for _, def := range definitions {
		now[def.Name] = legacyFile{def.Name, def.Addr, def.Path}
	}
	return now
}

func (d *daemon) legacyEvent(action string, p legacyFile) {
	d.log.Info("v1 plugin: "+action, "plugin", p.name, "address", p.address, "path", p.path)
	d.events.Publish(outlet.Message{Type: "plugin", Action: action, Actor: outlet.Actor{
		ID: p.name, Attributes: map[string]string{"name": p.name, "address": p.address, "origin": p.path, "v1": "true"},
	}})
}
