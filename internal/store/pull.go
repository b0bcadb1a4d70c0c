package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
)

// labelDiffID is on a blob whose config does not say what it unpacks to, once
// that is known. The name is the one containerd uses.
const labelDiffID = "containerd.io/uncompressed"

// Remote is what a registry has of a plugin: all that is known before the layers
// are downloaded.
type Remote struct {
	// Manifest describes RawManifest, Config RawConfig, byte for byte.
	Manifest, Config       ocispec.Descriptor
	RawManifest, RawConfig []byte
	Layers                 []ocispec.Descriptor
	// DiffIDs are those of the config, one for each layer, or none.
	DiffIDs []string
}

// Check says whether layers of such types and sizes can be pulled at all.
func (r Remote) Check(limits rootfs.Limits) error {
	limits = limits.WithDefaults()
	left := limits.CompressedBytes
	sizes := make(map[digest.Digest]int64)
	for _, l := range r.Layers {
		if size, twice := sizes[l.Digest]; twice && size != l.Size {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "the manifest says that layer %s has %d bytes, and that it has %d", l.Digest, size, l.Size)
		}
		sizes[l.Digest] = l.Size
		if err := rootfs.CheckLayerType(l.MediaType); err != nil {
			return err
		}
		if l.Size > left {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "the layers are larger than the limit of %d compressed bytes", limits.CompressedBytes)
		}
		left -= l.Size
	}
	if len(r.DiffIDs) != 0 && len(r.DiffIDs) != len(r.Layers) {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: rootfs: it names %d layers, the manifest %d", len(r.DiffIDs), len(r.Layers))
	}
	for _, d := range r.DiffIDs {
		if err := digest.Digest(d).Validate(); err != nil {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: rootfs: %w", err)
		}
	}
	return nil
}

// defaultParallel is dockerd's default too.
const defaultParallel = 3

// LayerState is how far a layer is.
type LayerState int

// The states of a layer, in their order; a layer that is in the store already
// goes from the first to LayerExists.
const (
	LayerWaiting     LayerState = iota
	LayerDownloading            // Current counts bytes
	LayerDownloaded
	LayerExists
	LayerExtracting // Current counts compressed bytes
	LayerComplete
)

// LayerProgress says how far a layer of a pull is.
type LayerProgress struct {
	Layer   ocispec.Descriptor
	State   LayerState
	Current int64
}

// PullOptions are the optional parts of [Store.Pull].
type PullOptions struct {
	Limits rootfs.Limits
	// Parallel bounds the downloads of this pull; 0 is 3.
	Parallel int
	// Report, if not nil, is told how far layers are, one call at a time.
	Report func(LayerProgress)
}

