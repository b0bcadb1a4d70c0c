package ocilayout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/registry"
)

var limits = Limits{Entries: 100, Bytes: 1 << 20}

// memory is a layout in memory.
type memory map[digest.Digest][]byte

func (m memory) put(b string) ocispec.Descriptor {
	d := digest.FromString(b)
	m[d] = []byte(b)
	return ocispec.Descriptor{Digest: d, Size: int64(len(b))}
}

func (m memory) open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[desc.Digest])), nil
}

func (m memory) document(_ context.Context, d digest.Digest) ([]byte, error) {
	b, ok := m[d]
	if !ok {
		return nil, invalid("the archive lacks the blob %s", d)
	}
	return b, nil
}

func (m memory) read(t testing.TB, archive []byte) ([]byte, error) {
	t.Helper()
	return Read(t.Context(), bytes.NewReader(archive), limits, func(d digest.Digest, _ int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if digest.FromBytes(b) != d {
			return invalid("the bytes of blob %s have another digest", d)
		}
		m[d] = b
		return nil
	})
}

// manifest puts a manifest of one layer.
func (m memory) manifest(layer string) ocispec.Descriptor {
	c, l := m.put("{}"), m.put(layer)
	d := m.put(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":%q,"size":%d},"layers":[{"mediaType":"y","digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, c.Digest, c.Size, l.Digest, l.Size))
	d.MediaType = ocispec.MediaTypeImageManifest
	return d
}

func named(d ocispec.Descriptor, key, name string) ocispec.Descriptor {
	d.Annotations = map[string]string{key: name}
	return d
}

