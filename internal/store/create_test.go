package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/sys/userns"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

func TestCreateAddReadDelete(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		r := add(t, s, "a/b:latest", small(t, "hello"))
		if got := readRootfs(t, s, r, "plugin"); got != "hello" {
			t.Errorf("plugin holds %q", got)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, s)
		if got := readRootfs(t, s, r, "plugin"); got != "hello" {
			t.Errorf("after a collection plugin holds %q", got)
		}
		config, err := os.ReadFile(filepath.Join(s.Root(), "content/blobs/sha256", r.ConfigDigest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`,"rootfs":{"type":"layers","diff_ids":["%s"]}}`+"\n", r.Layers[0].DiffID)
		if !strings.Contains(string(config), `"Description":"small"`) || !strings.HasSuffix(string(config), want) || strings.Count(string(config), "rootfs") != 1 {
			t.Errorf("config blob is %s, want %s at its end", config, want)
		}
		if err := s.Delete(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		stats, err := s.GC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stats.Blobs != 2 || stats.Snapshots != 2 {
			t.Errorf("collected %+v, want 2 blobs and 2 snapshots", stats)
		}
		wantEmpty(t, s)
	})
}

func TestLayerBlobIsTheDigestOfItsBytesAndOfTheRootfs(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	r := add(t, s, "x:latest", small(t, "hello"))
	blob, err := os.ReadFile(filepath.Join(s.Root(), "content/blobs/sha256", r.Layers[0].Blob.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(blob); got != r.Layers[0].DiffID || int64(len(blob)) != r.Layers[0].Blob.Size {
		t.Errorf("the blob is %s of %d bytes, the record says %+v", got, len(blob), r.Layers[0])
	}
	tr := tar.NewReader(bytes.NewReader(blob))
	hdr, err := tr.Next()
	if err != nil || hdr.Name != "plugin" {
		t.Errorf("the layer begins with %+v, %v", hdr, err)
	}
}

func TestIdenticalContentIsSharedAndOutlivesEither(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		a := add(t, s, "a:latest", small(t, "same"))
		b := add(t, s, "b:latest", small(t, "same"))
		if a.Layers[0].DiffID != b.Layers[0].DiffID {
			t.Fatalf("digests differ: %v %v", a.Layers, b.Layers)
		}
		if err := s.Delete(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := readRootfs(t, s, b, "plugin"); got != "same" {
			t.Errorf("plugin holds %q", got)
		}
		wantClean(t, s)
	})
}

func pack(t testing.TB, body []byte, how string) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "zstd":
		z, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return body
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPackingOfTheContextDoesNotMatter(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	var digests []digest.Digest
	for _, how := range []string{"plain", "gzip", "zstd"} {
		art := create(t, s, pack(t, small(t, "x"), how))
		digests = append(digests, art.Layers[0].DiffID)
		if err := art.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("digests differ: %v", digests)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	good := archive(t, file{name: "rootfs/a", body: strings.Repeat("a", 1<<20)}, file{name: "config.json", body: "{}"})
	errCheck := errors.New("no such field")
	for name, tc := range map[string]struct {
		body  []byte
		check CheckConfig
		want  string
		class error
	}{
		"an empty body":           {nil, asIs, "no rootfs found: EOF", errdefs.ErrInvalidArgument},
		"no rootfs":               {archive(t, file{name: "config.json", body: "{}"}), asIs, "no rootfs found: EOF", errdefs.ErrInvalidArgument},
		"no config":               {archive(t, file{name: "rootfs/a"}), asIs, "config not found", errdefs.ErrInvalidArgument},
		"not a tar":               {bytes.Repeat([]byte("x"), 2048), asIs, "failed to read from tar: archive/tar: invalid tar header", errdefs.ErrInvalidArgument},
		"cut in a file":           {good[:1<<19], asIs, "failed to read from tar: unexpected EOF", errdefs.ErrInvalidArgument},
		"cut gzip":                {pack(t, good, "gzip")[:300], asIs, "failed to read from tar: unexpected EOF", errdefs.ErrInvalidArgument},
		"a refused config":        {good, func([]byte) ([]byte, error) { return nil, errCheck }, "no such field", errCheck},
		"a hard link to nowhere":  {archive(t, file{name: "rootfs/a", hdr: tar.Header{Typeflag: tar.TypeLink, Linkname: "rootfs/b"}}), asIs, `failed to read from tar: "a": hard link to "/b": no such file or directory`, errdefs.ErrInvalidArgument},
		"a hard link out of it":   {archive(t, file{name: "rootfs/a", hdr: tar.Header{Typeflag: tar.TypeLink, Linkname: "rootfs/../etc/shadow"}}), asIs, `failed to read from tar: hard link "rootfs/a" leads out of rootfs: "rootfs/../etc/shadow"`, errdefs.ErrInvalidArgument},
		"config is a directory":   {archive(t, file{name: "config.json/"}), asIs, "failed to read from tar: config.json is not a regular file", errdefs.ErrInvalidArgument},
		"config above its limit":  {archive(t, file{name: "config.json", body: strings.Repeat(" ", 1<<20+1)}), asIs, "failed to read from tar: archive exceeds the limit of 1048576 bytes in config.json", errdefs.ErrInvalidArgument},
		"wrong sum at gzip's end": {func() []byte { b := pack(t, good, "gzip"); b[len(b)-6] ^= 1; return b }(), asIs, "failed to read from tar: gzip: invalid checksum", errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, testutil.TempDir(t), Native)
			_, err := s.CreateFromContext(t.Context(), bytes.NewReader(tc.body), rootfs.Limits{}, tc.check)
			if err == nil || err.Error() != tc.want || !errors.Is(err, tc.class) {
				t.Errorf("got %v (%T), want %q of class %v", err, err, tc.want, tc.class)
			}
			wantEmpty(t, s)
		})
	}
}

func TestCreateThatIsCancelledLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		body := archive(t, file{name: "rootfs/a", body: strings.Repeat("a", 4<<20)}, file{name: "config.json", body: "{}"})
		r := io.MultiReader(bytes.NewReader(body[:2<<20]), readerFunc(func([]byte) (int, error) {
			cancel()
			return 0, ctx.Err()
		}))
		if _, err := s.CreateFromContext(ctx, r, rootfs.Limits{}, asIs); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		wantEmpty(t, s)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAFullDiskIsNotTheArchivesFaultAndLeavesNothing(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS)
	root := testutil.TempDir(t)
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	}()
	s, err := Open(t.Context(), Config{Root: root, Snapshotter: Native})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := archive(t, file{name: "config.json", body: "{}"}, file{name: "rootfs/a", body: strings.Repeat("a", 16<<20)})
	_, err = s.CreateFromContext(t.Context(), bytes.NewReader(body), rootfs.Limits{}, asIs)
	if !errors.Is(err, unix.ENOSPC) || errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	wantEmpty(t, s)
	add(t, s, "x:latest", small(t, "fits"))
}

func TestDevicesAreMadeByRootOnlyAndElseWarnedOf(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), "")
	body := archive(t, file{name: "config.json", body: "{}"}, file{name: "rootfs/null", hdr: tar.Header{Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}})
	art := create(t, s, body)
	warned := len(art.Warnings) == 1 && strings.HasPrefix(art.Warnings[0], "1 device nodes left out")
	if able := os.Geteuid() == 0 && !userns.RunningInUserNS(); able == warned || len(art.Warnings) > 1 {
		t.Errorf("root is able: %v, warnings: %q", able, art.Warnings)
	}
}
