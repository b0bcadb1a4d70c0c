package rootfs

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/durable"
)

// MediaTypeLayer is the type of a layer that is not compressed, as Docker's
// manifests call it. Layers of created plugins are kept so.
const MediaTypeLayer = images.MediaTypeDockerSchema2Layer

// packing is the one place that knows the types of layers.
func packing(mediaType string) (compression, error) {
	switch mediaType {
	case images.MediaTypeDockerSchema2Layer, ocispec.MediaTypeImageLayer:
		return plain, nil
	case images.MediaTypeDockerSchema2LayerGzip, ocispec.MediaTypeImageLayerGzip:
		return gzipped, nil
	case images.MediaTypeDockerSchema2LayerZstd, ocispec.MediaTypeImageLayerZstd:
		return zstandard, nil
	default:
		return plain, invalidf("layers of type %.128q are not supported", mediaType)
	}
}

// CheckLayerType fails with errdefs.ErrInvalidArgument, naming the type, if
// layers of it cannot be applied.
func CheckLayerType(mediaType string) error {
	_, err := packing(mediaType)
	return err
}

// Layer is a layer to be applied.
type Layer struct {
	// Blob is what open returns the bytes of; its media type says how they are
	// compressed.
	Blob ocispec.Descriptor
	// DiffID is the digest of the layer uncompressed; "" is not compared. The
	// legacy form, where it is the digest of Blob, is accepted.
	DiffID digest.Digest
}

// ApplyOptions are the optional parts of applying layers.
type ApplyOptions struct {
	// Limits bounds each layer, and UncompressedBytes and Entries all that are
	// unpacked.
	Limits Limits
	// TempDir is where snapshots are mounted while they are written; "" is the
	// system's directory for temporary files.
	TempDir string
	// Verified, if not nil, is asked before a layer gets its name: it waits until
	// the blob is known to be what its descriptor says, or fails.
	Verified func(context.Context, ocispec.Descriptor) error
	// Lock, if not nil, keeps others from unpacking what key names until unlock
	// is called, so that several who need a layer unpack it once.
	Lock func(ctx context.Context, key string) (unlock func(), err error)
	// Known, if not nil, tells what an earlier call found a blob to unpack to,
	// "" if it is not known; Learned is told.
	Known   func(context.Context, ocispec.Descriptor) digest.Digest
	Learned func(context.Context, ocispec.Descriptor, digest.Digest) error
	// Done, if not nil, is told of each layer that is there.
	Done func(layer int)

	entries int64 // of the layers unpacked so far
}

// Applied says what applying layers made.
type Applied struct {
	// Chain is the key of the committed snapshot that holds all layers, "" if
	// there are none.
	Chain string
	// DiffIDs are the digests of the layers uncompressed.
	DiffIDs  []digest.Digest
	Warnings []string
}

// ApplyLayers unpacks layers in their order, whiteouts included, each into a
// snapshot of its own that is named by its chain id; those that exist are not
// read. open is called for one layer after the other. Its bytes are trusted to
// be those of the descriptor; what they unpack to is compared with DiffID.
//
// Snapshots are durable before they get their name. If it fails, the layers
// before the failing one stay, for the lease in ctx to keep or drop.
func ApplyLayers(ctx context.Context, sn snapshots.Snapshotter, layers []Layer,
	open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error), opts ApplyOptions,
) (Applied, error) {
	opts.Limits = opts.Limits.WithDefaults()
	for _, l := range layers {
		if err := CheckLayerType(l.Blob.MediaType); err != nil {
			return Applied{}, err
		}
	}
	var done Applied
	for i, l := range layers {
		diffID, warnings, used, err := unpackLayer(ctx, sn, l, done, open, opts)
		if err != nil {
			return Applied{}, fmt.Errorf("layer %d (%s): %w", i+1, l.Blob.Digest, err)
		}
		opts.Limits.UncompressedBytes -= used.bytes
		opts.entries += used.entries
		if opts.Done != nil {
			opts.Done(i)
		}
		done.DiffIDs = append(done.DiffIDs, diffID)
		done.Chain = ChainID(done.DiffIDs)
		done.Warnings = append(done.Warnings, warnings...)
	}
	return done, nil
}

// ChainID is the name of the snapshot that holds layers of these digests.
func ChainID(diffIDs []digest.Digest) string {
	// identity.ChainID writes into what it is given.
	return identity.ChainID(append([]digest.Digest(nil), diffIDs...)).String()
}

// chainOf is the name of the snapshot of a layer above others.
func chainOf(below []digest.Digest, top digest.Digest) string {
	return ChainID(append(append([]digest.Digest(nil), below...), top))
}

