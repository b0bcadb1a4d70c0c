package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/ocilayout"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/store"
)

// maxLayoutEntries bounds the entries of an archive of blobs: each is made
// durable by itself, so that many small ones would keep a disk busy for long.
const maxLayoutEntries = 10_000

// Load makes plugins of an archive that [Manager.Save] or a tool for images
// wrote: an OCI layout as a tar, plain or compressed with gzip or zstd. All its
// plugins are made or none, and none can be seen before its privileges were
// compared with those granted and its files are there. They are left disabled.
//
// A bad archive, one without a plugin, and privileges that are not exactly those
// granted are errdefs.ErrInvalidArgument; a taken name is
// errdefs.ErrAlreadyExists and named. If ctx ends first nothing is left behind.
func (m *Manager) Load(ctx context.Context, archive io.Reader, o outlet.LoadOptions) (_ outlet.Loaded, err error) {
	want, err := platform(o.Platform)
	if err != nil {
		return outlet.Loaded{}, err
	}
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Loaded{}, err
	}
	defer done()
	stage, err := m.store.NewStage(ctx)
	if err != nil {
		return outlet.Loaded{}, err
	}
	defer m.releaseStage(ctx, stage)
	index, err := m.receive(ctx, stage, archive)
	if err != nil {
		return outlet.Loaded{}, err
	}
	items, err := ocilayout.Items(ctx, index, want, stageDocuments(stage))
	if err != nil {
		return outlet.Loaded{}, err
	}
	l := loading{m: m, stage: stage, index: index, o: o}
	defer l.release(ctx)
	if err := l.choose(items); err != nil {
		return outlet.Loaded{}, err
	}
	for _, p := range l.plugins {
		if err := l.check(ctx, p); err != nil {
			return outlet.Loaded{}, fmt.Errorf("plugin %s: %w", p.name, err)
		}
	}
	for _, p := range l.plugins {
		p.art, err = stage.Artifact(ctx, p.remote, store.PullOptions{Limits: m.cfg.Limits})
		if err != nil {
			return outlet.Loaded{}, fmt.Errorf("plugin %s: %w", p.name, err)
		}
	}
	return l.commit(ctx)
}

// receive stores the blobs of an archive and returns its index.
func (m *Manager) receive(ctx context.Context, stage *store.Stage, archive io.Reader) ([]byte, error) {
	limits := m.cfg.Limits.WithDefaults()
	// Blobs are compressed already, so one limit serves for both sides.
	limits.UncompressedBytes = limits.CompressedBytes
	r, err := rootfs.Unpack(ctx, archive, limits)
	if err != nil {
		return nil, err
	}
	index, err := ocilayout.Read(ctx, r, ocilayout.Limits{
		Entries: min(limits.Entries, maxLayoutEntries),
		Bytes:   limits.CompressedBytes,
	}, func(d digest.Digest, size int64, r io.Reader) error {
		return stage.Put(ctx, d, size, r)
	})
	return index, errors.Join(err, r.Close())
}

func (m *Manager) releaseStage(ctx context.Context, stage *store.Stage) {
	defer m.gc.expect()()
	if err := stage.Release(context.WithoutCancel(ctx)); err != nil {
		m.log.Warn("release what was received", "err", err)
	}
	m.collectGarbage()
}

func stageDocuments(stage *store.Stage) ocilayout.Document {
	return func(ctx context.Context, d digest.Digest) ([]byte, error) {
		return stage.Document(ctx, d, ocilayout.MaxDocument)
	}
}

// platform reads what a user asks for; "" is the host's.
func platform(s string) (ocispec.Platform, error) {
	if s == "" {
		return registry.HostPlatform(), nil
	}
	return registry.ParsePlatform(s)
}

// loading is the state of one Load.
type loading struct {
	m       *Manager
	stage   *store.Stage
	index   []byte
	o       outlet.LoadOptions
	plugins []*loadedPlugin
	frees   []func()

	warnings []string
}

// loadedPlugin is one plugin on its way.
type loadedPlugin struct {
	item   ocilayout.Item
	name   string
	remote store.Remote
	config outlet.Config
	asks   outlet.Privileges
	art    *store.Artifact
}

func (l *loading) release(ctx context.Context) {
	for _, free := range l.frees {
		free()
	}
	for _, p := range l.plugins {
		if p.art != nil {
			l.m.release(context.WithoutCancel(ctx), p.art, false)
		}
	}
}

