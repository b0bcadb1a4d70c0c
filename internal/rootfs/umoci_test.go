package rootfs

import (
	"archive/tar"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/testutil"
)

// TestLayersComeOutAsUmociUnpacksThem compares with a tool that others wrote.
func TestLayersComeOutAsUmociUnpacksThem(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Umoci)
	one := makeTar(t, entry{name: "usr/", hdr: tar.Header{Mode: 0o750}}, entry{name: "usr/lib/"}, entry{name: "usr/lib/a", body: "1"}, entry{name: "lib", typ: tar.TypeSymlink, to: "/usr/lib"}, entry{name: "d/"}, entry{name: "d/x", body: "1"}, entry{name: "e/"}, entry{name: "e/f/"}, entry{name: "e/f/g", body: "1"}, entry{name: "s", typ: tar.TypeSymlink, to: "d"})
	two := makeTar(t, entry{name: "d/"}, entry{name: "d/.wh..wh..opq"}, entry{name: "d/y", body: "2"}, entry{name: "e/.wh.f"}, entry{name: "lib/b", body: "2"}, entry{name: "usr/lib/a", body: "2", hdr: tar.Header{Mode: 0o4755}})
	three := makeTar(t, entry{name: "e/f", body: "3"}, entry{name: "s/through", body: "3"}, entry{name: "usr/lib/h", typ: tar.TypeLink, to: "usr/lib/a"})
	four := makeTar(t, entry{name: "s/"}, entry{name: "s/own", body: "4"}, entry{name: "usr/lib/.wh.b"})
	five := makeTar(t, entry{name: "usr/", hdr: tar.Header{Mode: 0o700}}, entry{name: ".wh.e"})

	b := blobs{}
	layers := []Layer{
		b.add(ocispec.MediaTypeImageLayerGzip, gz(t, one), one), b.add(ocispec.MediaTypeImageLayer, two, two), b.add(ocispec.MediaTypeImageLayerGzip, gz(t, three), three),
		b.add(ocispec.MediaTypeImageLayer, four, four), b.add(ocispec.MediaTypeImageLayerGzip, gz(t, five), five),
	}
	base := testutil.TempDir(t)
	writeImage(t, filepath.Join(base, "image"), layers, b)
	unpack := exec.CommandContext(t.Context(), testutil.Program(t, testutil.Umoci), "unpack", "--image", filepath.Join(base, "image")+":x", filepath.Join(base, "bundle"))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	for _, name := range []string{"overlay", "native"} {
		t.Run(name, func(t *testing.T) {
			sn := newSnapshotter(t, name)
			done, err := ApplyLayers(t.Context(), sn, layers, b.open, ApplyOptions{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			mounts, err := sn.Prepare(t.Context(), "view", done.Chain)
			if err != nil {
				t.Fatal(err)
			}
			dir, release, err := access(t.Context(), mounts, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withModes(t, filepath.Join(base, "bundle", "rootfs")), withModes(t, dir)); diff != "" {
				t.Errorf("umoci -, we +: %s", diff)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// withModes lists a tree with the modes of what is in it.
func withModes(t testing.TB, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, line := range listTree(t, dir) {
		list[line] = ""
	}
	for _, name := range []string{"usr", "usr/lib", "usr/lib/a", "d", "s/own"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		list["mode of "+name] = info.Mode().String()
	}
	return list
}

// writeImage writes an OCI layout with one image, tagged x.
func writeImage(t testing.TB, dir string, layers []Layer, b blobs) {
	t.Helper()
	put := func(name string, body []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	object := func(mediaType string, v any) ocispec.Descriptor {
		t.Helper()
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(body)
		put("blobs/sha256/"+d.Encoded(), body)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
	}
	image := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		put("blobs/sha256/"+l.Blob.Digest.Encoded(), b[l.Blob.Digest])
		manifest.Layers = append(manifest.Layers, l.Blob)
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, l.DiffID)
	}
	manifest.Config = object(ocispec.MediaTypeImageConfig, image)
	m := object(ocispec.MediaTypeImageManifest, manifest)
	m.Annotations = map[string]string{ocispec.AnnotationRefName: "x"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{m}})
	if err != nil {
		t.Fatal(err)
	}
	put("index.json", index)
	put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
}