// layout is a good archive of two plugins that share a layer.
func layout(t testing.TB) []byte {
	t.Helper()
	m := memory{}
	one, two := m.manifest("layer"), m.manifest("layer two")
	var blobs []ocispec.Descriptor
	for d, b := range m {
		blobs = append(blobs, ocispec.Descriptor{Digest: d, Size: int64(len(b))})
	}
	var b bytes.Buffer
	manifests := []ocispec.Descriptor{named(one, AnnotationName, "docker.io/sample/one:v1"), named(two, ocispec.AnnotationRefName, "localhost:5000/two")}
	if err := Write(t.Context(), &b, manifests, append(blobs, blobs...), m.open); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	m := memory{}
	index, err := m.read(t, layout(t))
	if err != nil {
		t.Fatal(err)
	}
	items, err := Items(t.Context(), index, registry.HostPlatform(), m.document)
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 2 || items[0].Name != "sample/one:v1" || items[1].Name != "localhost:5000/two:latest" || len(items[0].Manifest.Layers) != 1 {
		t.Errorf("read %+v", items)
	}
	for ref, want := range map[string]string{
		"sample/one:v1": "sample/one:v1", "docker.io/sample/one:v1": "sample/one:v1", "localhost:5000/two": "localhost:5000/two:latest",
	} {
		if item, err := Choose(items, ref); err != nil || item.Name != want {
			t.Errorf("%s chooses %q, %v", ref, item.Name, err)
		}
	}
	for _, ref := range []string{"", "sample/one", "nothing", "../x"} {
		if _, err := Choose(items, ref); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "localhost:5000/two") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestABlobOfAnotherSizeIsNotWritten(t *testing.T) {
	m := memory{}
	d := m.put("content")
	for _, size := range []int64{1, 100} {
		d.Size = size
		err := Write(t.Context(), io.Discard, nil, []ocispec.Descriptor{d}, m.open)
		if size > 7 != errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestNamesThatAreOnlyTagsNameNothing(t *testing.T) {
	for ref, want := range map[string]string{
		"latest": "", "v1.2": "", "": "", "a/b": "a/b:latest", "b:v1": "b:v1", "a/UPPER": "", "a b:c": "",
		"a/b@sha256:" + strings.Repeat("0", 64): "",
	} {
		d := ocispec.Descriptor{Annotations: map[string]string{ocispec.AnnotationRefName: ref}}
		if got := nameOf(d); got != want {
			t.Errorf("%q names %q, want %q", ref, got, want)
		}
	}
}

func TestIndexesAreNotFollowedWithoutEnd(t *testing.T) {
	m := memory{}
	d := m.manifest("layer")
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: registry.HostPlatform().Architecture}
	index := func(of ocispec.Descriptor) (string, ocispec.Descriptor) {
		doc := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}]}`,
			of.MediaType, of.Digest, of.Size, registry.HostPlatform().Architecture)
		next := m.put(doc)
		next.MediaType = ocispec.MediaTypeImageIndex
		return doc, next
	}
	for depth := range 6 {
		doc, next := index(d)
		_, err := Items(t.Context(), []byte(doc), registry.HostPlatform(), m.document)
		if ok := depth <= maxDepth; ok != (err == nil) {
			t.Errorf("%d indexes: %v", depth, err)
		}
		d = next
	}
}

// header makes an archive of single entries.
func archiveOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLayoutsAreBounded(t *testing.T) {
	many := make([]tar.Header, limits.Entries+1)
	for i := range many {
		many[i] = tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg}
	}
	blob := "blobs/sha256/" + strings.Repeat("0", 64)
	for what, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"entries":                {archiveOf(t, many...), "limit of 100 entries"},
		"bytes":                  {archiveOf(t, tar.Header{Name: blob, Typeflag: tar.TypeReg, Size: limits.Bytes + 1}), "limit of 1048576 bytes"},
		"the index":              {archiveOf(t, tar.Header{Name: "index.json", Typeflag: tar.TypeReg, Size: MaxDocument + 1}), "index.json is larger"},
		"the layout file":        {archiveOf(t, tar.Header{Name: "oci-layout", Typeflag: tar.TypeReg, Size: maxLayoutFile + 1}), "oci-layout is larger"},
		"two indexes":            {archiveOf(t, tar.Header{Name: "index.json", Typeflag: tar.TypeReg}, tar.Header{Name: "./index.json", Typeflag: tar.TypeReg}), "two index.json"},
		"an index that's a link": {archiveOf(t, tar.Header{Name: "index.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), "not a regular file"},
		"a blob that's a link":   {archiveOf(t, tar.Header{Name: blob, Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}), "not a regular file"},
		"no tar":                 {bytes.Repeat([]byte("x"), 2000), "failed to read from tar"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := Read(t.Context(), bytes.NewReader(c.archive), limits, func(digest.Digest, int64, io.Reader) error { return nil })
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzLayout reads what strangers send: it ends, within bounds, with an error of
// the right class or with items whose documents are what their digests say.
func FuzzLayout(f *testing.F) {
	f.Add(layout(f))
	f.Add(archiveOf(f, tar.Header{Name: "index.json", Typeflag: tar.TypeReg, Size: 10}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		m := memory{}
		index, err := m.read(t, archive)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("of class %T: %v", err, err)
			}
			return
		}
		items, err := Items(t.Context(), index, registry.HostPlatform(), m.document)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("of class %T: %v", err, err)
			}
			return
		}
		for _, item := range items {
			if digest.FromBytes(item.Manifest.Raw) != item.Manifest.Descriptor.Digest {
				t.Errorf("%q has another digest than %s", item.Ref, item.Manifest.Descriptor.Digest)
			}
		}
	})
}

// FuzzIndex reads an index that anybody may have written.
func FuzzIndex(f *testing.F) {
	m := memory{}
	d := m.manifest("layer")
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":"a/b"}}]}`, d.MediaType, d.Digest, d.Size)))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"platform":{"os":"linux"}},{}]}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		items, err := Items(t.Context(), index, registry.HostPlatform(), m.document)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("of class %T: %v", err, err)
		}
		for _, item := range items {
			if item.Name != "" {
				if got, err := Choose([]Item{item}, item.Name); err != nil || got.Name != item.Name {
					t.Errorf("its own name does not choose %q: %v", item.Name, err)
				}
			}
		}
	})
}
