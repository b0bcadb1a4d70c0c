package manager

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// shelf is a registry that has what no registry takes, and says of it what no
// registry says.
type shelf struct {
	host string

	mu    sync.Mutex
	docs  map[string][]byte // by tag or digest; "*" is any other
	types map[string]string
	blobs map[string][]byte
	asked []string
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{docs: map[string][]byte{}, types: map[string]string{}, blobs: map[string][]byte{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.host = srv.Listener.Addr().String()
	return s
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	object := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	b, ok := s.blobs[object]
	if strings.Contains(r.URL.Path, "/manifests/") {
		if b, ok = s.docs[object]; !ok {
			object = "*"
			b, ok = s.docs[object]
		}
		w.Header().Set("Content-Type", s.types[object])
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

// layers counts the requests for blobs that are no config.
func (s *shelf) layers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if d := a[strings.LastIndex(a, "/")+1:]; strings.Contains(a, "/blobs/") && !strings.HasPrefix(string(s.blobs[d]), "{") {
			n++
		}
	}
	return n
}

func (s *shelf) doc(mediaType string, raw []byte, tags ...string) rt.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := rt.Describe(mediaType, raw)
	for _, name := range append(tags, d.Digest) {
		s.docs[name], s.types[name] = raw, mediaType
	}
	return d
}

func (s *shelf) blob(mediaType string, b []byte) rt.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := rt.Describe(mediaType, b)
	s.blobs[d.Digest] = b
	return d
}

// plugin puts a plugin of layers there, for this machine.
func (s *shelf) plugin(t *testing.T, layers ...rt.Layer) rt.Descriptor {
	var list []rt.Descriptor
	var diffs []string
	for _, l := range layers {
		list, diffs = append(list, s.blob(l.MediaType, l.Blob)), append(diffs, l.DiffID)
	}
	cfg := s.blob(rt.TypeConfig, rt.JSON(t, rt.Config(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})))
	d := s.doc(rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": list}))
	d.Platform = &rt.Platform{OS: "linux", Architecture: "amd64"}
	return d
}

func (s *shelf) index(t *testing.T, tag string, entries ...rt.Descriptor) rt.Descriptor {
	d := s.doc(rt.TypeOCIIndex, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeOCIIndex, "manifests": entries}), tag)
	d.Platform = &rt.Platform{OS: "linux", Architecture: "amd64"}
	return d
}

