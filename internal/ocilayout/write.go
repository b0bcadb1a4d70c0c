package ocilayout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The annotations of the descriptors in an index.
const (
	// AnnotationName is the whole name, "docker.io/foo/bar:latest".
	AnnotationName = "io.containerd.image.name"
	// AnnotationReference is where a plugin came from, if that is another name.
	AnnotationReference = "com.github.outletd.plugin-reference"
)

// Content opens a blob.
type Content func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)

// Write writes a layout of the manifests, annotated as they are to stand in the
// index, and of blobs: each digest once, in the order of their first mention, so
// that the documents should come first. The same arguments give the same bytes.
// A blob that has not the size its descriptor says is an error, after part of
// the layout was written.
func Write(ctx context.Context, w io.Writer, manifests, blobs []ocispec.Descriptor, open Content) error {
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests,
	})
	if err != nil {
		return err
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	out := writer{tar: tar.NewWriter(w), buf: make([]byte, 256<<10)}
	for _, dir := range []string{ocispec.ImageBlobsDir + "/", blobDir} {
		if err := out.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := out.file(ocispec.ImageLayoutFile, layout); err != nil {
		return err
	}
	if err := out.file(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	written := make(map[digest.Digest]bool, len(blobs))
	for _, desc := range blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if written[desc.Digest] {
			continue
		}
		written[desc.Digest] = true
		if err := out.blob(ctx, desc, open); err != nil {
			return fmt.Errorf("blob %s: %w", desc.Digest, err)
		}
	}
	return out.tar.Close()
}

type writer struct {
	tar *tar.Writer
	buf []byte
}

// header writes a header in which nothing depends on where and when.
func (o *writer) header(h *tar.Header) error {
	h.ModTime = time.Unix(0, 0)
	if h.Size > 8<<30-1 {
		h.Format = tar.FormatPAX // no other has room for the size
	}
	return o.tar.WriteHeader(h)
}

func (o *writer) file(name string, content []byte) error {
	if err := o.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := o.tar.Write(content)
	return err
}

func (o *writer) blob(ctx context.Context, desc ocispec.Descriptor, open Content) error {
	r, err := open(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: blobDir + desc.Digest.Encoded(), Mode: 0o644, Size: desc.Size}
	if err := o.header(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{o.tar}, struct{ io.Reader }{io.LimitReader(r, desc.Size)}, o.buf)
	if err != nil {
		return err
	}
	if n != desc.Size {
		return fmt.Errorf("it has %d bytes instead of %d: %w", n, desc.Size, io.ErrUnexpectedEOF)
	}
	return nil
}
