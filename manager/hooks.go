package manager

import (
	"context"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Handler is told that a plugin became ready: because it was enabled, started
// again, or found running when the manager was opened.
type Handler func(ctx context.Context, r Ref)

// SpecOption changes the runtime spec of a plugin before it is started.
type SpecOption func(*specs.Spec)

// hooks are what consumers of a capability registered, by capability in lower
// case without prefix and version.
type hooks struct {
	handlers map[string][]Handler
	options  map[string][]SpecOption
}

// Handle registers a handler for plugins that provide the capability (for
// example "volumedriver"), of major version 1. It runs at each later time such
// a plugin becomes ready; users wait for it, for some seconds, other calls to the
// plugin do not. Its ctx ends with the manager.
func (m *Manager) Handle(capability string, h Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hooks.handlers == nil {
		m.hooks.handlers = make(map[string][]Handler)
	}
	capability = strings.ToLower(capability)
	m.hooks.handlers[capability] = append(m.hooks.handlers[capability], h)
}

// AddSpecOption registers a change to the runtime spec of plugins that provide
// the capability, of major version 1. It takes effect at each plugin's next
// start.
func (m *Manager) AddSpecOption(capability string, o SpecOption) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hooks.options == nil {
		m.hooks.options = make(map[string][]SpecOption)
	}
	capability = strings.ToLower(capability)
	m.hooks.options[capability] = append(m.hooks.options[capability], o)
}

// activated runs the handlers of a plugin that became ready, with no lock held.
func (m *Manager) activated(ctx context.Context, u *unit) {
	p, _ := u.look()
	m.mu.RLock()
	var run []Handler
	for _, t := range p.Config.Interface.Types {
		if t.Major() == 1 {
			run = append(run, m.hooks.handlers[strings.ToLower(t.Capability)]...)
		}
	}
	m.mu.RUnlock()
	if provides(p, "authz") && m.cfg.AuthzChain != nil {
		m.cfg.AuthzChain.Restore(p.Name)
	}
	for _, h := range run {
		h(ctx, Ref{u})
	}
}

// applyOptions applies the spec options for the capabilities in types.
func (m *Manager) applyOptions(u *unit, spec *specs.Spec) {
	p, _ := u.look()
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range p.Config.Interface.Types {
		if t.Major() != 1 {
			continue
		}
		for _, o := range m.hooks.options[strings.ToLower(t.Capability)] {
			o(spec)
		}
	}
}
