package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/capability"
	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/internal/scopedpath"
)

// capabilityName is what volume plugins provide.
const capabilityName = "volumedriver"

// Driver is a volume plugin as it was found at one moment. It is looked up for
// each operation and not kept.
type Driver struct {
	// Name is what records call it: a managed plugin's name with its tag, or a
	// v1 plugin's name.
	Name string
	// ID is a managed plugin's id, and "" for a v1 plugin.
	ID string
	// Instance names the run of the plugin's process; a mount that one run made
	// is made again in another. For v1 plugins, of whose runs little is known, it
	// may be that of the machine. "" is not known.
	Instance string
	// Caller calls the plugin.
	Caller capability.Caller
	// Scope translates the plugin's paths to the host's.
	Scope scopedpath.Scope
}

// Plugins are the managed plugins. A plugin that does not exist is
// errdefs.ErrNotFound; one that exists but is disabled, or is no volume plugin,
// is an error of another class.
type Plugins interface {
	// Lookup returns the plugin its user calls name, if it is enabled and
	// provides the capability.
	Lookup(ctx context.Context, name, capability string) (Driver, error)
	// Acquire is Lookup, and records a holder: the plugin is not disabled
	// without force until it is released, and disabled by force it is still
	// held, and not removed without force. Acquiring it again for the same
	// holder changes nothing.
	Acquire(ctx context.Context, name, capability string, h outlet.Holder) (Driver, error)
	// HoldByID records a holder of the plugin with the id, enabled or not.
	HoldByID(ctx context.Context, id string, h outlet.Holder) error
	// ReleaseHolder takes the holder away. It succeeds if there is none.
	ReleaseHolder(ctx context.Context, name string, h outlet.Holder) error
	// ByCapability returns the enabled plugins that provide the capability.
	ByCapability(ctx context.Context, capability string) []Driver
}

// Legacy are v1 plugins that serve volumes: those somebody else runs.
type Legacy interface {
	// Get returns the plugin of the name; there is none: errdefs.ErrNotFound.
	Get(ctx context.Context, name string) (Driver, error)
	// All returns those that are there. An error says that some could not be
	// looked at; the others are returned all the same.
	All(ctx context.Context) ([]Driver, error)
}

func (s *Service) client(d Driver) *volume.Client { return volume.New(d.Caller, s.cfg.Timeouts) }

// lookup finds the plugin called name: a managed one or, if there is none, a v1
// plugin.
func (s *Service) lookup(ctx context.Context, name string) (Driver, error) {
	d, err := s.cfg.Plugins.Lookup(ctx, name, capabilityName)
	if err == nil || !errdefs.IsNotFound(err) || s.cfg.Legacy == nil {
		return d, err
	}
	l, legacyErr := s.cfg.Legacy.Get(ctx, name)
	if errdefs.IsNotFound(legacyErr) {
		return Driver{}, err
	}
	return l, legacyErr
}

// drivers returns all plugins there are, managed ones first, each kind by name,
// and what went wrong in looking for them. Of two with one name the first
// counts, as it does in lookup.
func (s *Service) drivers(ctx context.Context) ([]Driver, error) {
	all := s.cfg.Plugins.ByCapability(ctx, capabilityName)
	byName := func(a, b Driver) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(all, byName)
	if s.cfg.Legacy == nil {
		return all, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ListTimeout)
	defer cancel()
	legacy, err := s.cfg.Legacy.All(ctx)
	slices.SortFunc(legacy, byName)
	for _, l := range legacy {
		if !slices.ContainsFunc(all, func(d Driver) bool { return sameName(d.Name, l.Name) }) {
			all = append(all, l)
		}
	}
	return all, err
}

// sameName says whether two names mean the same plugin, "latest" being the tag
// of names without one.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := outlet.ParseName(a)
	y, errY := outlet.ParseName(b)
	return errX == nil && errY == nil && x == y
}

// known says which drivers there are, for errors about one that is not.
func (s *Service) known(ctx context.Context) string {
	all, err := s.drivers(ctx)
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	switch {
	case len(names) > 0:
		return "the volume drivers here are: " + strings.Join(names, ", ")
	case err != nil:
		return fmt.Sprintf("no volume driver can be reached: %v", err)
	}
	return "there are no volume drivers here: enable a plugin that is one"
}

// each calls f for every driver, side by side but not too many at once, each
// under the deadline of a search, and waits for all.
func (s *Service) each(ctx context.Context, all []Driver, f func(ctx context.Context, i int, d Driver)) {
	const most = 16
	room := make(chan struct{}, most)
	var wg sync.WaitGroup
	for i, d := range all {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, s.cfg.ListTimeout)
			defer cancel()
			f(ctx, i, d)
		})
	}
	wg.Wait()
}

// get asks a plugin for a volume, nil if it has none. Whatever the plugin says
// instead of a volume means that there is none: plugins have their own words
// for it. An error is that it could not be asked.
func (s *Service) get(ctx context.Context, d Driver, name string) (*volume.Volume, error) {
	v, err := s.client(d).Get(ctx, name)
	if capability.IsAnswer(err) {
		s.log.DebugContext(ctx, "plugin has no such volume", "plugin", d.Name, "volume", name, "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, unreachable(d, err)
	}
	return v, nil
}

// unreachable is the error for a plugin that gave no answer.
func unreachable(d Driver, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("volume driver %s: %w", d.Name, err)
	}
	return outlet.Errorf(errdefs.ErrUnavailable, "volume driver %s cannot be reached: %w", d.Name, err)
}

// failed is the error for a call that failed, by an answer or without one.
func failed(d Driver, err error) error {
	if capability.IsAnswer(err) {
		return fmt.Errorf("volume driver %s: %w", d.Name, err)
	}
	return unreachable(d, err)
}

// cachedScope is what one run of a plugin said of its scope.
type cachedScope struct {
	id, instance string
	scope        volume.Scope
}

// scope is for which machines creating a volume of the driver is enough. Each
// run of a plugin is asked once; one that gives no answer is asked again.
func (s *Service) scope(ctx context.Context, d Driver) string {
	s.mu.Lock()
	c, ok := s.scopes[d.Name]
	s.mu.Unlock()
	if ok && c.id == d.ID && c.instance == d.Instance {
		return string(c.scope)
	}
	scope, err := s.client(d).Scope(ctx)
	if err != nil {
		return string(volume.ScopeLocal)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes[d.Name] = cachedScope{d.ID, d.Instance, scope}
	return string(scope)
}
