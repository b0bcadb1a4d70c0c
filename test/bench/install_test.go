package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// BenchmarkInstall measures installing a large tree from a registry on loopback
// beside the same download, verified, written, decompressed and unpacked by
// stages that run side by side in one process, and synced.
func BenchmarkInstall(b *testing.B) {
	archive := filepath.Join(testutil.TempDir(b), "big.tar")
	writeTree(b, archive)
	benchmarkInstall(b, layerOf(b, archive))
}

// BenchmarkInstallTiny does the same with one small program: the plugin of
// examples/dirvol as it would be shipped.
func BenchmarkInstallTiny(b *testing.B) {
	path := filepath.Join(testutil.TempDir(b), "dirvol")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./examples/dirvol")
	build.Dir, build.Env = testutil.RepoRoot(b), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkInstall(b, rt.Tar(b, rt.File{Name: "plugin", Content: string(program), Mode: 0o755}))
}

func benchmarkInstall(b *testing.B, raw []byte) {
	reg := rt.Start(b, rt.Options{})
	packed := rt.Gzip(b, raw)
	b.Logf("layer: %.1f MB, %.1f MB gzip", float64(len(raw))/1e6, float64(len(packed))/1e6)
	reg.Put(b, "big", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{{Blob: packed, MediaType: rt.TypeGzip, DiffID: rt.Digest(raw)}}})
	d := daemontest.Start(b)
	c := connect(b, d)
	ref := reg.Host + "/big:1"
	ctx := b.Context()
	compare(b, 1.3, func() time.Duration {
		unix.Sync() // what was removed before is not ours to write
		began := time.Now()
		if _, err := c.Pull(ctx, ref, outlet.PullOptions{}, nil); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		if err := c.Remove(ctx, ref, false); err != nil {
			b.Fatal(err)
		}
		waitCollected(b, d)
		return took
	}, func() time.Duration { return installLimit(b, reg.Host) })
}

// waitCollected waits until the blobs of what was removed are gone, so that the
// next install begins with nothing.
func waitCollected(b *testing.B, d *daemontest.Daemon) {
	b.Helper()
	testutil.Eventually(b, 20*time.Second, func() error {
		entries, err := os.ReadDir(filepath.Join(d.Dir(), "lib", "content", "blobs", "sha256"))
		if err == nil && len(entries) > 0 {
			err = fmt.Errorf("%d blobs are left", len(entries))
		}
		return err
	})
}

// layerOf is what is below rootfs/ of a create context, as a layer.
func layerOf(b *testing.B, archive string) []byte {
	b.Helper()
	f, err := os.Open(archive)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "rootfs/")
		if !ok || name == "" {
			continue
		}
		h.Name = name
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(w, in); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// installLimit does what an install has to: the manifest, the config, and the
// layer through all its stages at once. Everything is on the device at the end.
func installLimit(b *testing.B, host string) time.Duration {
	b.Helper()
	dir := testutil.TempDir(b)
	unix.Sync() // as for ours
	began := time.Now()
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(context.WithoutCancel(b.Context()), http.MethodGet, "http://"+host+"/v2/big/"+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept", rt.TypeManifest)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		return resp
	}
	var m struct {
		Config rt.Descriptor
		Layers []rt.Descriptor
	}
	resp := get("manifests/1")
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	resp = get("blobs/" + m.Config.Digest)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()

	blob, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		b.Fatal(err)
	}
	defer blob.Close()
	resp = get("blobs/" + m.Layers[0].Digest)
	defer resp.Body.Close()
	sum := sha256.New()
	down, up := pipeline(b, io.TeeReader(resp.Body, io.MultiWriter(sum, blob)))
	z, err := gzip.NewReader(down)
	if err != nil {
		b.Fatal(err)
	}
	unzipped, up2 := pipeline(b, z)
	if err := unpack(unzipped, filepath.Join(dir, "tree")); err != nil {
		b.Fatal(err)
	}
	up.Wait()
	up2.Wait()
	if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); got != m.Layers[0].Digest {
		b.Fatal(got)
	}
	if err := unix.Syncfs(int(blob.Fd())); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return took
}

// pipeline reads r in a goroutine of its own, some chunks ahead.
func pipeline(b *testing.B, r io.Reader) (io.Reader, *sync.WaitGroup) {
	full, empty := make(chan []byte, 8), make(chan []byte, 8)
	for range 8 {
		empty <- make([]byte, 256<<10)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(full)
		for {
			chunk := <-empty
			n, err := io.ReadFull(r, chunk[:cap(chunk)])
			full <- chunk[:n]
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					b.Error(err)
				}
				return
			}
		}
	})
	return &chunks{full: full, empty: empty}, &wg
}

type chunks struct {
	full, empty chan []byte
	chunk, rest []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.chunk != nil {
			c.empty <- c.chunk
		}
		chunk, ok := <-c.full
		if !ok {
			c.chunk = nil
			return 0, io.EOF
		}
		c.chunk, c.rest = chunk, chunk
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
