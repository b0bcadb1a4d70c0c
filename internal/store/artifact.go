package store

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/rootfs"
)

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
}

// CheckConfig is given config.json as it was sent and returns it as it is to be
// stored, a JSON object without "rootfs". Its error ends the create as it is.
type CheckConfig func(raw []byte) (stored []byte, err error)

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
	return nil, errdefs.ErrNotImplemented
}

// Release gives up the artifact: what no record holds is removed by the next
// [Store.GC]. It may be called more than once, and after [Store.Add].
func (a *Artifact) Release(ctx context.Context) error { return errdefs.ErrNotImplemented }
