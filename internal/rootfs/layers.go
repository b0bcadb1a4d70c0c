package rootfs

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
	Limits Limits
	// TempDir is where snapshots are mounted while they are written.
	TempDir string
}

// Applied says what applying layers made.
type Applied struct {
	// Chain is the key of the committed snapshot that holds all layers.
	Chain string
	// DiffIDs are the digests of the layers uncompressed.
	DiffIDs  []digest.Digest
	Warnings []string
}

// ApplyLayers unpacks layers in their order, whiteouts included, each into a
// snapshot of its own that is named by its chain id; those that exist are not
// read. open is called for one layer after the other.
func ApplyLayers(ctx context.Context, sn snapshots.Snapshotter, layers []Layer,
	open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error), opts ApplyOptions,
) (Applied, error) {
	return Applied{}, errdefs.ErrNotImplemented
}
