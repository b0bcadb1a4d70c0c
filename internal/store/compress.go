package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
)

// Compress makes the blob of a layer that is kept uncompressed one that
// registries are given: gzip. It is held by a. A blob that is compressed
// already is returned as it is.
func (s *Store) Compress(ctx context.Context, a *Artifact, l Layer) (_ ocispec.Descriptor, err error) {
	if l.Blob.MediaType != rootfs.MediaTypeLayer {
		return l.Blob, nil
	}
	lctx := a.context(ctx)
	ra, err := s.Content().ReaderAt(lctx, l.Blob)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, ra.Close()) }()
	w, err := s.Content().Writer(lctx, content.WithRef("compress-"+rand.Text()))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close() // what matters was committed
	// Reading, compressing, and hashing and writing run side by side.
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		buffered := bufio.NewWriterSize(pw, 512<<10)
		z := gzip.NewWriter(buffered)
		_, err := io.Copy(z, bufio.NewReaderSize(io.NewSectionReader(ra, 0, ra.Size()), 512<<10))
		err = errors.Join(err, z.Close(), buffered.Flush())
		pw.CloseWithError(err)
		done <- err
	}()
	size, err := io.CopyBuffer(struct{ io.Writer }{w}, &contextReader{ctx: ctx, r: pr}, make([]byte, 512<<10))
	err = errors.Join(err, pr.Close())
	if cerr := <-done; err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return ocispec.Descriptor{}, errors.Join(fmt.Errorf("compress layer %s: %w", l.Blob.Digest, err), w.Truncate(0))
	}
	desc := ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2LayerGzip, Digest: w.Digest(), Size: size}
	if err := w.Commit(lctx, size, desc.Digest, content.WithLabels(map[string]string{labelDiffID: l.DiffID.String()})); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	if desc.Size == 0 {
		return ocispec.Descriptor{}, outlet.Errorf(errdefs.ErrInternal, "layer %s compresses to nothing", l.Blob.Digest)
	}
	return desc, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // a reader has no other way to be told
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
