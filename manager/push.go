package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/store"
)

// Push uploads a plugin to the registry that its local name names
// (docs/spec/managed-plugins.md §7.6), enabled or not. A plugin that was pulled
// is uploaded as it came, byte for byte; one that was created here gets its
// manifest at its first push and keeps it. With a platform the tag names an index
// afterwards, in which the plugin is the one for that platform; what the index had
// for others stays. progress, if not nil, is told how far it is, one call at a
// time.
func (m *Manager) Push(ctx context.Context, name string, o outlet.RemoteOptions, progress func(outlet.Progress)) (outlet.Pushed, error) {
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Pushed{}, err
	}
	defer done()
	if progress == nil {
		progress = func(outlet.Progress) {}
	}
	var platform *ocispec.Platform
	if o.Platform != "" {
		p, err := registry.ParsePlatform(o.Platform)
		if err != nil {
			return outlet.Pushed{}, err
		}
		platform = &p
	}
	u, err := m.find(name)
	if err != nil {
		return outlet.Pushed{}, err
	}
	pl, _ := u.look()
	ref, err := reference.ParseNormalizedNamed(pl.Name)
	if err != nil {
		return outlet.Pushed{}, outlet.Errorf(errdefs.ErrInvalidArgument, "invalid name: %s", pl.Name)
	}
	repo, err := m.registry.Open(ctx, ref, registry.Options{Auth: o.Auth, Header: o.Header})
	if err != nil {
		return outlet.Pushed{}, err
	}
	defer repo.Close()
	progress(outlet.Progress{Status: fmt.Sprintf("The push refers to repository [%s]", reference.FamiliarName(ref)), Message: true})
	rec, hold, err := m.pushable(ctx, u, progress)
	if err != nil {
		return outlet.Pushed{}, err
	}
	defer m.release(ctx, hold, false) // the plugin may have been removed meanwhile
	p := pusher{m: m, repo: repo, rec: rec, platform: platform, tell: progress}
	desc, err := p.push(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return outlet.Pushed{}, cause
		}
		return outlet.Pushed{}, err
	}
	pushed := outlet.Pushed{Digest: desc.Digest.String(), Size: desc.Size}
	if tagged, ok := ref.(reference.Tagged); ok {
		pushed.Tag = tagged.Tag()
	}
	progress(outlet.Progress{Pushed: &pushed})
	u.log.Info("plugin pushed", "digest", pushed.Digest)
	return pushed, nil
}

// pushable is the plugin's record, with a manifest, and a hold on what it names.
func (m *Manager) pushable(ctx context.Context, u *unit, progress func(outlet.Progress)) (store.Record, *store.Artifact, error) {
	rec, err := m.store.Get(ctx, u.id)
	if err != nil {
		return rec, nil, err
	}
	if rec.Manifest == nil {
		_, unlock, err := m.begin(ctx, u.id, "push")
		if err != nil {
			return rec, nil, err
		}
		defer unlock()
		if rec, err = m.store.Get(ctx, u.id); err != nil {
			return rec, nil, err
		}
		if rec.Manifest == nil {
			if rec, err = m.makeManifest(ctx, u, rec, progress); err != nil {
				return rec, nil, err
			}
		}
	}
	hold, err := m.store.Hold(ctx, rec)
	return rec, hold, err
}

// builtManifest is a manifest as Docker builds it: registries refuse configs of
// plugins under the types of OCI.
type builtManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	MediaType     string               `json:"mediaType"`
}

// makeManifest compresses the layers of a created plugin and stores a manifest.
func (m *Manager) makeManifest(ctx context.Context, u *unit, rec store.Record, progress func(outlet.Progress)) (store.Record, error) {
	old := rec.Clone()
	hold, err := m.store.Hold(ctx, old)
	if err != nil {
		return rec, err
	}
	// Nor are the layers as they were needed any more.
	defer m.release(ctx, hold, false)
	config, err := m.store.Content().Info(m.store.Context(ctx), rec.ConfigDigest)
	if err != nil {
		return rec, err
	}
	doc := builtManifest{
		SchemaVersion: 2, MediaType: images.MediaTypeDockerSchema2Manifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: configMediaType, Digest: rec.ConfigDigest, Size: config.Size},
	}
	for i, l := range rec.Layers {
		progress(outlet.Progress{ID: shortDigest(l.Blob.Digest), Status: "Preparing"})
		packed, err := m.store.Compress(ctx, hold, l)
		if err != nil {
			return rec, err
		}
		rec.Layers[i].Blob = packed
		doc.Layers = append(doc.Layers, packed)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return rec, err
	}
	desc := ocispec.Descriptor{MediaType: doc.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	art, err := m.store.PutManifest(ctx, rec, desc, raw)
	if err != nil {
		return rec, err
	}
	defer m.release(ctx, art, false)
	err = m.update(ctx, u, func(r *store.Record) error {
		if r.Generation != old.Generation {
			return outlet.Errorf(errdefs.ErrConflict, "plugin %s was upgraded meanwhile", r.Name)
		}
		r.Manifest, r.Layers = &desc, rec.Layers
		return nil
	})
	if err != nil {
		return rec, err
	}
	return m.store.Get(ctx, u.id)
}

