package bench

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// The tree that is created: about 150 MB in thousands of files, which gzip
// shrinks to about a third.
const (
	treeFiles = 3300
	treeBytes = 150 << 20
)

// BenchmarkCreate measures creating a plugin of a large tree beside what any
// tool that makes a compressed layer must do at least: unpack, compress (level
// 1) and hash, side by side in one process, and sync.
func BenchmarkCreate(b *testing.B) {
	d := daemontest.Start(b)
	c := connect(b, d)
	archive := filepath.Join(testutil.TempDir(b), "big.tar")
	writeTree(b, archive)
	ctx := b.Context()

	compare(b, 1.3, func() time.Duration {
		f, err := os.Open(archive)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		began := time.Now()
		if _, _, err := c.Create(ctx, "big", f, outlet.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		if err := c.Remove(ctx, "big", false); err != nil {
			b.Fatal(err)
		}
		return took
	}, func() time.Duration { return createLimit(b, archive) })
}

// writeTree writes the create context: config.json, and a tree that is the same
// every time.
func writeTree(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := tar.NewWriter(f)
	add := func(name string, mode int64, kind byte, content []byte) {
		b.Helper()
		h := &tar.Header{Name: name, Mode: mode, Typeflag: kind, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0)}
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			b.Fatal(err)
		}
	}
	add("config.json", 0o644, tar.TypeReg, []byte(`{"description":"big","entrypoint":["/a"],"interface":{"types":["docker.volumedriver/1.0"],"socket":"a.sock"}}`))
	add("rootfs/", 0o755, tar.TypeDir, nil)
	r := rand.New(rand.NewPCG(1, 2))
	phrases := make([][]byte, 256)
	for i := range phrases {
		phrases[i] = make([]byte, 32+r.IntN(64))
		for j := range phrases[i] {
			phrases[i][j] = byte('a' + r.UintN(26))
		}
	}
	noise := make([]byte, 12)
	for i := range treeFiles {
		if i%100 == 0 {
			add(fmt.Sprintf("rootfs/d%02d/", i/100), 0o755, tar.TypeDir, nil)
		}
		var content bytes.Buffer
		for size := treeBytes/treeFiles/2 + r.IntN(treeBytes/treeFiles); content.Len() < size; {
			content.Write(phrases[r.IntN(len(phrases))])
			for i := range noise {
				noise[i] = byte(r.UintN(256))
			}
			content.Write(noise)
		}
		add(fmt.Sprintf("rootfs/d%02d/f%04d", i/100, i), 0o644, tar.TypeReg, content.Bytes())
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// createLimit unpacks the archive into files, and at the same time compresses
// it into a blob and hashes that.
func createLimit(b *testing.B, archive string) time.Duration {
	b.Helper()
	dir := filepath.Join(filepath.Dir(archive), "limit")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	f, err := os.Open(archive)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	blob, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		b.Fatal(err)
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		zr, err := gzip.NewWriterLevel(io.MultiWriter(blob, sha256.New()), 1)
		if err == nil {
			_, err = io.CopyBuffer(zr, pr, make([]byte, 1<<20))
		}
		if err == nil {
			err = zr.Close()
		}
		pr.CloseWithError(err)
		packed <- err
	}()
	ahead := bufio.NewWriterSize(pw, 1<<20) // so that the two run side by side
	err = unpack(io.TeeReader(f, ahead), filepath.Join(dir, "tree"))
	if err == nil {
		err = ahead.Flush()
	}
	pw.CloseWithError(err)
	if err != nil {
		b.Fatal(err)
	}
	if err := <-packed; err != nil {
		b.Fatal(err)
	}
	// All of it must be on the device before anybody is told that it is there.
	if err := unix.Syncfs(int(blob.Fd())); err != nil {
		b.Fatal(err)
	}
	if err := blob.Close(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func unpack(r io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in := tar.NewReader(r)
	buf := make([]byte, 256<<10)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r) // the padding behind the end
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			if err := root.Mkdir(filepath.Clean(h.Name), 0o755); err != nil {
				return err
			}
			continue
		}
		f, err := root.Create(h.Name)
		if err != nil {
			return err
		}
		// Without more methods, or each file would get a buffer of its own.
		if _, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{in}, buf); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
}