// choose finds the plugins among what an archive names, and reserves their names.
func (l *loading) choose(items []ocilayout.Item) error {
	var other error
	for _, item := range items {
		if err := checkPluginManifest(item.Manifest); err != nil {
			other = err
			l.warnings = append(l.warnings, fmt.Sprintf("%q is passed over: %v", item.Ref, err))
			continue
		}
		l.plugins = append(l.plugins, &loadedPlugin{item: item, name: item.Name})
	}
	switch {
	case len(items) == 0:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "the archive holds no plugin")
	case len(l.plugins) == 0:
		return other
	case l.o.Alias != "" && len(l.plugins) > 1:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "the archive holds %d plugins, of which not all can be called %s", len(l.plugins), l.o.Alias)
	case l.o.Alias != "":
		name, err := outlet.ParseName(l.o.Alias)
		if err != nil {
			return err
		}
		l.plugins[0].name = name
	}
	for i, p := range l.plugins {
		if p.name == "" {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "plugin %s has no name in the archive (%q): give it one with an alias", p.item.Manifest.Descriptor.Digest, p.item.Ref)
		}
		if slices.ContainsFunc(l.plugins[:i], func(q *loadedPlugin) bool { return q.name == p.name }) {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "the archive holds two plugins of the name %s", p.name)
		}
		free, err := l.m.reserve(p.name)
		if err != nil {
			return err
		}
		l.frees = append(l.frees, free)
	}
	return nil
}

// check reads the config of a plugin and compares what it asks for with what was
// granted. Nothing is unpacked yet.
func (l *loading) check(ctx context.Context, p *loadedPlugin) error {
	manifest := p.item.Manifest
	if err := l.stage.Check(manifest.Config); err != nil {
		return err
	}
	raw, err := l.stage.Document(ctx, manifest.Config.Digest, int64(l.m.cfg.Limits.WithDefaults().ConfigBytes))
	if err != nil {
		return err
	}
	decoded, warnings, err := outlet.ParseConfigBlob(raw)
	if err != nil {
		return err
	}
	p.asks = outlet.RequiredPrivileges(decoded)
	if !l.o.GrantAll {
		if err := p.asks.Check(l.o.Granted[manifest.Descriptor.Digest.String()]); err != nil {
			return err
		}
	}
	if l.m.cfg.Admit != nil {
		if err := l.m.cfg.Admit(ctx, p.describe(decoded), l.m.stagedSignatures(l.stage, l.index, manifest.Descriptor.Digest)); err != nil {
			return err
		}
	}
	cfg, more, err := outlet.Validate(decoded.Clone(), outlet.ValidateOptions{MaxSocketName: l.m.maxSocketName()})
	if err != nil {
		return err
	}
	l.warn(p, append(warnings, more...))
	p.config = cfg
	p.remote = store.Remote{
		Manifest: manifest.Descriptor, RawManifest: manifest.Raw,
		Config: manifest.Config, RawConfig: raw,
		Layers: manifest.Layers,
	}
	if decoded.Rootfs != nil {
		p.remote.DiffIDs = decoded.Rootfs.DiffIDs
	}
	return p.remote.Check(l.m.cfg.Limits)
}

func (l *loading) warn(p *loadedPlugin, warnings []string) {
	for _, w := range warnings {
		l.warnings = append(l.warnings, fmt.Sprintf("plugin %s: %s", p.name, w))
	}
}

// commit makes the plugins. What was made is unmade if a later one fails.
func (l *loading) commit(ctx context.Context) (outlet.Loaded, error) {
	// From here on it is a matter of milliseconds: the client's going away leaves
	// whole plugins.
	ctx = context.WithoutCancel(ctx)
	done := outlet.Loaded{}
	for _, p := range l.plugins {
		made, err := l.m.add(ctx, store.Record{
			Name:       p.name,
			Reference:  p.reference(),
			Config:     p.config,
			Settings:   outlet.NewSettings(p.config),
			Granted:    p.asks,
			GrantedFor: p.remote.Config.Digest,
		}, p.art)
		if err != nil {
			for _, earlier := range done.Plugins {
				err = errors.Join(err, l.m.Remove(ctx, earlier.ID, true))
			}
			return outlet.Loaded{}, err
		}
		done.Plugins = append(done.Plugins, made)
		l.warn(p, p.art.Warnings)
	}
	done.Warnings = l.warnings
	for _, p := range done.Plugins {
		l.m.logEvent("create", p.ID, p.Name)
	}
	return done, nil
}

// describe is p as if it were in a registry, for whoever may forbid it.
func (p *loadedPlugin) describe(decoded outlet.Config) outlet.RemotePlugin {
	ref := p.reference()
	if r, err := outlet.ParseRemote(ref, ""); err == nil {
		ref = r.Reference
	}
	d := outlet.RemotePlugin{
		Reference:  ref,
		Digest:     p.item.Manifest.Descriptor.Digest.String(),
		Config:     decoded.Clone(),
		Privileges: p.asks.Clone(),
	}
	for _, layer := range p.item.Manifest.Layers {
		d.Size += layer.Size
	}
	return d
}

// reference is where a plugin came from, as far as the archive can be believed.
func (p *loadedPlugin) reference() string {
	if r, err := outlet.ParseRemote(p.item.Reference, ""); err == nil {
		return r.Reference
	}
	return p.name
}
