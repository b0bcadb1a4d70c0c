package manager

import (
	"context"
	"encoding/json"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/store"
)

// checkPluginManifest fails if m is not that of a plugin.
func checkPluginManifest(m registry.Manifest) error {
	if m.Config.MediaType != configMediaType {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "not a plugin: its config is of type %.128q, that of a plugin is %q", m.Config.MediaType, configMediaType)
	}
	return nil
}

// layerTypes are the types of Docker's manifests for those of OCI's. Registries
// refuse plugins in any other manifest (docs/spec/managed-plugins.md §12.4).
var layerTypes = map[string]string{
	ocispec.MediaTypeImageLayer:     images.MediaTypeDockerSchema2Layer,
	ocispec.MediaTypeImageLayerGzip: images.MediaTypeDockerSchema2LayerGzip,
	ocispec.MediaTypeImageLayerZstd: images.MediaTypeDockerSchema2LayerZstd,
}

// document is a manifest with what it lists.
type document struct {
	desc   ocispec.Descriptor
	raw    []byte
	config ocispec.Descriptor
	layers []ocispec.Descriptor
}

// newManifest makes the manifest of a config and layers. The same arguments give
// the same bytes.
func newManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) (document, error) {
	d := document{config: ocispec.Descriptor{MediaType: configMediaType, Digest: config.Digest, Size: config.Size}}
	for _, l := range layers {
		mediaType := l.MediaType
		if docker, ok := layerTypes[mediaType]; ok {
			mediaType = docker
		}
		d.layers = append(d.layers, ocispec.Descriptor{MediaType: mediaType, Digest: l.Digest, Size: l.Size})
	}
	var err error
	d.raw, err = json.Marshal(builtManifest{
		SchemaVersion: 2, MediaType: images.MediaTypeDockerSchema2Manifest,
		Config: d.config, Layers: append([]ocispec.Descriptor{}, d.layers...),
	})
	d.desc = ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2Manifest, Digest: digest.FromBytes(d.raw), Size: int64(len(d.raw))}
	return d, err
}

// manifestOf is the manifest of a plugin: the one it came with or was pushed
// with, or one that is made, of the layers as they are kept.
func (m *Manager) manifestOf(ctx context.Context, rec store.Record) (document, error) {
	ctx = m.store.Context(ctx)
	if rec.Manifest == nil {
		info, err := m.store.Content().Info(ctx, rec.ConfigDigest)
		if err != nil {
			return document{}, err
		}
		var layers []ocispec.Descriptor
		for _, l := range rec.Layers {
			layers = append(layers, l.Blob)
		}
		return newManifest(ocispec.Descriptor{Digest: info.Digest, Size: info.Size}, layers)
	}
	raw, err := content.ReadBlob(ctx, m.store.Content(), *rec.Manifest)
	if err != nil {
		return document{}, err
	}
	parsed, err := registry.ParseManifest(raw, rec.Manifest.MediaType)
	if err != nil {
		return document{}, err
	}
	return document{desc: parsed.Descriptor, raw: raw, config: parsed.Config, layers: parsed.Layers}, nil
}