func TestIndexesOfStrangers(t *testing.T) {
	layer := rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/plugin", Content: "x", Mode: 0o755})
	for name, tt := range map[string]struct {
		put   func(*testing.T, *shelf, rt.Descriptor)
		fails string
	}{
		"one in another": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			s.index(t, "1", s.index(t, "", p))
		}, ""},
		"one in another in another": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			s.index(t, "1", s.index(t, "", s.index(t, "", p)))
		}, "are nested more than 2 deep"},
		"one that is served for whatever it names": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.MediaType, p.Digest = rt.TypeOCIIndex, rt.Digest([]byte("itself"))
			s.index(t, "1", p)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.docs["*"], s.types["*"] = s.docs["1"], rt.TypeOCIIndex
		}, "it sent a manifest of digest"},
		"the 10 000th entry": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			s.index(t, "1", append(foreign(9_999), p)...)
		}, ""},
		"10 000 platforms, none of them this": {func(t *testing.T, s *shelf, _ rt.Descriptor) {
			s.index(t, "1", foreign(10_000)...)
		}, "no matching manifest for linux/amd64"},
		"100 000 entries": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			s.index(t, "1", append(foreign(100_000), p)...)
		}, "the manifest is larger than 4194304 bytes"},
		"an entry that is longer than it is": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.Size++
			s.index(t, "1", p)
		}, "bytes, it has"},
		"an entry that is larger than all": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.Size = math.MaxInt64
			s.index(t, "1", p)
		}, "the manifest is larger than"},
		"an entry that is called an index": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.MediaType = rt.TypeOCIIndex
			s.index(t, "1", p)
		}, `the index calls the manifest`},
		"an index that is called a manifest": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			inner := s.index(t, "", p)
			inner.MediaType = rt.TypeOCI
			s.index(t, "1", inner)
		}, `the index calls the manifest`},
		"an entry that is a layer": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			d := s.doc(rt.TypeGzip, layer.Blob)
			d.Platform = p.Platform
			s.index(t, "1", d)
		}, "the manifest is not JSON"},
		"an entry twice": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			s.index(t, "1", p, p)
		}, ""},
		"annotations of 3 MB": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.Annotations = map[string]string{strings.Repeat("k", 1<<20): strings.Repeat("v", 2<<20)}
			s.index(t, "1", p)
		}, ""},
		"a platform of 3 MB": {func(t *testing.T, s *shelf, p rt.Descriptor) {
			p.Platform = &rt.Platform{OS: "linux", Architecture: "\x1b]0;" + strings.Repeat("a", 3<<20)}
			s.index(t, "1", p)
		}, "no matching manifest for linux/amd64"},
		"layers of more bytes than can be counted": {func(t *testing.T, s *shelf, _ rt.Descriptor) {
			huge := rt.Descriptor{MediaType: rt.TypeGzip, Digest: rt.Digest(layer.Blob), Size: math.MaxInt64}
			other := huge
			other.Digest = rt.Digest(nil)
			cfg := s.blob(rt.TypeConfig, rt.JSON(t, rt.Config(nil)))
			s.doc(rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": []any{huge, other}}), "1")
		}, "the layers are larger than the limit"},
		"a layer of a type of 3 MB": {func(t *testing.T, s *shelf, _ rt.Descriptor) {
			cfg := s.blob(rt.TypeConfig, rt.JSON(t, rt.Config(nil)))
			l := rt.Describe(strings.Repeat("x", 3<<20), layer.Blob)
			s.doc(rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": []any{l}}), "1")
		}, "are not supported"},
		"a config of a type of 3 MB": {func(t *testing.T, s *shelf, _ rt.Descriptor) {
			cfg := s.blob(strings.Repeat("x", 3<<20), rt.JSON(t, rt.Config(nil)))
			s.doc(rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": []any{}}), "1")
		}, "it is not a plugin"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			tt.put(t, s, s.plugin(t, layer))
			f := newFixture(t, quick)
			o := outlet.PullOptions{Name: "x", RemoteOptions: outlet.RemoteOptions{Platform: "linux/amd64"}}
			_, err := f.Pull(t.Context(), s.host+"/a/b:1", o, nil)
			if tt.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.read("x", "bin/plugin"); err != nil || got != "x" {
					t.Errorf("it holds %q, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Fatalf("got %.500v", err)
			}
			if len(err.Error()) > 4<<10 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error has %d bytes: %.100q", len(err.Error()), err)
			}
			if n := s.layers(); n != 0 {
				t.Errorf("%d layers were asked for", n)
			}
			f.empty()
		})
	}
}

// foreign are entries of n platforms that nobody has.
func foreign(n int) []rt.Descriptor {
	l := make([]rt.Descriptor, n)
	for i := range l {
		l[i] = rt.Descriptor{MediaType: rt.TypeOCI, Digest: rt.Digest(nil), Size: 1, Platform: &rt.Platform{OS: "linux", Architecture: fmt.Sprint("cpu", i)}}
	}
	return l
}

func TestImagesOfStrangers(t *testing.T) {
	layer := rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	for name, tt := range map[string]struct{ config, fails string }{
		"another machine in colours": {`{"os":"linux","architecture":"\u001b[2J"}`, `the image is for "linux/\x1b[2J"`},
		"a date of a megabyte":       {`{"created":"` + strings.Repeat("1", 1<<20-100) + `"}`, "the config of the image"},
		"more layers than it has":    {`{"rootfs":{"diff_ids":["` + layer.DiffID + `","` + layer.DiffID + `"]}}`, "it names 2 layers, the manifest 1"},
		"another layer than it has":  {`{"rootfs":{"diff_ids":["` + rt.Digest(nil) + `"]}}`, "it unpacks to"},
		"a layer that is no digest":  {`{"rootfs":{"diff_ids":["sha256:../../x"]}}`, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			cfg := s.blob(ocispec.MediaTypeImageConfig, []byte(tt.config))
			s.doc(rt.TypeOCI, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeOCI, "config": cfg, "layers": []any{s.blob(layer.MediaType, layer.Blob)}}), "1")
			f := newFixture(t, quick)
			_, _, err := f.CreateFromImage(t.Context(), "of/image", nil, outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: s.host + "/a/b:1"})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.fails) || len(err.Error()) > 4<<10 {
				t.Errorf("got %.500v", err)
			}
			f.empty()
		})
	}
}

