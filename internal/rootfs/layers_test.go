package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/testutil"
)

func gz(t testing.TB, body []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zst(t testing.TB, body []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(body, nil)
}

func newSnapshotter(t testing.TB, name string) snapshots.Snapshotter {
	t.Helper()
	var sn snapshots.Snapshotter
	var err error
	if name == "overlay" {
		testutil.Need(t, testutil.Overlay)
		sn, err = overlay.NewSnapshotter(testutil.TempDir(t))
	} else {
		sn, err = native.NewSnapshotter(testutil.TempDir(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sn.Close(); err != nil {
			t.Error(err)
		}
	})
	return sn
}

type blobs map[digest.Digest][]byte

func (b blobs) add(mediaType string, blob, plain []byte) Layer {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	b[d.Digest] = blob
	return Layer{Blob: d, DiffID: digest.FromBytes(plain)}
}

func (b blobs) open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b[d.Digest])), nil
}

func TestLayersAreAppliedInOrderWhateverTheirPacking(t *testing.T) {
	for _, name := range []string{"overlay", "native"} {
		t.Run(name, func(t *testing.T) {
			sn, b := newSnapshotter(t, name), blobs{}
			one := makeTar(t, entry{name: "usr/lib/a", body: "1"}, entry{name: "lib", typ: '2', to: "usr/lib"}, entry{name: "both", body: "1"}, entry{name: "d/x", body: "1"}, entry{name: "d/y", body: "1"}, entry{name: "gone", body: "1"})
			two := makeTar(t, entry{name: "both", body: "2"}, entry{name: "lib/b", body: "2"}, entry{name: ".wh.gone"}, entry{name: "d/.wh..wh..opq"}, entry{name: "d/z", body: "2"})
			three := makeTar(t, entry{name: "both", body: "3"}, entry{name: "gone/back", body: "3"}, entry{name: "h", typ: '1', to: "lib/a"})
			layers := []Layer{
				b.add(ocispec.MediaTypeImageLayerGzip, gz(t, one), one),
				b.add(ocispec.MediaTypeImageLayerZstd, zst(t, two), two),
				b.add(MediaTypeLayer, three, three),
			}
			layers[0].DiffID = layers[0].Blob.Digest // the legacy form
			layers[2].DiffID = ""                    // not known
			opts := ApplyOptions{TempDir: t.TempDir()}
			done, err := ApplyLayers(t.Context(), sn, layers, b.open, opts)
			if err != nil {
				t.Fatal(err)
			}
			want := []digest.Digest{digest.FromBytes(one), digest.FromBytes(two), digest.FromBytes(three)}
			if diff := cmp.Diff(want, done.DiffIDs); diff != "" {
				t.Error(diff)
			}
			mounts, err := sn.Prepare(t.Context(), "view", done.Chain)
			if err != nil {
				t.Fatal(err)
			}
			dir, release, err := access(t.Context(), mounts, opts.TempDir)
			if err != nil {
				t.Fatal(err)
			}
			wantTree := []string{"both=3", "d/", "d/z=2", "gone/", "gone/back=3", "h=1", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a=1", "usr/lib/b=2"}
			if diff := cmp.Diff(wantTree, listTree(t, dir)); diff != "" {
				t.Error(diff)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(opts.TempDir); err != nil || len(left) > 0 {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
}

func TestLimitsHoldForAllLayersTogether(t *testing.T) {
	var layers []Layer
	b := blobs{}
	for i := range 4 {
		var entries []entry
		for j := range 30 {
			entries = append(entries, entry{name: fmt.Sprintf("%d-%d", i, j), body: strings.Repeat("x", 100)})
		}
		body := makeTar(t, entries...)
		layers = append(layers, b.add(MediaTypeLayer, body, body))
	}
	for name, c := range map[string]struct {
		limits Limits
		fails  string
	}{
		"enough entries":  {Limits{Entries: 120}, ""},
		"too few entries": {Limits{Entries: 119}, "layer 4 (" + layers[3].Blob.Digest.String() + "): archive exceeds the limit of 119 entries"},
		"too few bytes":   {Limits{UncompressedBytes: 3 * layers[0].Blob.Size}, "layer 4 "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ApplyLayers(t.Context(), newSnapshotter(t, "native"), layers, b.open, ApplyOptions{TempDir: t.TempDir(), Limits: c.limits})
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails) || !errdefs.IsInvalidArgument(err)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBadLayersAreRefusedAndLeaveNothing(t *testing.T) {
	body := makeTar(t, entry{name: "a", body: "1"})
	for name, tc := range map[string]struct {
		layer func(b blobs) Layer
		want  string
	}{
		"another type": {func(b blobs) Layer { return b.add("application/x", body, body) }, `layers of type "application/x" are not supported`},
		"a foreign layer": {func(b blobs) Layer {
			return b.add("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gz(t, body), body)
		}, "are not supported"},
		"a false packing":  {func(b blobs) Layer { return b.add(ocispec.MediaTypeImageLayerGzip, zst(t, body), body) }, "its type says gzip, its bytes are zstd"},
		"another digest":   {func(b blobs) Layer { return b.add(MediaTypeLayer, body, []byte("x")) }, "it unpacks to " + digest.FromBytes(body).String()},
		"a broken archive": {func(b blobs) Layer { return b.add(ocispec.MediaTypeImageLayerGzip, gz(t, body)[:100], body) }, "failed to read from tar"},
	} {
		t.Run(name, func(t *testing.T) {
			sn, b := newSnapshotter(t, "native"), blobs{}
			_, err := ApplyLayers(t.Context(), sn, []Layer{tc.layer(b)}, b.open, ApplyOptions{})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			err = sn.Walk(t.Context(), func(_ context.Context, info snapshots.Info) error {
				t.Errorf("left: %+v", info)
				return nil
			})
			if err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		})
	}
}

func TestPrepareMountpointsStaysInside(t *testing.T) {
	resolvers(t, func(t *testing.T, walk bool) {
		base := t.TempDir()
		dir, out := filepath.Join(base, "root"), filepath.Join(base, "out")
		for _, d := range []string{dir, out, filepath.Join(dir, "run")} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for link, to := range map[string]string{"etc": out, "dev": "../out", "sys": "nowhere", "var": "run", "run/x": "/" + out} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "proc"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		tree, err := openTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.close()
		tree.walk = walk
		p := &preparer{tree: tree}
		for range 2 {
			if err := p.prepare(t.Context(), []Mountpoint{{Path: "/var/docker/plugins"}, {Path: "/run/x/y.conf", File: true}}); err != nil {
				t.Fatal(err)
			}
		}
		if left := listTree(t, out); len(left) > 0 {
			t.Errorf("outside: %v", left)
		}
		want := []string{
			".dockerenv=", "dev/", "dev/console=", "dev/pts/", "dev/shm/", "etc/", "etc/hostname=", "etc/hosts=", "etc/mtab -> /proc/mounts", "etc/resolv.conf=",
			"proc/", "run/", "run/docker/", "run/docker/plugins/", "run/x/", "run/x/y.conf=", "sys/", "var -> run",
		}
		if diff := cmp.Diff(want, listTree(t, dir)); diff != "" {
			t.Error(diff)
		}
		for _, m := range []Mountpoint{{Path: "/.dockerenv/x"}, {Path: "/run", File: true}} {
			if err := PrepareMountpoints(t.Context(), dir, m); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%+v: %v", m, err)
			}
		}
		if err := PrepareMountpoints(t.Context(), dir, Mountpoint{Path: "x"}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("a relative path: %v", err)
		}
	})
}

func TestUnmountTakesAllThatIsBelow(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS)
	dir := testutil.TempDir(t)
	for _, args := range [][]string{
		{"-t", "tmpfs", "tmpfs", dir + "/a"}, {"-t", "tmpfs", "tmpfs", dir + "/a"}, {"-t", "tmpfs", "tmpfs", dir + "/a/b"}, {"-t", "tmpfs", "tmpfs", dir + "/ab"},
	} {
		if err := os.MkdirAll(args[3], 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	busy, err := os.Create(dir + "/a/b/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := Unmount(t.Context(), dir+"/a"); err != nil {
		t.Error(err)
	}
	left, err := testutil.Mounts(dir)
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], "/ab") {
		t.Errorf("left: %v %v", left, err)
	}
	if err := Unmount(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if err := Unmount(t.Context(), dir+"/absent"); err != nil {
		t.Error(err)
	}
}

// FuzzLayer applies layers of strangers above one that has what they might use to
// get out.
func FuzzLayer(f *testing.F) {
	for _, e := range [][]entry{
		{{name: "a", body: "1"}, {name: "d/", typ: tar.TypeDir}, {name: ".wh.gone"}, {name: "d/.wh..wh..opq"}},
		{{name: "out/marker", body: "1"}, {name: "out/.wh.marker"}, {name: "out/.wh..wh..opq"}, {name: "up/x", body: "1"}},
		{{name: "h", typ: tar.TypeLink, to: "out/marker"}, {name: "h", body: "1"}, {name: "s", typ: tar.TypeSymlink, to: "/"}, {name: "s/x", body: "1"}},
		{{name: "../x", body: "1"}, {name: "/x", body: "1"}, {name: ".wh...", body: "1"}, {name: ".wh.", body: "1"}, {name: ".wh../x"}},
		{{name: ".", typ: tar.TypeSymlink, to: ".."}, {name: "p", typ: tar.TypeFifo}, {name: "n", typ: tar.TypeChar}},
	} {
		f.Add(makeTar(f, e...))
	}
	limits := Limits{UncompressedBytes: 1 << 20, Entries: 100}.WithDefaults()
	f.Fuzz(func(t *testing.T, body []byte) {
		base := t.TempDir()
		dir, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
		if err := errors.Join(
			os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.Mkdir(outside, 0o755),
			os.WriteFile(filepath.Join(outside, "marker"), []byte("x"), 0o600),
			os.WriteFile(filepath.Join(dir, "gone"), nil, 0o600),
			os.Symlink("../outside", filepath.Join(dir, "out")), os.Symlink("..", filepath.Join(dir, "up")),
		); err != nil {
			t.Fatal(err)
		}
		_, err := applyLayer(t.Context(), dir, bytes.NewReader(body), true, &budget{limits: limits})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("not the layer's fault? %v", err)
		}
		found, err := os.ReadDir(base)
		if err != nil || len(found) != 2 {
			t.Errorf("something got out: %v, %v", found, err)
		}
		in, err := os.ReadDir(outside)
		if err != nil || len(in) != 1 {
			t.Errorf("something outside is others': %v, %v", in, err)
		}
		st, err := os.Stat(filepath.Join(outside, "marker"))
		if err != nil || st.Size() != 1 || st.Mode() != 0o600 || st.Sys().(*syscall.Stat_t).Nlink != 1 {
			t.Errorf("the file outside is another: %v, %v", st, err)
		}
	})
}
