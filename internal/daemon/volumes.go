package daemon

import (
	"context"
	"fmt"
	"maps"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/volumes"
	"github.com/outletd/outlet/manager"
)

// openVolumes makes the volume service over the manager's plugins.
func (d *daemon) openVolumes(ctx context.Context) error {
	var err error
	d.volumes, err = volumes.Open(ctx, volumes.Config{
		Plugins: managed{d.manager},
		Legacy:  legacy{d.legacy},
		Store:   volumes.NewBoltStore(d.manager.Store().DB()),
		Event:   d.volumeEvent,
		Logger:  d.log,
	})
	if err != nil {
		return err
	}
	// A plugin that was started again is told to mount again what it had.
	d.manager.Handle("volumedriver", func(ctx context.Context, r manager.Ref) {
		if err := d.volumes.Remount(ctx, driver(r)); err != nil {
			d.log.Warn("mount volumes again", "plugin", r.Name(), "err", err)
		}
	})
	d.volumes.Hold(ctx)
	// Plugins that were ready before the handler was there.
	d.wg.Go(func() { d.volumes.Restore(d.life) })
	d.onClose(func() error { d.quit(); d.wg.Wait(); return nil }) // before the manager
	return nil
}

func (d *daemon) volumeEvent(action string, v outlet.Volume, attributes map[string]string) {
	a := map[string]string{"driver": v.Driver}
	maps.Copy(a, attributes)
	d.events.Publish(outlet.Message{Type: "volume", Action: action, Actor: outlet.Actor{ID: v.Name, Attributes: a}})
}

// managed shows the manager's plugins to the volume service.
type managed struct{ m *manager.Manager }

func (p managed) Lookup(ctx context.Context, name, capability string) (volumes.Driver, error) {
	r, err := p.m.Lookup(ctx, name, capability)
	if err != nil {
		return volumes.Driver{}, err
	}
	return driver(r), nil
}

func (p managed) Acquire(ctx context.Context, name, capability string, h outlet.Holder) (volumes.Driver, error) {
	r, err := p.m.Acquire(ctx, name, capability, h)
	if err != nil {
		return volumes.Driver{}, err
	}
	return driver(r), nil
}

func (p managed) HoldByID(ctx context.Context, id string, h outlet.Holder) error {
	return p.m.Hold(ctx, id, h)
}

func (p managed) ReleaseHolder(ctx context.Context, name string, h outlet.Holder) error {
	return p.m.ReleaseHolder(ctx, name, h)
}

func (p managed) ByCapability(ctx context.Context, capability string) []volumes.Driver {
	refs := p.m.ByCapability(ctx, capability)
	drivers := make([]volumes.Driver, len(refs))
	for i, r := range refs {
		drivers[i] = driver(r)
	}
	return drivers
}

func driver(r manager.Ref) volumes.Driver {
	return volumes.Driver{Name: r.Name(), ID: r.ID(), Instance: instance(r), Caller: r.Client(), Scope: r.Scope()}
}

// instance names the run of a plugin's process, the same for every daemon that
// watches it.
func instance(r manager.Ref) string {
	pid := r.Plugin().Status.PID
	if pid == 0 {
		return ""
	}
	id, err := reap.Identify(pid)
	if err != nil { // it ended just now
		return ""
	}
	return fmt.Sprintf("%s/%d/%d", id.Boot, id.PID, id.Start)
}