func TestBombsInLayers(t *testing.T) {
	const limit = 1 << 20
	zeros := string(make([]byte, 64<<20))
	bomb := rt.Tar(t, rt.File{Name: "f", Content: zeros})
	after := append(rt.Tar(t, rt.File{Name: "f", Content: "x"}), zeros...)
	half := func(name string) rt.Layer { return rt.GzipLayer(t, rt.File{Name: name, Content: zeros[:limit*2/3]}) }
	packed := func(mediaType string, blob, raw []byte) rt.Layer {
		return rt.Layer{Blob: blob, MediaType: mediaType, DiffID: rt.Digest(raw)}
	}
	for name, tt := range map[string]struct {
		layers []rt.Layer
		fails  string
	}{
		"gzip":                             {[]rt.Layer{packed(rt.TypeGzip, rt.Gzip(t, bomb), bomb)}, "limit of 1048576 uncompressed bytes"},
		"zstd":                             {[]rt.Layer{packed(rt.TypeOCIZstd, rt.Zstd(t, bomb), bomb)}, "limit of 1048576 uncompressed bytes"},
		"gzip after the archive":           {[]rt.Layer{packed(rt.TypeGzip, rt.Gzip(t, after), after)}, "limit of 1048576 uncompressed bytes"},
		"zstd after the archive":           {[]rt.Layer{packed(rt.TypeOCIZstd, rt.Zstd(t, after), after)}, "limit of 1048576 uncompressed bytes"},
		"several that are each small":      {[]rt.Layer{half("a"), half("b")}, "uncompressed bytes"},
		"zstd that wants 256 MB of memory": {[]rt.Layer{packed(rt.TypeOCIZstd, []byte("\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00"), nil)}, "window size exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			d := s.plugin(t, tt.layers...)
			f := newFixture(t, quick, func(c *Config) { c.Limits.UncompressedBytes = limit })
			_, err := f.Pull(t.Context(), s.host+"/a/b@"+d.Digest, outlet.PullOptions{Name: "x"}, nil)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("got %.500v", err)
			}
			f.empty()
		})
	}
}