func unpackLayer(ctx context.Context, sn snapshots.Snapshotter, l Layer, below Applied,
	open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error), opts ApplyOptions,
) (_ digest.Digest, warnings []string, used usage, err error) {
	c, err := packing(l.Blob.MediaType)
	if err != nil {
		return "", nil, usage{}, err
	}
	if l.DiffID == l.Blob.Digest && c != plain {
		l.DiffID = "" // the legacy form says nothing
	}
	known := l.DiffID != ""
	if opts.Lock != nil {
		key := "blob " + below.Chain + " " + l.Blob.Digest.String()
		if known {
			key = chainOf(below.DiffIDs, l.DiffID)
		}
		unlock, err := opts.Lock(ctx, key)
		if err != nil {
			return "", nil, usage{}, err
		}
		defer unlock()
	}
	if !known && opts.Known != nil { // maybe since a moment ago
		l.DiffID = opts.Known(ctx, l.Blob)
	}
	var prepare []snapshots.Opt
	if l.DiffID != "" {
		// If there is a snapshot of that name, this leases it and says so.
		prepare = append(prepare, snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: chainOf(below.DiffIDs, l.DiffID)}))
	}
	key := "unpack-" + rand.Text()
	mounts, err := sn.Prepare(ctx, key, below.Chain, prepare...)
	if errdefs.IsAlreadyExists(err) && len(prepare) > 0 {
		return l.DiffID, nil, usage{}, nil
	}
	if err != nil {
		return "", nil, usage{}, err
	}
	remove := true
	defer func() {
		if remove {
			err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), key))
		}
	}()
	diffID, warnings, used, err := writeLayer(ctx, mounts, l, c, below.Chain != "", open, opts)
	if err != nil {
		return "", nil, usage{}, err
	}
	if l.DiffID != "" && diffID != l.DiffID {
		return "", nil, usage{}, invalidf("it unpacks to %s, not to %s as the config says", diffID, l.DiffID)
	}
	if opts.Verified != nil {
		if err := opts.Verified(ctx, l.Blob); err != nil {
			return "", nil, usage{}, err
		}
	}
	if !known && opts.Learned != nil {
		if err := opts.Learned(ctx, l.Blob, diffID); err != nil {
			return "", nil, usage{}, err
		}
	}
	err = sn.Commit(ctx, chainOf(below.DiffIDs, diffID), key)
	if errdefs.IsAlreadyExists(err) {
		return diffID, warnings, used, nil // somebody else was faster; ours goes
	}
	if err != nil {
		return "", nil, usage{}, err
	}
	remove = false
	return diffID, warnings, used, nil
}

// writeLayer writes a layer into the snapshot that mounts show.
func writeLayer(ctx context.Context, mounts []mount.Mount, l Layer, c compression, upper bool,
	open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error), opts ApplyOptions,
) (_ digest.Digest, _ []string, _ usage, err error) {
	dir, release, err := access(ctx, mounts, opts.TempDir)
	if err != nil {
		return "", nil, usage{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	blob, err := open(ctx, l.Blob)
	if err != nil {
		return "", nil, usage{}, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()

	limit := opts.Limits.CompressedBytes
	br := bufio.NewReaderSize(&bounded{ctx: ctx, r: blob, left: limit, limit: limit, what: "compressed bytes"}, 256<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil, usage{}, readFailed(err)
	}
	if found := detect(head); found != c {
		return "", nil, usage{}, invalidf("its type says %s, its bytes are %s", c, found)
	}
	z, err := unpackAs(ctx, br, c, opts.Limits)
	if err != nil {
		return "", nil, usage{}, readFailed(err)
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	digester := digest.Canonical.Digester()
	counted := &counting{r: io.TeeReader(z, digester.Hash())}
	b := budget{limits: opts.Limits, entries: opts.entries}
	warnings, err := applyLayer(ctx, dir, counted, upper, &b)
	if err != nil {
		return "", nil, usage{}, err
	}
	if err := Sync(dir); err != nil {
		return "", nil, usage{}, err
	}
	return digester.Digest(), warnings, usage{counted.n, b.entries - opts.entries}, nil
}

// usage is what a layer took of the limits for all.
type usage struct{ bytes, entries int64 }

// counting counts what is read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// access makes a snapshot writable as a directory, mounting it if it must.
func access(ctx context.Context, mounts []mount.Mount, tempDir string) (string, func() error, error) {
	if dir, ok := BindSource(mounts); ok {
		return dir, func() error { return nil }, nil
	}
	dir, err := durable.MkdirTemp(tempDir, "layer-")
	if err != nil {
		return "", nil, err
	}
	if err := Mount(ctx, mounts, dir); err != nil {
		return "", nil, errors.Join(err, durable.Remove(dir))
	}
	return dir, func() error {
		if err := Unmount(context.WithoutCancel(ctx), dir); err != nil {
			return err
		}
		return durable.Remove(dir)
	}, nil
}