// pusher is the state of one push.
type pusher struct {
	m        *Manager
	repo     *registry.Repository
	rec      store.Record
	platform *ocispec.Platform // nil: the tag is to name the manifest itself
	tell     func(outlet.Progress)

	mu sync.Mutex
}

// uploads is how many blobs are uploaded at the same time where nothing else was
// configured; it is dockerd's default too.
const uploads = 5

func (p *pusher) line(l outlet.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(l)
}

// push uploads the plugin and returns what its tag names then.
func (p *pusher) push(ctx context.Context) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	sctx := p.m.store.Context(ctx)
	raw, err := content.ReadBlob(sctx, p.m.store.Content(), *p.rec.Manifest)
	if err != nil {
		return none, fmt.Errorf("read the plugin's manifest: %w", err)
	}
	doc, err := registry.ParseManifest(raw, p.rec.Manifest.MediaType)
	if err != nil {
		return none, err
	}
	blobs := append(append([]ocispec.Descriptor{}, doc.Layers...), doc.Config)
	for _, d := range append(blobs[:len(blobs):len(blobs)], *p.rec.Manifest) {
		p.line(outlet.Progress{ID: shortDigest(d.Digest), Status: "Preparing"})
		p.line(outlet.Progress{ID: shortDigest(d.Digest), Status: "Waiting"})
	}
	work, wctx := errgroup.WithContext(ctx)
	limit := uploads
	if p.m.cfg.MaxUploads > 0 {
		limit = p.m.cfg.MaxUploads
	}
	work.SetLimit(limit)
	sent := make(map[digest.Digest]bool)
	for _, d := range blobs {
		if sent[d.Digest] {
			continue
		}
		sent[d.Digest] = true
		work.Go(func() error { return p.blob(wctx, d) })
	}
	if err := work.Wait(); err != nil {
		return none, err
	}
	put := p.repo.PushManifest
	if p.platform != nil {
		put = p.repo.PushUntagged
	}
	if err := put(ctx, *p.rec.Manifest, raw); err != nil {
		return none, err
	}
	p.line(outlet.Progress{ID: shortDigest(p.rec.Manifest.Digest), Status: "Upload complete"})
	if p.platform == nil {
		return *p.rec.Manifest, nil
	}
	entry := ocispec.Descriptor{
		MediaType: p.rec.Manifest.MediaType, Digest: p.rec.Manifest.Digest, Size: p.rec.Manifest.Size, Platform: p.platform,
	}
	return p.repo.Join(ctx, entry)
}

// blob uploads one blob.
func (p *pusher) blob(ctx context.Context, d ocispec.Descriptor) error {
	open := func() (io.ReadCloser, error) {
		ra, err := p.m.store.Content().ReaderAt(p.m.store.Context(ctx), d)
		if err != nil {
			return nil, err
		}
		if ra.Size() != d.Size {
			return nil, errors.Join(outlet.Errorf(errdefs.ErrDataLoss, "blob %s has %d bytes, not %d", d.Digest, ra.Size(), d.Size), ra.Close())
		}
		return &upload{p: p, desc: d, Reader: io.NewSectionReader(ra, 0, d.Size), Closer: ra}, nil
	}
	if _, err := p.repo.PushBlob(ctx, d, open); err != nil {
		return err
	}
	p.line(outlet.Progress{ID: shortDigest(d.Digest), Status: "Upload complete"})
	return nil
}

// upload tells how much of a blob was read.
type upload struct {
	io.Reader
	io.Closer
	p    *pusher
	desc ocispec.Descriptor
	n    int64
	told time.Time
}

// tellEvery is how often the bytes of an upload are told.
const tellEvery = 100 * time.Millisecond

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	u.n += int64(n)
	if now := u.p.m.now(); n > 0 && now.Sub(u.told) >= tellEvery {
		u.told = now
		u.p.line(outlet.Progress{ID: shortDigest(u.desc.Digest), Status: "Uploading", Current: u.n, Total: u.desc.Size})
	}
	return n, err
}
