package registrytest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The types that plugins' parts have.
const (
	TypeConfig    = "application/vnd.docker.plugin.v1+json"
	TypeManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	TypeList      = "application/vnd.docker.distribution.manifest.list.v2+json"
	TypeGzip      = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	TypePlain     = "application/vnd.docker.image.rootfs.diff.tar"
	TypeOCI       = "application/vnd.oci.image.manifest.v1+json"
	TypeOCIIndex  = "application/vnd.oci.image.index.v1+json"
	TypeOCIGzip   = "application/vnd.oci.image.layer.v1.tar+gzip"
	TypeOCIZstd   = "application/vnd.oci.image.layer.v1.tar+zstd"
	TypeOCIPlain  = "application/vnd.oci.image.layer.v1.tar"
	TypeForeign   = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	TypeOCIImage  = "application/vnd.oci.image.config.v1+json"
	TypeArtifact  = "application/vnd.oci.empty.v1+json"
	TypeSchemaOne = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Descriptor is a content descriptor.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Platform is that of an entry of an index.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// Describe describes content.
func Describe(mediaType string, b []byte) Descriptor {
	return Descriptor{MediaType: mediaType, Digest: Digest(b), Size: int64(len(b))}
}

// Digest is the digest of content.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// File is a file of a layer; a name that ends in "/" is a directory.
type File struct {
	Name, Content string
	Mode          int64 // 0 is 0644, or 0755
}

// Tar is a layer of files, uncompressed.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg}
		if f.Name[len(f.Name)-1] == '/' {
			h.Typeflag, h.Size = tar.TypeDir, 0
			if h.Mode == 0 {
				h.Mode = 0o755
			}
		} else if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Content)[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gzip compresses.
func Gzip(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Zstd compresses.
func Zstd(t testing.TB, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(raw, nil)
}

// JSON encodes.
func JSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Layer is a layer in a registry: its bytes as they are stored, their type, and
// the digest of what they unpack to.
type Layer struct {
	Blob      []byte
	MediaType string
	DiffID    string
}

// GzipLayer makes a layer as Docker makes it.
func GzipLayer(t testing.TB, files ...File) Layer {
	t.Helper()
	raw := Tar(t, files...)
	return Layer{Blob: Gzip(t, raw), MediaType: TypeGzip, DiffID: Digest(raw)}
}

// Plugin is a plugin to be put into a registry.
type Plugin struct {
	// Config is the config without "rootfs", which Put adds unless NoDiffIDs.
	Config    map[string]any
	NoDiffIDs bool
	Layers    []Layer
	// ManifestType and ConfigType are Docker's if they are "".
	ManifestType, ConfigType string
}

// Config is the config of a plugin that can be installed, with the fields of
// more.
func Config(more map[string]any) map[string]any {
	c := map[string]any{
		"Description": "test", "Entrypoint": []string{"/bin/plugin"},
		"Interface": map[string]any{"Types": []string{"docker.volumedriver/1.0"}, "Socket": "p.sock"},
	}
	for k, v := range more {
		c[k] = v
	}
	return c
}

// Put puts a plugin into the registry and returns its manifest.
func (r *Registry) Put(t testing.TB, repo, tag string, p Plugin) (Descriptor, []byte) {
	t.Helper()
	cfg := make(map[string]any)
	for k, v := range p.Config {
		cfg[k] = v
	}
	var layers []Descriptor
	var diffIDs []string
	for _, l := range p.Layers {
		layers = append(layers, r.PutBlob(t, repo, l.MediaType, l.Blob))
		diffIDs = append(diffIDs, l.DiffID)
	}
	if !p.NoDiffIDs {
		cfg["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	}
	if p.ConfigType == "" {
		p.ConfigType = TypeConfig
	}
	if p.ManifestType == "" {
		p.ManifestType = TypeManifest
	}
	raw := JSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": p.ManifestType,
		"config": r.PutBlob(t, repo, p.ConfigType, JSON(t, cfg)), "layers": layers,
	})
	if tag == "" {
		tag = Digest(raw)
	}
	return r.PutManifest(t, repo, tag, p.ManifestType, raw), raw
}
