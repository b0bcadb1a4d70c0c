package volumes

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/capability/volume"
)

// found is a volume and the plugin that has it.
type found struct {
	driver Driver
	volume *volume.Volume // nil: the plugin has none
	rec    Record         // its Driver is "" if nothing is kept of the volume
}

// find looks for a volume: in the plugin that the record names, or, without
// one, in all. A volume no plugin has is errdefs.ErrNotFound, except that a
// mounted one is returned without what its plugin says.
func (s *Service) find(ctx context.Context, name string) (found, error) {
	noSuch := outlet.Errorf(errdefs.ErrNotFound, "get %s: no such volume", name)
	rec, ok := s.record(name)
	if !ok {
		f, err := s.probe(ctx, name)
		if err != nil || f.volume == nil {
			return found{}, noSuch
		}
		return f, nil
	}
	d, err := s.lookup(ctx, rec.Driver)
	if err != nil {
		return found{}, outlet.Errorf(classOf(err), "get %s: its volume driver %s: %w", name, rec.Driver, err)
	}
	v, err := s.get(ctx, d, name)
	if err != nil {
		return found{}, outlet.Errorf(classOf(err), "get %s: %w", name, err)
	}
	if v == nil && len(rec.active()) == 0 {
		return found{}, noSuch
	}
	return found{d, v, rec}, nil
}

// classOf is the class of err for a text around it. A plugin that is not there
// does not mean that the volume is not.
func classOf(err error) error {
	if errdefs.IsNotFound(err) {
		return errdefs.ErrUnavailable
	}
	return errdefs.Resolve(err)
}

// probe asks all plugins for a volume. Those that cannot be asked do not have
// it, as far as anybody can tell; an error says that the plugins themselves
// could not be looked for.
func (s *Service) probe(ctx context.Context, name string) (found, error) {
	all, err := s.drivers(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "look for v1 plugins", "err", err)
	}
	answers := make([]*volume.Volume, len(all))
	s.each(ctx, all, func(ctx context.Context, i int, d Driver) {
		v, err := s.get(ctx, d, name)
		if err != nil {
			s.log.WarnContext(ctx, "ask for a volume", "plugin", d.Name, "volume", name, "err", err)
		}
		answers[i] = v
	})
	for i, v := range answers {
		if v != nil {
			return found{driver: all[i], volume: v}, nil
		}
	}
	return found{}, ctx.Err()
}

// show is the volume as it is answered. scope is "" if it is not known.
func (f found) show(name, scope string) outlet.Volume {
	v := outlet.Volume{
		Name:    name,
		Driver:  f.driver.Name,
		Labels:  map[string]string{},
		Options: map[string]string{},
		Scope:   scope,
		Outlet:  &outlet.VolumeStatus{Created: f.rec.Created, Mounts: []outlet.VolumeMount{}},
	}
	if v.Driver == "" {
		v.Driver = f.rec.Driver
	}
	if v.Scope == "" {
		v.Scope = string(volume.ScopeLocal)
	}
	if f.rec.Labels != nil {
		v.Labels = f.rec.Labels
	}
	if f.rec.Options != nil {
		v.Options = f.rec.Options
	}
	created := f.rec.CreatedAt
	if f.volume != nil {
		if !f.volume.CreatedAt.IsZero() {
			created = f.volume.CreatedAt.Time
		}
		v.Status = f.volume.Status
		// Nothing is looked at on disk here, which may hang: this is for people
		// to read. What is mounted was looked at.
		if p, err := f.driver.Scope.Host(f.volume.Mountpoint); err == nil {
			v.Mountpoint = p
		}
	}
	if !created.IsZero() {
		v.CreatedAt = created.Format(time.RFC3339)
	}
	for _, m := range f.rec.active() {
		v.Outlet.Mounts = append(v.Outlet.Mounts, outlet.VolumeMount{ID: m.ID, Since: m.Since})
		v.Mountpoint = m.Mountpoint
	}
	return v
}

// Inspect returns one volume. One that no plugin has is errdefs.ErrNotFound; a
// plugin that should have it and cannot be asked is an error of another class.
func (s *Service) Inspect(ctx context.Context, name string) (outlet.Volume, error) {
	if err := checkWord("volume name", name); err != nil {
		return outlet.Volume{}, err
	}
	f, err := s.find(ctx, name)
	if err != nil {
		return outlet.Volume{}, err
	}
	return f.show(name, s.scope(ctx, f.driver)), nil
}
