package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// configMediaType is the type of a plugin's config blob.
const configMediaType = "application/vnd.docker.plugin.v1+json"

// Artifact is the content of a plugin in the store: blobs, and the layers
// unpacked. It is kept until [Artifact.Release]; a record that was added with it
// keeps it from then on by itself.
type Artifact struct {
	// Config is the config blob, byte for byte, and ConfigDigest its digest.
	Config       []byte
	ConfigDigest digest.Digest
	// Manifest is nil for what was created here.
	Manifest *ocispec.Descriptor
	Layers   []Layer
	// Warnings say what of the archive could not be kept (device nodes and
	// owners in a user namespace).
	Warnings []string

	store *Store
	lease string
}

// CheckConfig is given config.json as it was sent and returns it as it is to be
// stored; "rootfs" in it is replaced. Its error ends the create as it is.
type CheckConfig func(raw []byte) (stored []byte, err error)

// newArtifact begins an artifact: what is written with its context is kept.
func (s *Store) newArtifact(ctx context.Context) (*Artifact, error) {
	a := &Artifact{store: s, lease: operationLease + rand.Text()}
	_, err := s.leases.Create(s.Context(ctx), leases.WithID(a.lease))
	return a, err
}

// context is ctx for writing under the artifact's lease.
func (a *Artifact) context(ctx context.Context) context.Context {
	ctx = a.store.Context(ctx)
	return durable.Lease(leases.WithLease(ctx, a.lease), ctx)
}

// Release gives up the artifact: what no record holds is removed by the next
// [Store.GC]. It may be called more than once, and after [Store.Add].
func (a *Artifact) Release(ctx context.Context) error {
	ctx = a.store.Context(context.WithoutCancel(ctx))
	err := durable.Do(durable.Leases, a.lease, func() error {
		return a.store.leases.Delete(ctx, leases.Lease{ID: a.lease})
	})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		a.store.lostMu.Lock()
		defer a.store.lostMu.Unlock()
		a.store.lost = append(a.store.lost, a.lease)
	}
	return err
}

// dropLost ends the leases that could not be ended when they should have been.
func (s *Store) dropLost(ctx context.Context) error {
	s.lostMu.Lock()
	defer s.lostMu.Unlock()
	for len(s.lost) > 0 {
		err := s.leases.Delete(ctx, leases.Lease{ID: s.lost[0]})
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		s.lost = s.lost[1:]
	}
	return nil
}

// Describe writes into r what of a record is about the artifact's content.
func (a *Artifact) Describe(r *Record) {
	r.ConfigDigest, r.Manifest = a.ConfigDigest, a.Manifest
	r.Layers = append([]Layer(nil), a.Layers...)
}

// chain is the key of the snapshot that holds all layers.
func (a *Artifact) chain() string {
	if len(a.Layers) == 0 {
		return ""
	}
	diffIDs := make([]digest.Digest, len(a.Layers))
	for i, l := range a.Layers {
		diffIDs[i] = l.DiffID
	}
	return rootfs.ChainID(diffIDs)
}

// PrepareRootfs makes a writable root filesystem of the artifact's layers for a
// generation of the plugin id, durably, and returns its key, which is to become
// [Record.Rootfs]. It is kept as long as the artifact, and by a record that
// names it. [Store.Add] calls it itself.
func (s *Store) PrepareRootfs(ctx context.Context, a *Artifact, id string, generation int) (string, error) {
	key := fmt.Sprintf("rootfs-%s-%d", id, generation)
	lctx := a.context(ctx)
	mounts, err := s.snapshots().Prepare(lctx, key, a.chain())
	if err != nil {
		return "", fmt.Errorf("prepare root filesystem: %w", err)
	}
	if err := s.syncPrepared(mounts); err != nil {
		return "", errors.Join(err, s.snapshots().Remove(context.WithoutCancel(lctx), key))
	}
	return key, nil
}

// CreateFromContext reads a create context, a tar that is plain, gzip or zstd
// and holds config.json and rootfs/, and stores what it holds
// (docs/spec/managed-plugins.md §7.5). It reads r once and to its end, and
// needs little memory however large it is. Layers that are in the store already
// are shared.
//
// The texts of docs/spec/managed-plugins.md §6 are kept; all that is wrong with
// the archive is errdefs.ErrInvalidArgument. On failure, and when ctx ends,
// nothing is left.
func (s *Store) CreateFromContext(ctx context.Context, r io.Reader, limits rootfs.Limits, check CheckConfig) (*Artifact, error) {
	a, err := s.newArtifact(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.create(ctx, a, r, limits, check); err != nil {
		return nil, errors.Join(err, s.undo(ctx, a))
	}
	return a, nil
}

// undo removes what an artifact wrote.
func (s *Store) undo(ctx context.Context, a *Artifact) error {
	ctx = context.WithoutCancel(ctx)
	if err := a.Release(ctx); err != nil {
		return err
	}
	_, err := s.GC(ctx)
	return err
}

func (s *Store) create(ctx context.Context, a *Artifact, r io.Reader, limits rootfs.Limits, check CheckConfig) error {
	lctx := a.context(ctx)
	key := "unpack-" + rand.Text()
	mounts, err := s.snapshots().Prepare(lctx, key, "")
	if err != nil {
		return err
	}
	dir, ok := rootfs.BindSource(mounts)
	if !ok {
		return outlet.Errorf(errdefs.ErrInternal, "the %s snapshotter has no directory for a lowest layer", s.snap)
	}
	layer, err := s.newLayerWriter(lctx)
	if err != nil {
		return err
	}
	split, err := rootfs.SplitContext(ctx, r, dir, layer, limits)
	if writeErr := layer.finish(); writeErr != nil {
		err = writeErr // the cause of what the splitter says
	}
	if err != nil {
		return errors.Join(err, layer.abort())
	}
	config, err := check(split.Config)
	if err == nil {
		config, err = withRootfs(config, layer.diffID())
	}
	if err != nil {
		return errors.Join(err, layer.abort())
	}
	// Both are the disk's work: together they take as long as one.
	var work errgroup.Group
	work.Go(func() error { return layer.commit(lctx) })
	work.Go(func() error { return rootfs.Sync(dir) })
	if err := work.Wait(); err != nil {
		return err
	}
	a.Layers = []Layer{{Blob: layer.descriptor(), DiffID: layer.diffID()}}
	err = s.snapshots().Commit(lctx, a.chain(), key)
	if errdefs.IsAlreadyExists(err) {
		// The same root filesystem is there already; that is the one in use.
		err = s.snapshots().Remove(lctx, key)
	}
	if err != nil {
		return err
	}
	a.Config, a.ConfigDigest, a.Warnings = config, digest.FromBytes(config), split.Warnings
	desc := ocispec.Descriptor{MediaType: configMediaType, Digest: a.ConfigDigest, Size: int64(len(config))}
	return content.WriteBlob(lctx, s.Content(), "config-"+rand.Text(), bytes.NewReader(config), desc)
}

// withRootfs is a config with the list of its layers, whatever list it had.
func withRootfs(config []byte, diffID digest.Digest) ([]byte, error) {
	cfg, _, err := outlet.ParseConfig(config)
	if err != nil {
		return nil, err
	}
	cfg.Rootfs = &outlet.Rootfs{Type: "layers", DiffIDs: []string{diffID.String()}}
	return outlet.EncodeConfig(cfg)
}
