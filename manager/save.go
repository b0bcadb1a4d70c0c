package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/ocilayout"
	"github.com/outletd/outlet/internal/store"
)

// Save writes plugins to w as an OCI layout, a tar that [Manager.Load] and tools
// for images read: what they came as, not what they wrote nor their settings.
// Layers that several of them share are in it once. Nothing is written before
// all plugins were found. They may be removed or upgraded meanwhile.
func (m *Manager) Save(ctx context.Context, names []string, w io.Writer) (err error) {
	if len(names) == 0 {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "no plugin to save")
	}
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return err
	}
	defer done()
	var manifests, blobs, layers []ocispec.Descriptor
	made := make(map[digest.Digest][]byte)
	saved := make(map[string]bool)
	for _, name := range names {
		rec, release, err := m.hold(ctx, name)
		if err != nil {
			return err
		}
		defer release()
		if saved[rec.ID] {
			continue
		}
		saved[rec.ID] = true
		d, err := m.manifestOf(ctx, rec)
		if err != nil {
			return fmt.Errorf("save plugin %s: %w", rec.Name, err)
		}
		made[d.desc.Digest] = d.raw
		desc := d.desc
		if desc.Annotations, err = nameAnnotations(rec); err != nil {
			return err
		}
		manifests = append(manifests, desc)
		blobs = append(blobs, d.desc, d.config)
		layers = append(layers, d.layers...)
	}
	// Documents first: whoever reads a stream knows early what it is.
	return ocilayout.Write(ctx, w, manifests, append(blobs, layers...), func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		if raw, ok := made[desc.Digest]; ok {
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		return m.openBlob(ctx, desc)
	})
}

// hold keeps the content of a plugin from being collected until release.
func (m *Manager) hold(ctx context.Context, name string) (_ store.Record, release func(), err error) {
	u, err := m.find(name)
	if err != nil {
		return store.Record{}, nil, err
	}
	rec, err := m.store.Get(ctx, u.id)
	for {
		if errdefs.IsNotFound(err) {
			return store.Record{}, nil, errNoPlugin(name)
		}
		if err != nil {
			return store.Record{}, nil, err
		}
		a, err := m.store.Hold(ctx, rec)
		if err != nil {
			return store.Record{}, nil, err
		}
		release := func() { m.release(ctx, a, false) } // it may have been the last to hold it
		// What was held is only certain to be there if the record still names it.
		again, err := m.store.Get(ctx, u.id)
		if err == nil && again.Generation == rec.Generation && again.ConfigDigest == rec.ConfigDigest && sameManifest(again, rec) {
			return again, release, nil
		}
		release()
		if err != nil && !errdefs.IsNotFound(err) {
			return store.Record{}, nil, err
		}
		if err != nil {
			return store.Record{}, nil, errNoPlugin(name)
		}
		rec = again
	}
}

func sameManifest(a, b store.Record) bool {
	if a.Manifest == nil || b.Manifest == nil {
		return a.Manifest == b.Manifest
	}
	return a.Manifest.Digest == b.Manifest.Digest
}

// nameAnnotations say what a plugin is called.
func nameAnnotations(rec store.Record) (map[string]string, error) {
	ref, err := reference.ParseNormalizedNamed(rec.Name)
	if err != nil {
		return nil, fmt.Errorf("name of plugin %s: %w", rec.ID, err)
	}
	a := map[string]string{ocilayout.AnnotationName: ref.String(), ocispec.AnnotationRefName: rec.Name}
	if rec.Reference != "" && rec.Reference != rec.Name && rec.Reference != ref.String() {
		a[ocilayout.AnnotationReference] = rec.Reference
	}
	return a, nil
}

// openBlob reads a blob of the store.
func (m *Manager) openBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := m.store.Content().ReaderAt(m.store.Context(ctx), desc)
	if err != nil {
		return nil, err
	}
	if ra.Size() != desc.Size {
		return nil, errors.Join(outlet.Errorf(errdefs.ErrDataLoss, "it has %d bytes, not %d", ra.Size(), desc.Size), ra.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, 0, ra.Size()), ra}, nil
}
