package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/ocilayout"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/store"
)

// CreateFromImage makes a plugin of an ordinary image: of one in an OCI layout, a
// tar that is plain or compressed with gzip or zstd, or, if archive is nil, of
// one in a registry. The image's layers become the root filesystem as they are;
// o.Config says what the plugin is. Like [Manager.Create] it needs no grant, and
// leaves the plugin disabled.
//
// A bad name, archive, image or config is errdefs.ErrInvalidArgument, a taken
// name errdefs.ErrAlreadyExists.
func (m *Manager) CreateFromImage(ctx context.Context, name string, archive io.Reader, o outlet.ImageOptions) (outlet.Plugin, []string, error) {
	want, err := platform(o.Platform)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer done()
	name, free, err := m.reserveImage(name, o)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer free()
	if archive == nil {
		return m.createFromRemoteImage(ctx, name, want, o)
	}
	stage, err := m.store.NewStage(ctx)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer m.releaseStage(ctx, stage)
	index, err := m.receive(ctx, stage, archive)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	items, err := ocilayout.Items(ctx, index, want, stageDocuments(stage))
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	item, err := ocilayout.Choose(items, o.Ref)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	if err := checkImageManifest(item.Manifest); err != nil {
		return outlet.Plugin{}, nil, err
	}
	if err := stage.Check(item.Manifest.Config); err != nil {
		return outlet.Plugin{}, nil, err
	}
	raw, err := stage.Document(ctx, item.Manifest.Config.Digest, ocilayout.MaxDocument)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	src := imageSource{name, item.Manifest, raw, m.stagedSignatures(stage, index, item.Manifest.Descriptor.Digest)}
	return m.createFromImage(ctx, name, src, o, func(r store.Remote) (*store.Artifact, error) {
		return stage.Artifact(ctx, r, store.PullOptions{Limits: m.cfg.Limits})
	})
}

// createFromRemoteImage gets the image from a registry.
func (m *Manager) createFromRemoteImage(ctx context.Context, name string, want ocispec.Platform, o outlet.ImageOptions) (outlet.Plugin, []string, error) {
	ref, err := imageReference(o.Ref)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	if err := m.admitSource(ref.String()); err != nil {
		return outlet.Plugin{}, nil, err
	}
	repo, err := m.registry.Open(ctx, ref, registry.Options{Auth: o.Remote.Auth, Header: o.Remote.Header})
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	defer repo.Close()
	r := remote{repo: repo, ref: ref}
	if err := r.resolve(ctx, want); err != nil {
		return outlet.Plugin{}, nil, err
	}
	if err := checkImageManifest(r.manifest); err != nil {
		return outlet.Plugin{}, nil, fmt.Errorf("%s: %w", reference.FamiliarString(ref), err)
	}
	raw, err := repo.Config(ctx, r.manifest.Config)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	p, warnings, err := m.createFromImage(ctx, name, imageSource{ref.String(), r.manifest, raw, r.signatures}, o, func(content store.Remote) (*store.Artifact, error) {
		return m.store.Pull(ctx, content, func(ctx context.Context, desc ocispec.Descriptor, offset int64) store.Download {
			return repo.Blob(ctx, desc, offset)
		}, store.PullOptions{Limits: m.cfg.Limits, Parallel: m.cfg.MaxDownloads})
	})
	if err != nil {
		m.collectGarbage()
	}
	return p, warnings, err
}

// reserveImage does what is cheap before anything is received.
func (m *Manager) reserveImage(name string, o outlet.ImageOptions) (string, func(), error) {
	name, err := outlet.ParseName(name)
	if err != nil {
		return "", nil, err
	}
	if _, _, err := outlet.ParseConfig(o.Config); err != nil {
		return "", nil, err
	}
	free, err := m.reserve(name)
	return name, free, err
}

// checkImageManifest fails if m is not that of an image.
func checkImageManifest(m registry.Manifest) error {
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, images.MediaTypeDockerSchema2Config:
		return nil
	case configMediaType:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "it is a plugin, not an image: install or load it")
	}
	return outlet.Errorf(errdefs.ErrInvalidArgument, "not an image: its config is of type %.128q", m.Config.MediaType)
}

// imageSource is an image whose manifest and config are known.
type imageSource struct {
	name       string // what it is called where it comes from
	manifest   registry.Manifest
	config     []byte
	signatures FindSignatures
}

