package manager

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// Create makes a plugin from an archive (docs/spec/managed-plugins.md §7.5): a
// tar, plain or compressed with gzip or zstd, that holds config.json and
// rootfs/. It needs no grant of privileges: who may create may grant. The
// plugin is left disabled. The warnings say what in the archive or its config
// is odd but was accepted.
//
// A bad name, archive or config is errdefs.ErrInvalidArgument, a taken name
// errdefs.ErrAlreadyExists. If ctx ends first nothing is left behind.
func (m *Manager) Create(ctx context.Context, name string, archive io.Reader, o outlet.CreateOptions) (outlet.Plugin, []string, error) {
	name, err := outlet.ParseName(name)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	leave, err := m.enter()
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)() //nolint:contextcheck // ends with the manager, too
	free, err := m.reserve(name)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer free()

	var cfg outlet.Config
	var warnings []string
	art, err := m.store.CreateFromContext(ctx, archive, m.cfg.Limits, func(raw []byte) ([]byte, error) {
		var err error
		cfg, warnings, err = m.checkConfig(raw, true)
		if err != nil {
			return nil, err
		}
		return outlet.EncodeConfig(cfg)
	})
	if err != nil {
		m.collectGarbage() // should what was written not have been removed
		return outlet.Plugin{}, nil, err
	}
	// From here on it is a matter of milliseconds: the client's going away
	// leaves a whole plugin, not half of one.
	ctx = context.WithoutCancel(ctx)
	created := false
	defer func() { m.release(ctx, art, created) }()
	warnings = append(warnings, art.Warnings...)
	// What is used is what was stored: with the digests of the layers.
	if cfg, _, err = m.checkConfig(art.Config, true); err != nil {
		return outlet.Plugin{}, nil, fmt.Errorf("read back the stored config: %w", err)
	}
	p, err := m.add(ctx, store.Record{
		Name:      name,
		Reference: name,
		Config:    cfg,
		Settings:  initialSettings(cfg, o),
		ServiceID: o.ServiceID,
	}, art)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	created = true
	for _, w := range warnings {
		m.log.Warn("created plugin", "plugin", name, "warning", w)
	}
	m.logEvent("create", p.ID, p.Name)
	return p, warnings, nil
}

// checkConfig decodes and validates a config. strict is for a config whose
// author is at hand.
func (m *Manager) checkConfig(raw []byte, strict bool) (outlet.Config, []string, error) {
	cfg, warnings, err := outlet.ParseConfig(raw)
	if err != nil {
		return outlet.Config{}, nil, err
	}
	cfg, more, err := outlet.Validate(cfg, outlet.ValidateOptions{Strict: strict, MaxSocketName: m.maxSocketName()})
	return cfg, append(warnings, more...), err
}

// initialSettings are the defaults of cfg with the environment of o.
func initialSettings(cfg outlet.Config, o outlet.CreateOptions) outlet.Settings {
	s := outlet.NewSettings(cfg)
	for _, kv := range o.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		at := -1
		for i, have := range s.Env {
			if n, _, _ := strings.Cut(have, "="); n == name {
				at = i
			}
		}
		if at < 0 {
			s.Env = append(s.Env, kv)
		} else {
			s.Env[at] = kv
		}
	}
	return s
}

// add makes rec a plugin: in the store, and known to the manager.
func (m *Manager) add(ctx context.Context, rec store.Record, art *store.Artifact) (outlet.Plugin, error) {
	id, err := m.newID()
	if err != nil {
		return outlet.Plugin{}, err
	}
	rec.ID, rec.CreatedAt = id, m.now().UTC()
	rec, err = m.store.Add(ctx, rec, art)
	if err != nil {
		return outlet.Plugin{}, err
	}
	u := newUnit(m, rec)
	if err := m.launchUnit(u); err != nil {
		return outlet.Plugin{}, err
	}
	p := u.snapshot()
	m.events.publish(Event{Kind: EventCreate, Plugin: p})
	return p, nil
}

// newID returns an id whose short form, which names the plugin's directories at
// run time, no other plugin has.
func (m *Manager) newID() (string, error) {
	for {
		id, err := outlet.NewID(rand.Reader)
		if err != nil {
			return "", fmt.Errorf("make an id: %w", err)
		}
		m.mu.RLock()
		taken := false
		for other := range m.units {
			taken = taken || shortID(other) == shortID(id)
		}
		m.mu.RUnlock()
		if !taken {
			return id, nil
		}
	}
}

// reserve keeps name from being taken by anybody else until free is called.
func (m *Manager) reserve(name string) (free func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	_, reserved := m.reserved[name]
	for _, u := range m.units {
		p, _ := u.look()
		reserved = reserved || p.Name == name
	}
	if reserved {
		return nil, outlet.Errorf(errdefs.ErrAlreadyExists, "plugin %s already exists", name)
	}
	m.reserved[name] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.reserved, name)
	}, nil
}
