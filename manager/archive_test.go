package manager

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	imagearchive "github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

// run runs a program and gives what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// entry is an entry of a layer: a directory if its name ends in "/", a link if
// it has a target.
type entry struct {
	name   string
	mode   int64
	body   string
	link   string
	symbol bool
}

func layerTar(t *testing.T, path string, entries ...entry) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), Typeflag: tar.TypeReg, Uid: 3, Gid: 4}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.symbol:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fiveLayers makes an image with umoci in which layers overwrite and remove what
// is below them, and returns its layout.
func fiveLayers(t *testing.T) string {
	t.Helper()
	umoci := testutil.Program(t, testutil.Umoci)
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	run(t, umoci, "init", "--layout", layout)
	run(t, umoci, "new", "--image", layout+":v1")
	run(t, umoci, "config", "--image", layout+":v1", "--config.entrypoint", "/bin/tool", "--config.cmd", "serve",
		"--config.env", "PATH=/bin", "--config.env", "LEVEL=1", "--config.workingdir", "/opt")
	for i, l := range [][]entry{
		{
			{name: "etc/", mode: 0o755},
			{name: "etc/passwd", mode: 0o644, body: "one"},
			{name: "bin/", mode: 0o755},
			{name: "bin/tool", mode: 0o4755, body: "#!/bin/sh\n"},
			{name: "bin/same", mode: 0o4755, link: "bin/tool"},
			{name: "opt/", mode: 0o755},
			{name: "opt/a/", mode: 0o750},
			{name: "opt/a/x", mode: 0o600, body: "x"},
			{name: "opt/a/y", mode: 0o600, body: "y"},
			{name: "opt/b/", mode: 0o755},
			{name: "opt/b/z", mode: 0o600, body: "z"},
			{name: "var/", mode: 0o755},
			{name: "var/keep", mode: 0o600, body: "a file"},
			{name: "gone/", mode: 0o755},
			{name: "gone/file", mode: 0o600, body: "old"},
			{name: "pass", mode: 0o777, link: "etc/passwd", symbol: true},
		},
		{{name: "etc/passwd", mode: 0o640, body: "two"}, {name: "opt/a/.wh.x"}},
		{
			{name: "opt/b/", mode: 0o755},
			{name: "opt/b/.wh..wh..opq"},
			{name: "opt/b/new", mode: 0o600, body: "new"},
			{name: "var/keep/", mode: 0o711},
			{name: "var/keep/inner", mode: 0o600, body: "now a directory"},
		},
		{{name: ".wh.gone"}, {name: "opt/a", mode: 0o600, body: "now a file"}},
		{
			{name: "gone/", mode: 0o700},
			{name: "gone/again", mode: 0o600, body: "new"},
			{name: "pass", mode: 0o600, body: "no link any more"},
			{name: "etc/", mode: 0o700},
			{name: "etc/passwd", mode: 0o600, body: "five"},
		},
	} {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.tar", i))
		layerTar(t, path, l...)
		run(t, umoci, "raw", "add-layer", "--image", layout+":v1", path)
	}
	return layout
}

