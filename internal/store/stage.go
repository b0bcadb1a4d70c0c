package store

import (
	"context"
	"crypto/rand"
	"errors"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// Stage is blobs that somebody sent and that belong to no plugin yet. They are
// kept until [Stage.Release]. It is used by one goroutine.
type Stage struct {
	store *Store
	lease *Artifact
	sizes map[digest.Digest]int64
	buf   []byte
}

// NewStage begins an empty stage.
func (s *Store) NewStage(ctx context.Context) (*Stage, error) {
	a, err := s.newArtifact(ctx)
	if err != nil {
		return nil, err
	}
	return &Stage{store: s, lease: a, sizes: make(map[digest.Digest]int64), buf: make([]byte, downloadChunk)}, nil
}

// Release gives up the stage: what no artifact or record holds is removed by the
// next [Store.GC].
func (st *Stage) Release(ctx context.Context) error { return st.lease.Release(ctx) }

// Put stores size bytes of r as the blob d. One whose bytes have another digest
// is errdefs.ErrInvalidArgument, and not stored. Of a blob that is in the store
// already nothing is read.
func (st *Stage) Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	if _, ok := st.sizes[d]; ok {
		return nil
	}
	lctx := st.lease.context(ctx)
	desc := ocispec.Descriptor{Digest: d, Size: size}
	w, err := st.store.Content().Writer(lctx, content.WithRef("staged-"+rand.Text()), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) { // and is ours too from now on
		return st.existing(lctx, desc)
	}
	if err != nil {
		return err
	}
	if err := st.copy(w, desc, r); err != nil {
		// Closing would sync what nobody wants, so it is made empty first.
		return errors.Join(err, w.Truncate(0), w.Close())
	}
	defer w.Close()
	if err := w.Commit(lctx, size, d); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return st.existing(lctx, desc)
}

func (st *Stage) copy(w content.Writer, desc ocispec.Descriptor, r io.Reader) error {
	status, err := w.Status()
	if err != nil {
		return err
	}
	if status.Offset == desc.Size && w.Digest() == desc.Digest {
		return nil // its file is there: nobody knew it any more, and nobody had removed it yet
	}
	if status.Offset > 0 {
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	n, err := copyWhole(w, io.LimitReader(r, desc.Size), st.buf)
	switch {
	case err != nil:
		return err
	case n != desc.Size:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "blob %s ends after %d of %d bytes", desc.Digest, n, desc.Size)
	case w.Digest() != desc.Digest:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "the bytes of blob %s have the digest %s", desc.Digest, w.Digest())
	}
	return nil
}

// copyWhole copies in pieces as large as buf, whatever pieces r gives: a form in
// a request's body gives some kilobytes at a time.
func copyWhole(w io.Writer, r io.Reader, buf []byte) (int64, error) {
	var total int64
	for {
		n := 0
		var rerr error
		for n < len(buf) && rerr == nil {
			var m int
			m, rerr = r.Read(buf[n:])
			n += m
		}
		written, werr := w.Write(buf[:n])
		total += int64(written)
		switch {
		case werr != nil:
			return total, werr
		case errors.Is(rerr, io.EOF):
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}

func (st *Stage) existing(ctx context.Context, desc ocispec.Descriptor) error {
	info, err := st.store.Content().Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if info.Size != desc.Size {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "blob %s has %d bytes, not %d", desc.Digest, info.Size, desc.Size)
	}
	st.sizes[desc.Digest] = info.Size
	return nil
}

// Check says whether the stage has a blob of the descriptor's digest and size;
// if not it is errdefs.ErrInvalidArgument.
func (st *Stage) Check(desc ocispec.Descriptor) error {
	size, ok := st.sizes[desc.Digest]
	if !ok {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "the archive lacks the blob %s", desc.Digest)
	}
	if size != desc.Size {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "blob %s has %d bytes, not %d as the manifest says", desc.Digest, size, desc.Size)
	}
	return nil
}

// Document reads a blob of the stage of at most limit bytes.
func (st *Stage) Document(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	size, ok := st.sizes[d]
	if !ok {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the archive lacks the blob %s", d)
	}
	if size > limit {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the blob %s is larger than %d bytes", d, limit)
	}
	return content.ReadBlob(st.store.Context(ctx), st.store.Content(), ocispec.Descriptor{Digest: d, Size: size})
}

// Artifact unpacks a plugin whose blobs are in the stage, or of the documents of
// r. It is kept until it is released, whatever becomes of the stage.
func (st *Stage) Artifact(ctx context.Context, r Remote, o PullOptions) (*Artifact, error) {
	for _, l := range r.Layers {
		if err := st.Check(l); err != nil {
			return nil, err
		}
	}
	return st.store.Pull(ctx, r, func(_ context.Context, d ocispec.Descriptor, _ int64) Download {
		return missing{d.Digest}
	}, o)
}

// missing is the download of a blob that there is nowhere to get from.
type missing struct{ d digest.Digest }

func (m missing) Read([]byte) (int, error) {
	return 0, outlet.Errorf(errdefs.ErrInvalidArgument, "the archive lacks the blob %s", m.d)
}

func (missing) Close() error   { return nil }
func (missing) Distrust() bool { return false }
func (missing) Host() string   { return "none" }