// Pull gets a plugin's content: its layers are downloaded side by side, each
// only once however many want it, verified and stored, and unpacked in the
// manifest's order while they arrive. What an earlier pull left is gone on with.
//
// On failure, and when ctx ends, nothing refers to what was made; layers that
// are there by then are collected by the next [Store.GC], those that are not
// after a day.
func (s *Store) Pull(ctx context.Context, r Remote, fetch Fetch, o PullOptions) (*Artifact, error) {
	if err := r.Check(o.Limits); err != nil {
		return nil, err
	}
	a, err := s.leaseRemote(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.pull(ctx, a, r, fetch, o); err != nil {
		return nil, errors.Join(err, a.Release(ctx))
	}
	return a, nil
}

// leaseRemote begins an artifact that holds all blobs of r, which may be there
// already or not.
func (s *Store) leaseRemote(ctx context.Context, r Remote) (*Artifact, error) {
	blobs := []digest.Digest{r.Manifest.Digest, r.Config.Digest}
	for _, l := range r.Layers {
		blobs = append(blobs, l.Digest)
	}
	var res []leases.Resource
	for _, d := range blobs {
		res = append(res, leases.Resource{ID: d.String(), Type: "content"})
	}
	return s.lease(ctx, res)
}

// lease begins an artifact that holds what is named.
func (s *Store) lease(ctx context.Context, res []leases.Resource) (*Artifact, error) {
	a := &Artifact{store: s, lease: operationLease + rand.Text()}
	err := s.meta.Update(func(tx *bbolt.Tx) error {
		ctx := boltutil.WithTransaction(s.Context(ctx), tx)
		l, err := s.leases.Create(ctx, leases.WithID(a.lease))
		if err != nil {
			return err
		}
		for _, r := range res {
			if err := s.leases.AddResource(ctx, l, r); err != nil {
				return err
			}
		}
		return nil
	})
	return a, noting(&s.failed, err)
}

// Hold keeps what a record names until the artifact is released, even if the
// record changes meanwhile.
func (s *Store) Hold(ctx context.Context, r Record) (*Artifact, error) {
	return s.lease(ctx, s.resources(&r))
}

// puller is the state of one pull.
type puller struct {
	s     *Store
	a     *Artifact
	r     Remote
	fetch Fetch
	o     PullOptions

	report   *reporter
	begun    []chan struct{} // by layer: closed when it is in the store or on its way
	arrived  []chan struct{} // by layer: closed when its blob is in the store
	opened   chan struct{}   // closed when a layer is being unpacked, or none has to be
	parallel chan struct{}
}

func (s *Store) pull(ctx context.Context, a *Artifact, r Remote, fetch Fetch, o PullOptions) error {
	p := &puller{s: s, a: a, r: r, fetch: fetch, o: o, report: newReporter(r.Layers, o.Report), opened: make(chan struct{})}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	p.parallel = make(chan struct{}, o.Parallel)
	stop := p.report.run()
	defer stop()
	work, ctx := errgroup.WithContext(ctx)
	for range r.Layers {
		p.begun, p.arrived = append(p.begun, make(chan struct{})), append(p.arrived, make(chan struct{}))
	}
	work.Go(func() error {
		// There is one transaction at a time, and this one is the longest: it has
		// to wait for nothing, and what the first layer waits for comes before it.
		select {
		case <-p.opened:
			return s.putDocuments(ctx, r)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	work.Go(func() error { return p.download(ctx, work) })
	var applied rootfs.Applied
	work.Go(func() (err error) {
		applied, err = p.unpack(ctx)
		return err
	})
	if err := work.Wait(); err != nil {
		return err
	}
	a.Config, a.ConfigDigest, a.Warnings = r.RawConfig, r.Config.Digest, applied.Warnings
	m := cloneDescriptor(r.Manifest)
	a.Manifest = &m
	for i, l := range r.Layers {
		a.Layers = append(a.Layers, Layer{Blob: l, DiffID: applied.DiffIDs[i]})
	}
	return nil
}

// putDocuments stores the manifest and the config in one transaction.
func (s *Store) putDocuments(ctx context.Context, r Remote) error {
	resume, err := s.pauseCollector(ctx)
	if err != nil {
		return err
	}
	defer resume()
	err = s.meta.Update(func(tx *bbolt.Tx) error {
		ctx := boltutil.WithTransaction(s.Context(ctx), tx)
		for _, doc := range []struct {
			of  ocispec.Descriptor
			raw []byte
		}{{r.Manifest, r.RawManifest}, {r.Config, r.RawConfig}} {
			desc := ocispec.Descriptor{Digest: doc.of.Digest, Size: int64(len(doc.raw))}
			if err := content.WriteBlob(ctx, s.Content(), "document-"+rand.Text(), bytes.NewReader(doc.raw), desc); err != nil {
				return err
			}
		}
		return nil
	})
	return noting(&s.failed, err)
}

// PutManifest stores a manifest made here and returns the artifact that holds
// it, and the config and layers of the record it is of.
func (s *Store) PutManifest(ctx context.Context, rec Record, desc ocispec.Descriptor, raw []byte) (*Artifact, error) {
	rec.Manifest = &desc
	a, err := s.Hold(ctx, rec)
	if err != nil {
		return nil, err
	}
	err = content.WriteBlob(a.context(ctx), s.Content(), "document-"+rand.Text(), bytes.NewReader(raw), ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return nil, errors.Join(err, a.Release(ctx))
	}
	return a, nil
}

// download begins the downloads, in the manifest's order. A blob that several
// layers are is downloaded once.
func (p *puller) download(ctx context.Context, work *errgroup.Group) error {
	first := make(map[digest.Digest]int)
	for i, l := range p.r.Layers {
		if j, twice := first[l.Digest]; twice {
			work.Go(func() error {
				select {
				case <-p.arrived[j]:
					close(p.arrived[i])
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			continue
		}
		first[l.Digest] = i
		select {
		case p.parallel <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		work.Go(func() error {
			defer func() { <-p.parallel }()
			if err := p.layer(ctx, l, sync.OnceFunc(func() { close(p.begun[i]) })); err != nil {
				return err
			}
			close(p.arrived[i])
			return nil
		})
	}
	return nil
}

// layer gets one blob: from the store, from another pull that gets it, or from
// the registry. begun is called once it can be read.
func (p *puller) layer(ctx context.Context, l ocispec.Descriptor, begun func()) error {
	for {
		info, err := p.s.Content().Info(p.s.Context(ctx), l.Digest)
		if err == nil {
			if info.Size != l.Size {
				return outlet.Errorf(errdefs.ErrInvalidArgument, "layer %s has %d bytes, not %d as the manifest says", l.Digest, info.Size, l.Size)
			}
			p.report.set(l, LayerExists, nil)
			begun()
			return nil
		}
		if !errdefs.IsNotFound(err) {
			return err
		}
		dl, run := p.s.downloads.join(l)
		if !run && dl.desc.Size != l.Size {
			// One of two manifests is wrong. Which is seen when the blob is here, or
			// when we get it: nobody's lie is another's failure.
			select {
			case <-dl.done:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		begun()
		if run {
			p.report.set(l, LayerDownloading, dl)
			if err := p.s.download(ctx, dl, p.fetch); err != nil {
				return err
			}
			p.report.set(l, LayerDownloaded, nil)
			return nil
		}
		p.report.set(l, LayerDownloading, dl)
		select {
		case <-dl.done:
			if dl.err == nil {
				p.report.set(l, LayerDownloaded, nil)
				return nil
			}
			// Whoever ran it hung up, or may not read it: now it is our turn.
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unpack applies the layers while they arrive.
func (p *puller) unpack(ctx context.Context) (rootfs.Applied, error) {
	opened := sync.OnceFunc(func() { close(p.opened) })
	defer opened()
	layers := make([]rootfs.Layer, len(p.r.Layers))
	index := make(map[digest.Digest]int)
	for i, l := range p.r.Layers {
		layers[i].Blob = l
		if len(p.r.DiffIDs) > 0 {
			layers[i].DiffID = digest.Digest(p.r.DiffIDs[i])
		}
		if _, ok := index[l.Digest]; !ok {
			index[l.Digest] = i
		}
	}
	arrived := func(ctx context.Context, d ocispec.Descriptor) error {
		select {
		case <-p.arrived[index[d.Digest]]:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := 0
	var unverified *follower // what is being unpacked, if it is still arriving
	// What a layer unpacks to gets its name only if it was read from the bytes
	// that were verified: the blob may be in the store by now, and what was read
	// have been the wrong bytes that came before it.
	verified := func(ctx context.Context, d ocispec.Descriptor) error {
		if err := arrived(ctx, d); err != nil {
			return err
		}
		if unverified.misled() {
			return errInterrupted
		}
		return nil
	}
	opts := rootfs.ApplyOptions{
		Limits:   p.o.Limits,
		TempDir:  filepath.Join(p.s.root, "tmp"),
		Verified: verified,
		Lock:     p.s.unpacking.lock,
		Known:    p.s.knownDiffID,
		Learned:  p.s.learnDiffID,
		Done: func(i int) {
			done = i + 1
			p.report.set(layers[i].Blob, LayerComplete, nil)
		},
	}
	open := func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		select {
		case <-p.begun[index[d.Digest]]:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		r, err := p.s.openLayer(ctx, d)
		if errors.Is(err, errInterrupted) { // between two tries
			if err := arrived(ctx, d); err != nil {
				return nil, err
			}
			r, err = p.s.openLayer(ctx, d)
		}
		if err != nil {
			return nil, err
		}
		unverified, _ = r.(*follower)
		opened()
		return p.report.extracting(d, r), nil
	}
	for tries := 0; ; tries++ {
		applied, err := rootfs.ApplyLayers(p.a.context(ctx), p.s.snapshots(), layers, open, opts)
		// What was read while it arrived and broke off is read again. The layers
		// below are not: they have their names.
		if errors.Is(err, errInterrupted) && tries < maxRestarts && ctx.Err() == nil {
			continue
		}
		if err != nil && done < len(layers) && ctx.Err() == nil {
			// If the bytes turn out to be the wrong ones, that is the reason: then
			// the download's error is reported, or the right ones came after them.
			if errors.Is(verified(ctx, layers[done].Blob), errInterrupted) && tries < maxRestarts {
				continue
			}
		}
		return applied, err
	}
}

// knownDiffID is what a blob was found to unpack to.
func (s *Store) knownDiffID(ctx context.Context, desc ocispec.Descriptor) digest.Digest {
	info, err := s.Content().Info(s.Context(ctx), desc.Digest)
	if err != nil {
		return ""
	}
	d := digest.Digest(info.Labels[labelDiffID])
	if d.Validate() != nil {
		return ""
	}
	return d
}

func (s *Store) learnDiffID(ctx context.Context, desc ocispec.Descriptor, diffID digest.Digest) error {
	info := content.Info{Digest: desc.Digest, Labels: map[string]string{labelDiffID: diffID.String()}}
	_, err := s.Content().Update(s.Context(ctx), info, "labels."+labelDiffID)
	return err
}