// tree describes all that is below dir, as far as layers say it.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var l []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d", rel, info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q", st.Nlink, b)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		l = append(l, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pluginTree describes the root filesystem of a plugin.
func (f *fixture) pluginTree(id string) []string {
	f.t.Helper()
	rec, err := f.store.Get(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	mounts, err := f.store.RootfsMounts(f.t.Context(), rec.Rootfs)
	if err != nil {
		f.t.Fatal(err)
	}
	if dir, ok := rootfs.BindSource(mounts); ok {
		return tree(f.t, dir)
	}
	dir := filepath.Join(testutil.TempDir(f.t), "m")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := rootfs.Mount(f.t.Context(), mounts, dir); err != nil {
		f.t.Fatal(err)
	}
	defer func() {
		if err := rootfs.Unmount(f.t.Context(), dir); err != nil {
			f.t.Error(err)
		}
	}()
	return tree(f.t, dir)
}

// tarOf packs a directory as tar does.
func tarOf(t *testing.T, dir string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func blobPath(layout string, d digest.Digest) string {
	return filepath.Join(layout, "blobs", "sha256", d.Encoded())
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// putBlob adds a JSON document to a layout.
func putBlob(t *testing.T, layout, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(b)
	if err := os.WriteFile(blobPath(layout, d), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func putIndex(t *testing.T, layout string, manifests ...ocispec.Descriptor) {
	t.Helper()
	b, err := json.Marshal(ocispec.Index{Versioned: versioned, Manifests: manifests})
	if err == nil {
		err = os.WriteFile(filepath.Join(layout, "index.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pluginManifest makes the image of a layout a plugin, in the same layout, with
// the types of OCI or of Docker.
func pluginManifest(t *testing.T, layout string, docker bool, cfg outlet.Config) ocispec.Descriptor {
	t.Helper()
	var index ocispec.Index
	readJSON(t, filepath.Join(layout, "index.json"), &index)
	var manifest ocispec.Manifest
	readJSON(t, blobPath(layout, index.Manifests[0].Digest), &manifest)
	var image ocispec.Image
	readJSON(t, blobPath(layout, manifest.Config.Digest), &image)
	cfg.Rootfs = &outlet.Rootfs{Type: "layers"}
	for _, d := range image.RootFS.DiffIDs {
		cfg.Rootfs.DiffIDs = append(cfg.Rootfs.DiffIDs, d.String())
	}
	manifest.MediaType = ocispec.MediaTypeImageManifest
	manifest.Config = putBlob(t, layout, configMediaType, cfg)
	if docker {
		manifest.MediaType = images.MediaTypeDockerSchema2Manifest
		for i := range manifest.Layers {
			manifest.Layers[i].MediaType = layerTypes[manifest.Layers[i].MediaType]
		}
	}
	return putBlob(t, layout, manifest.MediaType, manifest)
}

var versioned = specs.Versioned{SchemaVersion: 2}

func named(desc ocispec.Descriptor, name string) ocispec.Descriptor {
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	return desc
}

// sampleConfig is the config of a plugin that leaves to the image what it can.
func sampleConfig() outlet.Config {
	return outlet.Config{
		Interface: outlet.Interface{Socket: "p.sock", Types: []outlet.Capability{outlet.ParseCapability("docker.volumedriver/1.0")}},
		Env:       []outlet.Env{{Name: "LEVEL", Value: new(string), Settable: []string{"value"}}},
	}
}

func rawConfig(t *testing.T, c outlet.Config) []byte {
	t.Helper()
	b, err := outlet.EncodeConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLayersComeOutAsUmociUnpacksThem takes an image and a plugin of five layers
// with overwritten files and whiteouts through both ways in, in all types.
func TestLayersComeOutAsUmociUnpacksThem(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Umoci, testutil.Skopeo, testutil.Overlay)
	layout := fiveLayers(t)
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, testutil.Program(t, testutil.Umoci), "unpack", "--image", layout+":v1", bundle)
	want := tree(t, filepath.Join(bundle, "rootfs"))
	if len(want) < 10 {
		t.Fatalf("umoci unpacked %v", want)
	}
	for packing, flags := range map[string][]string{
		"gzip":  nil,
		"plain": {"--dest-decompress"},
		"zstd":  {"--dest-compress", "--dest-compress-format", "zstd"},
	} {
		dir := filepath.Join(t.TempDir(), "layout")
		args := append([]string{"copy", "--quiet"}, flags...)
		run(t, testutil.Program(t, testutil.Skopeo), append(args, "oci:"+layout+":v1", "oci:"+dir+":v1")...)
		for _, snapshotter := range []string{"overlayfs", "native"} {
			t.Run(packing+" "+snapshotter, func(t *testing.T) {
				f := newFixture(t, func(c *Config) { c.Snapshotter = snapshotter })
				p, _, err := f.CreateFromImage(t.Context(), "of/image", tarOf(t, dir), outlet.ImageOptions{Config: rawConfig(t, sampleConfig())})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, f.pluginTree(p.ID)); diff != "" {
					t.Errorf("the image came out otherwise:\n%s", diff)
				}
				for _, docker := range []bool{false, true} {
					copied := filepath.Join(t.TempDir(), "layout")
					if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
						t.Fatal(err)
					}
					name := fmt.Sprintf("of/plugin:docker-%v", docker)
					cfg := sampleConfig()
					cfg.Entrypoint = []string{"/bin/tool"}
					putIndex(t, copied, named(pluginManifest(t, copied, docker, cfg), name))
					loaded, err := f.Load(t.Context(), tarOf(t, copied), outlet.LoadOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, f.pluginTree(loaded.Plugins[0].ID)); diff != "" {
						t.Errorf("%s came out otherwise:\n%s", name, diff)
					}
				}
			})
		}
	}
}

func TestAnImageGivesWhatTheConfigLeavesOut(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Umoci)
	layout := fiveLayers(t)
	f := newFixture(t)
	p, _, err := f.CreateFromImage(t.Context(), "of/image", tarOf(t, layout), outlet.ImageOptions{
		Config: rawConfig(t, sampleConfig()), Ref: "v1", CreateOptions: outlet.CreateOptions{Env: []string{"LEVEL=9"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Config.Entrypoint, " "); got != "/bin/tool serve" || p.Config.WorkDir != "/opt" {
		t.Errorf("entry point %q, working directory %q", got, p.Config.WorkDir)
	}
	if diff := cmp.Diff([]string{"LEVEL=9", "PATH=/bin"}, p.Settings.Env); diff != "" {
		t.Errorf("environment:\n%s", diff)
	}
	cfg := sampleConfig()
	cfg.Entrypoint, cfg.WorkDir = []string{"/own"}, "/etc"
	p, _, err = f.CreateFromImage(t.Context(), "of/image:own", tarOf(t, layout), outlet.ImageOptions{Config: rawConfig(t, cfg)})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Config.Entrypoint, " "); got != "/own" || p.Config.WorkDir != "/etc" {
		t.Errorf("the config's own words were replaced: %q, %q", got, p.Config.WorkDir)
	}
	for what, o := range map[string]outlet.ImageOptions{
		"a config that is none":     {Config: []byte("{")},
		"a name the layout has not": {Config: rawConfig(t, cfg), Ref: "v2"},
	} {
		if _, _, err := f.CreateFromImage(t.Context(), "of/image:bad", tarOf(t, layout), o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := f.CreateFromImage(t.Context(), "of/image", tarOf(t, layout), outlet.ImageOptions{Config: rawConfig(t, cfg)}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := f.Load(t.Context(), tarOf(t, layout), outlet.LoadOptions{Alias: "x"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not a plugin") {
		t.Errorf("an image was loaded: %v", err)
	}
}

// save gives the archive of plugins.
func (f *fixture) save(names ...string) []byte {
	f.t.Helper()
	var b bytes.Buffer
	if err := f.Save(f.t.Context(), names, &b); err != nil {
		f.t.Fatal(err)
	}
	return b.Bytes()
}

// digests are those that a record names.
func (f *fixture) digests(id string) string {
	f.t.Helper()
	rec, err := f.store.Get(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	doc, err := f.manifestOf(f.t.Context(), rec)
	if err != nil {
		f.t.Fatal(err)
	}
	s := fmt.Sprintln("manifest", doc.desc.Digest, "config", rec.ConfigDigest)
	for _, l := range rec.Layers {
		s += fmt.Sprintln(l.Blob.Digest, l.DiffID)
	}
	return s
}

func TestWhatIsSavedLoadsWithTheSameDigests(t *testing.T) {
	f := newFixture(t)
	one, two := f.create("sample/one"), f.create("sample/two:v2", func(c *outlet.Config) { c.Description = "two" })
	b := f.save("sample/one", "sample/two:v2", one.ID)
	if !bytes.Equal(b, f.save("sample/one", "sample/two:v2")) {
		t.Error("the same plugins give other bytes, or one is in there twice")
	}
	// The root filesystem is that of both, and in there once.
	blobs := 0
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "blobs/sha256/") && h.Typeflag == tar.TypeReg {
			blobs++
		}
	}
	if blobs != 5 {
		t.Errorf("%d blobs, want two manifests, two configs, one layer", blobs)
	}
	g := newFixture(t)
	loaded, err := g.Load(t.Context(), bytes.NewReader(b), outlet.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Plugins) != 2 || loaded.Plugins[0].Name != "sample/one:latest" || loaded.Plugins[1].Name != "sample/two:v2" {
		t.Fatalf("loaded %+v", loaded.Plugins)
	}
	for i, p := range []outlet.Plugin{one, two} {
		if diff := cmp.Diff(f.digests(p.ID), g.digests(loaded.Plugins[i].ID)); diff != "" {
			t.Errorf("%s:\n%s", p.Name, diff)
		}
	}
	if !bytes.Equal(b, g.save("sample/one", "sample/two:v2")) {
		t.Error("saved again it is not the same")
	}
	g.enable("sample/one")
	if err := g.Remove(t.Context(), "sample/one", true); err != nil {
		t.Fatal(err)
	}
	if err := g.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.enable("sample/two:v2") // the layer is still there
}

func TestContainerdReadsWhatIsSaved(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample/one:v1")
	cs, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx := f.store.Context(t.Context())
	desc, err := imagearchive.ImportIndex(ctx, cs, bytes.NewReader(f.save("sample/one:v1")))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := content.ReadBlob(ctx, cs, desc)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%s: %v", raw, err)
	}
	if m := index.Manifests[0]; !strings.Contains(f.digests(p.ID), m.Digest.String()) || m.Annotations[images.AnnotationImageName] != "docker.io/sample/one:v1" {
		t.Errorf("containerd reads %+v", m)
	}
}

func TestLoadAsksForPrivileges(t *testing.T) {
	f := newFixture(t)
	asks := func(c *outlet.Config) {
		c.Network.Type, c.Linux.Capabilities = "host", []string{"CAP_SYS_ADMIN"}
	}
	p := f.create("sample", asks)
	b := f.save("sample")
	want := outlet.RequiredPrivileges(p.Config)
	rec, err := f.store.Get(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := f.manifestOf(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	key := doc.desc.Digest.String()
	reversed := want.Clone()
	slices.Reverse(reversed)
	first := want.Clone()
	first[0].Value = []string{"other"}
	for what, c := range map[string]struct {
		o  outlet.LoadOptions
		ok bool
	}{
		"exactly them":           {outlet.LoadOptions{Granted: map[string]outlet.Privileges{key: want}}, true},
		"in another order":       {outlet.LoadOptions{Granted: map[string]outlet.Privileges{key: reversed}}, true},
		"all there are":          {outlet.LoadOptions{GrantAll: true}, true},
		"none":                   {outlet.LoadOptions{}, false},
		"one less":               {outlet.LoadOptions{Granted: map[string]outlet.Privileges{key: want[:1]}}, false},
		"one more":               {outlet.LoadOptions{Granted: map[string]outlet.Privileges{key: append(want.Clone(), want[0])}}, false},
		"another value":          {outlet.LoadOptions{Granted: map[string]outlet.Privileges{key: first}}, false},
		"those of somebody else": {outlet.LoadOptions{Granted: map[string]outlet.Privileges{digest.FromString("x").String(): want}}, false},
	} {
		t.Run(what, func(t *testing.T) {
			g := newFixture(t)
			loaded, err := g.Load(t.Context(), bytes.NewReader(b), c.o)
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				rec, err := g.store.Get(t.Context(), loaded.Plugins[0].ID)
				if err != nil || !rec.Granted.Equal(want) || rec.GrantedFor != rec.ConfigDigest {
					t.Errorf("recorded %v for %s: %v", rec.Granted, rec.GrantedFor, err)
				}
				return
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "incorrect privileges") {
				t.Errorf("got %v", err)
			}
			g.empty()
		})
	}
}

// empty checks that there is no plugin and nothing on disk that one would need.
func (f *fixture) empty() {
	f.t.Helper()
	list, err := f.List(f.t.Context(), outlet.ListFilter{})
	if err != nil || len(list) != 0 {
		f.t.Errorf("plugins: %v, %v", list, err)
	}
	if err := f.CollectGarbage(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	report, err := f.store.Check(f.t.Context())
	if err != nil || len(report.Problems) != 0 {
		f.t.Errorf("left behind: %+v, %v", report.Problems, err)
	}
	blobs, err := os.ReadDir(filepath.Join(f.cfg.Root, "content", "blobs", "sha256"))
	if err != nil || len(blobs) != 0 {
		f.t.Errorf("blobs: %v, %v", blobs, err)
	}
}

func TestLoadMakesAllPluginsOrNone(t *testing.T) {
	f := newFixture(t)
	f.create("sample/one")
	f.create("sample/two")
	b := f.save("sample/one", "sample/two")
	g := newFixture(t)
	g.create("sample/two")
	_, err := g.Load(t.Context(), bytes.NewReader(b), outlet.LoadOptions{})
	if !errdefs.IsAlreadyExists(err) || err.Error() != "plugin sample/two:latest already exists" {
		t.Errorf("got %v", err)
	}
	if _, err := g.Inspect(t.Context(), "sample/one"); !errdefs.IsNotFound(err) {
		t.Errorf("the other one was loaded: %v", err)
	}
	if _, err := g.Load(t.Context(), bytes.NewReader(b), outlet.LoadOptions{Alias: "x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("one name for two: %v", err)
	}
	loaded, err := g.Load(t.Context(), bytes.NewReader(f.save("sample/two")), outlet.LoadOptions{Alias: "other"})
	if err != nil || loaded.Plugins[0].Name != "other:latest" {
		t.Errorf("an alias: %+v, %v", loaded, err)
	}
}

func TestLoadPicksThePlatform(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Umoci)
	layout := fiveLayers(t)
	cfg := sampleConfig()
	cfg.Entrypoint = []string{"/bin/tool"}
	on := func(arch string) ocispec.Descriptor {
		cfg.Description = arch
		d := pluginManifest(t, layout, false, cfg)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return d
	}
	nested := putBlob(t, layout, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: versioned, Manifests: []ocispec.Descriptor{on("s390x"), on("riscv64")}})
	putIndex(t, layout, named(nested, "sample/multi:v1"))
	f := newFixture(t)
	_, err := f.Load(t.Context(), tarOf(t, layout), outlet.LoadOptions{})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "it has linux/s390x, linux/riscv64") {
		t.Errorf("got %v", err)
	}
	f.empty()
	loaded, err := f.Load(t.Context(), tarOf(t, layout), outlet.LoadOptions{Platform: "linux/riscv64"})
	if err != nil {
		t.Fatal(err)
	}
	if p := loaded.Plugins[0]; p.Name != "sample/multi:v1" || p.Config.Description != "riscv64" {
		t.Errorf("loaded %+v", p)
	}
}

// rewrite changes the files of an archive.
func rewrite(t *testing.T, archive []byte, change func(files map[string][]byte)) io.Reader {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if files[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	change(files)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// Names the other way round: blobs may come in any order, the index last.
	names := slices.Sorted(maps.Keys(files))
	slices.Reverse(names)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestHostileArchivesLeaveNothing(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	good := f.save("sample")
	blob := func(files map[string][]byte, has string) string {
		for name, b := range files {
			if strings.HasPrefix(name, "blobs/") && bytes.Contains(b, []byte(has)) {
				return name
			}
		}
		t.Fatalf("no blob has %q", has)
		return ""
	}
	for what, c := range map[string]struct {
		change func(map[string][]byte)
		want   string
	}{
		"as it is, in another order": {func(map[string][]byte) {}, ""},
		"strange names beside it": {func(f map[string][]byte) {
			f["../../etc/passwd"], f["/abs"], f["manifest.json"], f["blobs/sha512/x"] = []byte("x"), []byte("x"), []byte("x"), []byte("x")
		}, ""},
		"no index":                 {func(f map[string][]byte) { delete(f, "index.json") }, "no index.json"},
		"no layout file":           {func(f map[string][]byte) { delete(f, "oci-layout") }, "no file oci-layout"},
		"nothing":                  {func(f map[string][]byte) { clear(f) }, "not an OCI layout"},
		"another version":          {func(f map[string][]byte) { f["oci-layout"] = []byte(`{"imageLayoutVersion":"2.0.0"}`) }, "version"},
		"an empty index":           {func(f map[string][]byte) { f["index.json"] = []byte(`{"schemaVersion":2,"manifests":[]}`) }, "holds no plugin"},
		"a broken index":           {func(f map[string][]byte) { f["index.json"] = []byte(`{`) }, "not JSON"},
		"a blob that is not one":   {func(f map[string][]byte) { f["blobs/sha256/../../../x"] = []byte("x") }, ""},
		"a name that is no digest": {func(f map[string][]byte) { f["blobs/sha256/abc"] = []byte("x") }, "no digest"},
		"other bytes than its name says": {func(f map[string][]byte) {
			n := blob(f, "schemaVersion")
			f[n] = append(f[n], ' ')
		}, "have the digest"},
		"no manifest": {func(f map[string][]byte) { delete(f, blob(f, "schemaVersion")) }, "lacks the blob"},
		"no config":   {func(f map[string][]byte) { delete(f, blob(f, "diff_ids")) }, "lacks the blob"},
		"no layer":    {func(f map[string][]byte) { delete(f, blob(f, "#!/bin/sh")) }, "lacks the blob"},
		"a name that cannot be one": {func(f map[string][]byte) {
			f["index.json"] = bytes.ReplaceAll(f["index.json"], []byte("sample:latest"), []byte("../../etc"))
		}, "has no name"},
		"a wrong size": {func(f map[string][]byte) {
			f["index.json"] = bytes.Replace(f["index.json"], []byte(`"size":`), []byte(`"size":1`), 1)
		}, "bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			g := newFixture(t)
			_, err := g.Load(t.Context(), rewrite(t, good, c.change), outlet.LoadOptions{})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			g.empty()
		})
	}
	t.Run("cut anywhere", func(t *testing.T) {
		g := newFixture(t)
		for n := 0; n < len(good)-1024; n += 700 {
			if _, err := g.Load(t.Context(), bytes.NewReader(good[:n]), outlet.LoadOptions{}); !errdefs.IsInvalidArgument(err) {
				t.Fatalf("the first %d bytes: %v", n, err)
			}
		}
		g.empty()
	})
	t.Run("more than may be", func(t *testing.T) {
		g := newFixture(t, func(c *Config) { c.Limits.CompressedBytes = int64(len(good)) / 2 })
		if _, err := g.Load(t.Context(), bytes.NewReader(good), outlet.LoadOptions{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "limit") {
			t.Errorf("got %v", err)
		}
		g.empty()
	})
}

func TestALoadThatIsGivenUpLeavesNothing(t *testing.T) {
	f := newFixture(t)
	f.create("sample")
	good := f.save("sample")
	g := newFixture(t)
	for _, n := range []int{0, 1000, 3000, len(good) - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		r := io.MultiReader(bytes.NewReader(good[:n]), readerFunc(func([]byte) (int, error) {
			cancel() // the client hangs up
			return 0, io.ErrUnexpectedEOF
		}))
		if _, err := g.Load(ctx, r, outlet.LoadOptions{}); err == nil {
			t.Errorf("loaded from %d of %d bytes", n, len(good))
		}
		cancel()
	}
	g.empty()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
