package manager

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/store"
)

// RegistryConfig says how registries are reached.
type RegistryConfig = registry.Config

// configMediaType is what makes an artifact a plugin.
const configMediaType = "application/vnd.docker.plugin.v1+json"

// maxIndexDepth is how many indexes may lie between a reference and a plugin.
const maxIndexDepth = 2

// remote is a plugin in a registry: all of it but its layers.
type remote struct {
	repo     *registry.Repository
	ref      reference.Named
	index    digest.Digest // of what the reference names, if that is an index
	manifest registry.Manifest
	raw      []byte        // the config blob
	config   outlet.Config // as it was decoded
	usable   outlet.Config // as it is used: validated
	warnings []string
}

func (r *remote) close() { r.repo.Close() }

// openRemote finds out what a reference names, down to the config. It must be
// closed.
func (m *Manager) openRemote(ctx context.Context, complete string, o outlet.RemoteOptions) (_ *remote, err error) {
	ref, err := reference.ParseNormalizedNamed(complete)
	if err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "%w", err)
	}
	if err := m.admitSource(complete); err != nil {
		return nil, err
	}
	platform := registry.HostPlatform()
	if o.Platform != "" {
		if platform, err = registry.ParsePlatform(o.Platform); err != nil {
			return nil, err
		}
	}
	repo, err := m.registry.Open(ctx, ref, registry.Options{Auth: o.Auth, Header: o.Header})
	if err != nil {
		return nil, err
	}
	r := &remote{repo: repo, ref: ref}
	defer func() {
		if err != nil {
			repo.Close()
		}
	}()
	if err := r.resolve(ctx, platform); err != nil {
		return nil, err
	}
	if t := r.manifest.Config.MediaType; t != configMediaType {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument,
			"did not find plugin config for specified reference %s: it is not a plugin, its config is of type %.128q", reference.FamiliarString(ref), t)
	}
	if r.raw, err = repo.Config(ctx, r.manifest.Config); err != nil {
		return nil, fmt.Errorf("error resolving plugin reference: %w", err)
	}
	if r.config, _, err = outlet.ParseConfig(r.raw); err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "invalid config json: %w", err)
	}
	if r.usable, r.warnings, err = m.checkConfig(r.raw, false); err != nil {
		return nil, err
	}
	return r, r.content().Check(m.cfg.Limits)
}

// admitSource is what has to hold before a registry hears of a reference.
func (m *Manager) admitSource(reference string) error {
	if m.cfg.AdmitSource == nil {
		return nil
	}
	return m.cfg.AdmitSource(reference)
}

// resolve goes from the reference to one manifest.
func (r *remote) resolve(ctx context.Context, platform ocispec.Platform) error {
	doc, err := r.repo.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("error resolving plugin reference: %w", err)
	}
	if doc.IsIndex() {
		r.index = doc.Descriptor.Digest
	}
	for depth := 0; doc.IsIndex(); depth++ {
		if depth >= maxIndexDepth {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "the indexes of %s are nested more than %d deep", reference.FamiliarString(r.ref), maxIndexDepth)
		}
		entry, err := registry.Select(doc.Entries, platform)
		if err != nil {
			return err
		}
		if doc, err = r.repo.Manifest(ctx, entry); err != nil {
			return fmt.Errorf("error resolving plugin reference: %w", err)
		}
	}
	r.manifest = doc
	return nil
}

// content is what the store pulls.
func (r *remote) content() store.Remote {
	c := store.Remote{
		Manifest: r.manifest.Descriptor, RawManifest: r.manifest.Raw,
		Config: r.manifest.Config, RawConfig: r.raw,
		Layers: r.manifest.Layers,
	}
	if r.config.Rootfs != nil {
		c.DiffIDs = r.config.Rootfs.DiffIDs
	}
	return c
}

// describe is r for its user. Privileges are those of the config as it was
// published, whatever of it is used.
func (r *remote) describe() outlet.RemotePlugin {
	p := outlet.RemotePlugin{
		Reference:  r.ref.String(),
		Digest:     r.manifest.Descriptor.Digest.String(),
		Index:      r.index.String(),
		Config:     r.config.Clone(),
		Privileges: outlet.RequiredPrivileges(r.config),
	}
	for _, l := range r.manifest.Layers {
		p.Size += l.Size
	}
	return p
}

// admit is what has to hold before a layer is downloaded: it is what its user
// was shown, asks for what was granted, and nobody forbids it.
func (m *Manager) admit(ctx context.Context, r *remote, granted outlet.Privileges, shown string) error {
	p := r.describe()
	if shown != "" && shown != p.Digest && shown != p.Index {
		return outlet.Errorf(errdefs.ErrConflict, "%s changed since it was looked at: it was %s and is %s now", reference.FamiliarString(r.ref), shown, p.Digest)
	}
	if err := p.Privileges.Check(granted); err != nil {
		return err
	}
	if m.cfg.Admit != nil {
		return m.cfg.Admit(ctx, p, r.signatures)
	}
	return nil
}

// Remote looks at a plugin in a registry: what it is and what it asks for. No
// layer is downloaded and nothing is kept.
//
// What the registry says of the reference is the error's class: ErrNotFound,
// ErrUnauthenticated, ErrPermissionDenied. Something that is no plugin, or none
// for the platform, is errdefs.ErrInvalidArgument. A repository from which nothing
// may be installed is not asked: that is the error of [Config.AdmitSource].
func (m *Manager) Remote(ctx context.Context, name string, o outlet.RemoteOptions) (outlet.RemotePlugin, error) {
	parsed, err := outlet.ParseRemote(name, "")
	if err != nil {
		return outlet.RemotePlugin{}, err
	}
	r, err := m.openRemote(ctx, parsed.Reference, o)
	if err != nil {
		return outlet.RemotePlugin{}, err
	}
	defer r.close()
	return r.describe(), nil
}

// Login asks a registry whether it takes credentials, and returns an identity
// token if it gives one in exchange. Nothing is kept.
func (m *Manager) Login(ctx context.Context, a outlet.RegistryAuth) (identityToken string, err error) {
	return m.registry.Login(ctx, a)
}

// operation binds what a user asked for to the manager: ctx ends when the
// manager is closed, which waits for done.
func (m *Manager) operation(ctx context.Context) (_ context.Context, done func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, errClosed
	}
	m.wg.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		m.wg.Done()
	}, nil
}