func TestATagThatMoves(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	f := newFixture(t, quick)
	more := map[string]any{"PidHost": true}
	seen := func(ref string) outlet.RemotePlugin {
		t.Helper()
		r, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	holds := func(name, want string) {
		t.Helper()
		if got, err := f.read(name, "bin/plugin"); err != nil || got != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	t.Run("to more privileges, which an engine's client did not show", func(t *testing.T) {
		ref := reg.Host + "/moves/more:1"
		reg.Put(t, "moves/more", "1", simple(t, "old", nil))
		shown := seen(ref)
		reg.Put(t, "moves/more", "1", simple(t, "new", more))
		if _, err := f.Pull(t.Context(), ref, outlet.PullOptions{Granted: shown.Privileges}, nil); err == nil || err.Error() != "incorrect privileges" {
			t.Errorf("got %v", err)
		}
		f.empty()
	})
	t.Run("to other content with the same privileges, with which an engine's client agrees", func(t *testing.T) {
		ref := reg.Host + "/moves/same:1"
		reg.Put(t, "moves/same", "1", simple(t, "old", more))
		shown := seen(ref)
		reg.Put(t, "moves/same", "1", simple(t, "new", more))
		if _, err := f.Pull(t.Context(), ref, outlet.PullOptions{Granted: shown.Privileges}, nil); err != nil {
			t.Fatal(err)
		}
		holds(ref, "new")
	})
	t.Run("while it is pulled", func(t *testing.T) {
		front := rt.Before(t, reg)
		ref := front.Host + "/moves/under:1"
		reg.Put(t, "moves/under", "1", simple(t, "old", nil))
		front.On("GET /v2/moves/under/blobs", func(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
			if n == 1 {
				reg.Put(t, "moves/under", "1", simple(t, "new", more))
			}
			next.ServeHTTP(w, r)
		})
		if _, err := f.Pull(t.Context(), ref, outlet.PullOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		holds(ref, "old")
		// There is no moment between a question and another one.
		if head, get := front.Served("HEAD"), front.Served("GET /v2/moves/under/manifests/1"); head != 0 || get != 1 {
			t.Errorf("the tag was asked for %d times, and %d times looked at", get, head)
		}
	})
	t.Run("after an upgrade to it was agreed to", func(t *testing.T) {
		ref := reg.Host + "/moves/up:1"
		reg.Put(t, "moves/up", "1", simple(t, "first", nil))
		if _, err := f.pull(ref, nil); err != nil {
			t.Fatal(err)
		}
		reg.Put(t, "moves/up", "1", simple(t, "second", nil))
		shown := seen(ref)
		reg.Put(t, "moves/up", "1", simple(t, "third", nil))
		_, err := f.Upgrade(t.Context(), ref, "", outlet.UpgradeOptions{Granted: shown.Privileges, Digest: shown.Digest}, nil)
		if !errdefs.IsConflict(err) {
			t.Errorf("with a digest: %v", err)
		}
		reg.Put(t, "moves/up", "1", simple(t, "fourth", more))
		_, err = f.Upgrade(t.Context(), ref, "", outlet.UpgradeOptions{Granted: shown.Privileges}, nil)
		if err == nil || err.Error() != "incorrect privileges" {
			t.Errorf("without one: %v", err)
		}
		holds(ref, "first")
	})
	f.clean()
}

func TestReferencesWithDigests(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	repo := reg.Host + "/by/digest"
	one, _ := reg.Put(t, "by/digest", "1", simple(t, "one", nil))
	two, _ := reg.Put(t, "by/digest", "2", simple(t, "two", nil))
	layer := rt.GzipLayer(t, rt.File{Name: "f", Content: "image"})
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	image, _ := reg.Put(t, "by/image", "1", rt.Plugin{
		Config: map[string]any{"os": "linux"}, ConfigType: ocispec.MediaTypeImageConfig, ManifestType: ocispec.MediaTypeImageManifest, Layers: []rt.Layer{layer},
	})
	f := newFixture(t, quick)
	ctx := t.Context()

	// The digest decides; a tag beside it is only a name, whatever it names.
	for ref, name := range map[string]string{
		repo + "@" + one.Digest:         repo + ":latest",
		repo + ":2@" + one.Digest:       repo + ":2",
		repo + ":nowhere@" + one.Digest: repo + ":nowhere",
	} {
		r, err := f.Remote(ctx, ref, outlet.RemoteOptions{})
		if err != nil || r.Digest != one.Digest {
			t.Errorf("%s: %+v, %v", ref, r, err)
		}
		p, err := f.Pull(ctx, ref, outlet.PullOptions{Granted: r.Privileges, Digest: r.Digest}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != name || p.PluginReference != repo+"@"+one.Digest {
			t.Errorf("%s is installed as %s of %s", ref, p.Name, p.PluginReference)
		}
		if got, err := f.read(name, "bin/plugin"); err != nil || got != "one" {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
		if _, err := f.Pull(ctx, ref, outlet.PullOptions{}, nil); !errdefs.IsAlreadyExists(err) {
			t.Errorf("%s again: %v", ref, err)
		}
		// No plugin is called by a digest.
		if _, err := f.Inspect(ctx, ref); !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
			t.Errorf("inspect of %s: %v", ref, err)
		}
	}
	name := repo + ":latest"
	t.Run("upgrade", func(t *testing.T) {
		p, err := f.Upgrade(ctx, name, "", outlet.UpgradeOptions{}, nil)
		if err != nil || p.PluginReference != repo+"@"+one.Digest {
			t.Errorf("to what it is: %s, %v", p.PluginReference, err)
		}
		p, err = f.Upgrade(ctx, name, repo+":1@"+two.Digest, outlet.UpgradeOptions{Digest: two.Digest}, nil)
		if err != nil || p.PluginReference != repo+"@"+two.Digest || p.Name != name {
			t.Errorf("to another: %s of %s, %v", p.Name, p.PluginReference, err)
		}
		if got, _ := f.read(name, "bin/plugin"); got != "two" {
			t.Errorf("it holds %q", got)
		}
	})
	t.Run("push", func(t *testing.T) {
		pushed, err := f.Push(ctx, name, outlet.RemoteOptions{}, nil)
		if err != nil || pushed.Digest != two.Digest || pushed.Tag != "latest" {
			t.Errorf("%+v, %v", pushed, err)
		}
	})
	t.Run("create --image", func(t *testing.T) {
		o := outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: reg.Host + "/by/image:none@" + image.Digest}
		if _, _, err := f.CreateFromImage(ctx, "of/image", nil, o); err != nil {
			t.Fatal(err)
		}
		if got, err := f.read("of/image", "f"); err != nil || got != "image" {
			t.Errorf("it holds %q, %v", got, err)
		}
	})
	t.Run("names with digests", func(t *testing.T) {
		for what, err := range map[string]error{
			"pull":   second(f.Pull(ctx, repo+":1", outlet.PullOptions{Name: "x@" + one.Digest}, nil)),
			"create": third(f.Create(ctx, "x@"+one.Digest, archive(t), outlet.CreateOptions{})),
			"image":  third(f.CreateFromImage(ctx, "x@"+one.Digest, nil, outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: reg.Host + "/by/image:1"})),
		} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("that are not there", func(t *testing.T) {
		ref := repo + "@" + rt.Digest([]byte("nothing"))
		if err := second(f.Pull(ctx, ref, outlet.PullOptions{Name: "x"}, nil)); !errdefs.IsNotFound(err) {
			t.Errorf("pull: %v", err)
		}
		if err := second(f.Upgrade(ctx, name, ref, outlet.UpgradeOptions{}, nil)); !errdefs.IsNotFound(err) {
			t.Errorf("upgrade: %v", err)
		}
	})
	for _, n := range []string{repo, repo + ":2", repo + ":nowhere", "of/image"} {
		if err := f.Remove(ctx, n, false); err != nil {
			t.Error(err)
		}
	}
	f.empty()
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// Two registries may name the same layer. One that keeps its clients waiting, or
// lies about its size, keeps nobody from getting it from the other.
func TestALayerIsNobodys(t *testing.T) {
	layer := rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/plugin", Content: noise(7, 1<<20)})
	whole := int64(len(layer.Blob))
	for name, tt := range map[string]struct {
		size   int64
		hangUp bool
	}{
		"one that hangs":              {whole, true},
		"one that hangs and lies":     {whole + 1, true},
		"one that lies and sends on":  {1000, false},
		"one that has something else": {whole, false},
	} {
		t.Run(name, func(t *testing.T) {
			good := rt.Start(t, rt.Options{})
			good.Put(t, "a/b", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{layer}})
			bad := newShelf(t)
			cfg := bad.blob(rt.TypeConfig, rt.JSON(t, rt.Config(nil)))
			desc := rt.Describe(layer.MediaType, layer.Blob)
			desc.Size = tt.size
			bad.doc(rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": []any{desc}}), "1")
			hangs, goOn := make(chan struct{}), make(chan struct{})
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, desc.Digest) {
					bad.ServeHTTP(w, r)
					return
				}
				_, _ = w.Write(layer.Blob[:500])
				_ = http.NewResponseController(w).Flush()
				close(hangs)
				select {
				case <-r.Context().Done():
				case <-goOn:
					_, _ = w.Write(make([]byte, tt.size-500))
				}
			}))
			t.Cleanup(front.Close)
			f := newFixture(t, quick, func(c *Config) { c.Registry.Attempts = 1 })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- second(f.Pull(ctx, front.Listener.Addr().String()+"/a/b:1", outlet.PullOptions{Name: "bad"}, nil))
			}()
			<-hangs
			waits := make(chan error, 1)
			go func() {
				waits <- second(f.Pull(t.Context(), good.Host+"/a/b:1", outlet.PullOptions{Name: "good"}, nil))
			}()
			select {
			case err := <-waits:
				t.Fatalf("it did not wait: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			if tt.hangUp {
				cancel()
			} else {
				close(goOn)
			}
			if err := <-ended; err == nil || errors.Is(err, context.Canceled) != tt.hangUp {
				t.Errorf("the bad one: %v", err)
			}
			if err := <-waits; err != nil {
				t.Fatal(err)
			}
			if got, err := f.read("good", "bin/plugin"); err != nil || got != noise(7, 1<<20) {
				t.Errorf("it holds %d bytes, %v", len(got), err)
			}
			f.clean()
		})
	}
}

// A layer whose plugin does not say what it unpacks to is unpacked while it
// arrives. If what arrived was wrong, the right bytes that come after it must not
// make it right.
func TestWrongBytesAreNotUnpackedInThePlaceOfRightOnes(t *testing.T) {
	const size = 1 << 20
	layer := func(seed uint64) rt.Layer {
		return rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/plugin", Content: noise(seed, size)})
	}
	right, wrong, seed := layer(8), layer(9), uint64(9)
	for len(wrong.Blob) != len(right.Blob) {
		seed++
		wrong = layer(seed)
	}
	plugin := rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{right}, NoDiffIDs: true}
	reg := rt.Start(t, rt.Options{})
	reg.Put(t, "a/b", "1", plugin)
	blob := "GET /v2/a/b/blobs/" + rt.Digest(right.Blob)
	// All but the last byte is there to be unpacked before that comes.
	swap := func(said func(), wait func(*http.Request)) rt.Fault {
		return func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			_, _ = w.Write(wrong.Blob[:len(wrong.Blob)-1])
			_ = http.NewResponseController(w).Flush()
			said()
			wait(r)
			_, _ = w.Write(wrong.Blob[len(wrong.Blob)-1:])
		}
	}
	check := func(t *testing.T, f *fixture, name string) {
		t.Helper()
		if got, err := f.read(name, "bin/plugin"); err != nil || got != noise(8, size) {
			t.Errorf("it holds something else (what the wrong bytes do: %v), %v", got == noise(seed, size), err)
		}
		f.clean()
	}
	t.Run("from a mirror", func(t *testing.T) {
		mirror := rt.Before(t, reg)
		mirror.On(blob, swap(func() {}, func(*http.Request) { <-time.After(200 * time.Millisecond) }))
		f := newFixture(t, quick, func(c *Config) {
			c.Registry.AnswerTimeout = time.Minute // of which a mirror has a third
			dir := t.TempDir()
			hub := "server = \"http://" + reg.Host + "\"\n"
			if err := os.Mkdir(filepath.Join(dir, "docker.io"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "docker.io", "hosts.toml"), []byte(hub), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Registry.CertsDirs, c.Registry.Mirrors = []string{dir}, []string{"http://" + mirror.Host}
		})
		if _, err := f.pull("a/b:1", nil); err != nil {
			t.Fatal(err)
		}
		if mirror.Served(blob) != 1 {
			t.Errorf("the mirror was asked %d times", mirror.Served(blob))
		}
		check(t, f, "a/b:1")
	})
	t.Run("from another registry", func(t *testing.T) {
		said, goOn := make(chan struct{}), make(chan struct{})
		bad := rt.Before(t, reg)
		bad.On(blob, swap(sync.OnceFunc(func() { close(said) }), func(*http.Request) { <-goOn }))
		f := newFixture(t, quick)
		ended, waits := make(chan error, 1), make(chan error, 1)
		go func() {
			ended <- second(f.Pull(t.Context(), bad.Host+"/a/b:1", outlet.PullOptions{Name: "bad"}, nil))
		}()
		<-said
		go func() {
			waits <- second(f.Pull(t.Context(), reg.Host+"/a/b:1", outlet.PullOptions{Name: "good"}, nil))
		}()
		select {
		case err := <-waits:
			t.Errorf("it did not wait: %v", err)
		case <-time.After(300 * time.Millisecond):
		}
		close(goOn)
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "it sent a blob of digest") {
			t.Errorf("the bad one: %v", err)
		}
		if err := <-waits; err != nil {
			t.Fatal(err)
		}
		check(t, f, "good")
	})
}
