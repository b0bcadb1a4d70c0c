package sdk

import (
	"context"
	"errors"

	"github.com/outletd/outlet/capability/volume"
)

// VolumeDriver serves volumes (docs/spec/capabilities.md §2). Paths are those
// that the plugin sees; hosts know where a managed plugin's are.
type VolumeDriver interface {
	// Create makes a volume. It need not provide anything before the first
	// Mount.
	Create(ctx context.Context, name string, opts map[string]string) error
	// Get describes a volume. That there is none is an error.
	Get(ctx context.Context, name string) (volume.Volume, error)
	// List describes all volumes.
	List(ctx context.Context) ([]volume.Volume, error)
	// Remove removes a volume and what is in it.
	Remove(ctx context.Context, name string) error
	// Path is where a volume is mounted, or "".
	Path(ctx context.Context, name string) (string, error)
	// Mount makes a volume usable and returns where it is. The id stands for
	// one use of the volume; Podman sends the same for all.
	Mount(ctx context.Context, name, id string) (string, error)
	// Unmount ends the use that id stands for. An unknown id is no error.
	Unmount(ctx context.Context, name, id string) error
}

// VolumeScoper is a VolumeDriver that says for which machines its volumes are.
// Without it hosts take volume.ScopeLocal.
type VolumeScoper interface {
	// Scope is the scope of all volumes of the driver.
	Scope(ctx context.Context) (volume.Scope, error)
}

func (h *Handler) addVolume(d VolumeDriver) {
	if d == nil {
		return
	}
	named := func(r volume.NameRequest) string { return missing("Name", r.Name) }
	mounted := func(r volume.MountRequest) string { return missing("Name", r.Name) }
	h.add(map[string]method{
		volume.MethodCreate: with(func(r volume.CreateRequest) string { return missing("Name", r.Name) },
			func(ctx context.Context, r volume.CreateRequest) (any, error) {
				return empty{}, d.Create(ctx, r.Name, r.Opts)
			}),
		volume.MethodRemove: with(named, func(ctx context.Context, r volume.NameRequest) (any, error) {
			return empty{}, d.Remove(ctx, r.Name)
		}),
		volume.MethodGet: with(named, func(ctx context.Context, r volume.NameRequest) (any, error) {
			v, err := d.Get(ctx, r.Name)
			if err == nil && v.Name == "" {
				err = errors.New("no volume " + quote(r.Name))
			}
			return struct{ Volume volume.Volume }{v}, err
		}),
		volume.MethodList: bare(func(ctx context.Context) (any, error) {
			volumes, err := d.List(ctx)
			if volumes == nil {
				volumes = []volume.Volume{} // some hosts do not take null for none
			}
			return struct{ Volumes []volume.Volume }{volumes}, err
		}),
		volume.MethodPath: with(named, func(ctx context.Context, r volume.NameRequest) (any, error) {
			path, err := d.Path(ctx, r.Name)
			return struct{ Mountpoint string }{path}, err
		}),
		volume.MethodMount: with(mounted, func(ctx context.Context, r volume.MountRequest) (any, error) {
			path, err := d.Mount(ctx, r.Name, r.ID)
			return struct{ Mountpoint string }{path}, err
		}),
		volume.MethodUnmount: with(mounted, func(ctx context.Context, r volume.MountRequest) (any, error) {
			return empty{}, d.Unmount(ctx, r.Name, r.ID)
		}),
	})
	s, ok := d.(VolumeScoper)
	if !ok {
		return
	}
	h.addOptional(volume.MethodCapabilities, bare(func(ctx context.Context) (any, error) {
		scope, err := s.Scope(ctx)
		if err == nil && scope != volume.ScopeLocal && scope != volume.ScopeGlobal {
			err = errors.New("scope " + quote(string(scope)) + " is neither local nor global")
		}
		type capabilities struct{ Scope volume.Scope }
		return struct{ Capabilities capabilities }{capabilities{scope}}, err
	}))
}