// createFromImage makes the plugin of an image. get unpacks its layers.
func (m *Manager) createFromImage(ctx context.Context, name string, src imageSource, o outlet.ImageOptions,
	get func(store.Remote) (*store.Artifact, error),
) (outlet.Plugin, []string, error) {
	var image ocispec.Image
	if err := json.Unmarshal(src.config, &image); err != nil {
		// Its text may be as long as the config.
		return outlet.Plugin{}, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the config of the image: %.256q", err.Error())
	}
	if err := checkImagePlatform(image, o.Platform); err != nil {
		return outlet.Plugin{}, nil, err
	}
	cfg, warnings, err := outlet.ParseConfig(o.Config)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	cfg, more := withImage(cfg, image)
	warnings = append(warnings, more...)
	raw, err := outlet.EncodeConfig(cfg)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	// What is used is what is stored, read as it will be read by others.
	cfg, more, err = m.checkConfig(raw, true)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	warnings = append(warnings, more...)
	if m.cfg.Admit != nil {
		if err := m.cfg.Admit(ctx, describeImage(src.name, src.manifest, cfg), src.signatures); err != nil {
			return outlet.Plugin{}, nil, err
		}
	}
	config := ocispec.Descriptor{MediaType: configMediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	doc, err := newManifest(config, src.manifest.Layers)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	art, err := get(store.Remote{
		Manifest: doc.desc, RawManifest: doc.raw,
		Config: config, RawConfig: raw,
		Layers: doc.layers, DiffIDs: cfg.Rootfs.DiffIDs,
	})
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	ctx = context.WithoutCancel(ctx) // as in Create
	created := false
	defer func() { m.release(ctx, art, created) }()
	warnings = append(warnings, art.Warnings...)
	p, err := m.add(ctx, store.Record{
		Name:      name,
		Reference: name,
		Config:    cfg,
		Settings:  initialSettings(cfg, o.CreateOptions),
		ServiceID: o.ServiceID,
	}, art)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	created = true
	m.logEvent("create", p.ID, p.Name)
	return p, warnings, nil
}

// describeImage is the plugin that an image becomes, for whoever may forbid it.
// Its digest is the image's.
func describeImage(source string, manifest registry.Manifest, cfg outlet.Config) outlet.RemotePlugin {
	p := outlet.RemotePlugin{
		Reference:  source,
		Digest:     manifest.Descriptor.Digest.String(),
		Config:     cfg.Clone(),
		Privileges: outlet.RequiredPrivileges(cfg),
	}
	if r, err := outlet.ParseRemote(source, ""); err == nil {
		p.Reference = r.Reference
	}
	for _, l := range manifest.Layers {
		p.Size += l.Size
	}
	return p
}

// checkImagePlatform fails if an image is for another machine, unless its user
// asked for that.
func checkImagePlatform(image ocispec.Image, asked string) error {
	host := registry.HostPlatform()
	if asked != "" || image.Architecture == "" || image.OS == host.OS && image.Architecture == host.Architecture {
		return nil
	}
	return outlet.Errorf(errdefs.ErrInvalidArgument, "the image is for %.64q, this machine is %s/%s: ask for that platform to take it all the same",
		image.OS+"/"+image.Architecture, host.OS, host.Architecture)
}

// withImage is a plugin's config with what the image says where the config says
// nothing: the entry point (the image's followed by its command), variables that
// the config does not name, and the working directory. The image's user is not
// taken over: a plugin that was written for Docker runs as root, and one that is
// to run as somebody else says so in its config.
func withImage(cfg outlet.Config, image ocispec.Image) (outlet.Config, []string) {
	var warnings []string
	if len(cfg.Entrypoint) == 0 {
		cfg.Entrypoint = slices.Concat(image.Config.Entrypoint, image.Config.Cmd)
	}
	for _, kv := range image.Config.Env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || slices.ContainsFunc(cfg.Env, func(e outlet.Env) bool { return e.Name == name }) {
			continue
		}
		cfg.Env = append(cfg.Env, outlet.Env{Name: name, Value: &value})
	}
	if cfg.WorkDir == "" {
		cfg.WorkDir = image.Config.WorkingDir
	}
	if u := image.Config.User; u != "" && u != "root" && u != "0" && u != "0:0" && cfg.User == (outlet.User{}) {
		warnings = append(warnings, fmt.Sprintf("the image runs as %.64q, the plugin runs as root: its config.json can name a user", u))
	}
	cfg.Rootfs = &outlet.Rootfs{Type: "layers", DiffIDs: make([]string, len(image.RootFS.DiffIDs))}
	for i, d := range image.RootFS.DiffIDs {
		cfg.Rootfs.DiffIDs[i] = d.String()
	}
	return cfg, warnings
}

// imageReference reads the reference of an image in a registry.
func imageReference(s string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "image %.256q: %w", s, err)
	}
	return reference.TagNameOnly(ref), nil
}
