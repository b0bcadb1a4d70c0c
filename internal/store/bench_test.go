package store

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

// The benchmarks here compare a create of a big plugin (about 150 MB in 3,300
// files) with what one process cannot do without: unpack the files, compress
// the layer at the fastest level, hash it, and wait until all of it is on the
// disk. BenchmarkCreate alternates the two and reports their ratio.

// big writes the big create context to a file.
func big(b *testing.B) string {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "context.tar"))
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(writeBig(tar.NewWriter(w)), w.Flush(), f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
	return f.Name()
}

// writeBig writes six programs of 10 MB and 3,294 files of 27 KB on average,
// which compress to about a third.
func writeBig(w *tar.Writer) error {
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	text := benchText(rnd, 4<<20)
	now := time.Unix(1_700_000_000, 0)
	put := func(name string, size int) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(size), ModTime: now}); err != nil {
			return err
		}
		for size > 0 {
			n := min(size, 1<<20)
			at := rnd.IntN(len(text) - n + 1)
			if _, err := w.Write(text[at : at+n]); err != nil {
				return err
			}
			size -= n
		}
		return nil
	}
	config := `{"Description":"big","Entrypoint":["/bin/p0"],"Interface":{"Types":["docker.volumedriver/1.0"],"Socket":"p.sock"}}`
	if err := w.WriteHeader(&tar.Header{Name: "config.json", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(config))}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, config); err != nil {
		return err
	}
	for i := range 6 {
		if err := put(fmt.Sprintf("rootfs/bin/p%d", i), 10<<20); err != nil {
			return err
		}
	}
	for i := range 3294 {
		dir := fmt.Sprintf("rootfs/usr/lib/d%d", i/12)
		if i%12 == 0 {
			if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: now}); err != nil {
				return err
			}
		}
		if err := put(fmt.Sprintf("%s/f%d", dir, i), rnd.IntN(54<<10)); err != nil {
			return err
		}
	}
	return w.Close()
}

func benchText(rnd *mathrand.Rand, size int) []byte {
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 4+rnd.IntN(20))
		for j := range words[i] {
			words[i][j] = byte(rnd.IntN(256))
		}
	}
	text := make([]byte, 0, size+16)
	for len(text) < size {
		// Some words are much more frequent than others.
		text = append(text, words[rnd.IntN(1+rnd.IntN(len(words)))]...)
	}
	return text[:size]
}

// ours creates the plugin and removes it again; only the first is timed.
func ours(b *testing.B, s *Store, context string) time.Duration {
	b.Helper()
	f, err := os.Open(context)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	art, err := s.CreateFromContext(b.Context(), f, rootfs.Limits{}, asIs)
	if err != nil {
		b.Fatal(err)
	}
	r, err := s.Add(b.Context(), Record{ID: newID(b), Name: "big:latest"}, art)
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	if err := errors.Join(art.Release(b.Context()), s.Delete(b.Context(), r.ID)); err != nil {
		b.Fatal(err)
	}
	if _, err := s.GC(b.Context()); err != nil {
		b.Fatal(err)
	}
	settle(b, s.Root())
	return took
}

// limit does the same work with nothing around it.
func limit(b *testing.B, root, context string) time.Duration {
	b.Helper()
	dir := filepath.Join(root, "limit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := createLimit(b.Context(), context, dir); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	settle(b, root)
	return took
}

func settle(b *testing.B, dir string) {
	b.Helper()
	if err := rootfs.Sync(dir); err != nil {
		b.Fatal(err)
	}
}

func createLimit(ctx context.Context, from, dir string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	blob, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		return err
	}
	defer blob.Close()
	toGzip, gzipIn := io.Pipe()
	toHash, hashIn := io.Pipe()
	work, _ := errgroup.WithContext(ctx)
	work.Go(func() error {
		err := untarLimit(io.TeeReader(in, gzipIn), dir)
		gzipIn.CloseWithError(err)
		return err
	})
	work.Go(func() error {
		z, err := gzip.NewWriterLevel(hashIn, gzip.BestSpeed)
		if err == nil {
			_, err = io.CopyBuffer(z, struct{ io.Reader }{toGzip}, make([]byte, 1<<20))
		}
		err = errors.Join(err, z.Close())
		hashIn.CloseWithError(err)
		return err
	})
	work.Go(func() error {
		_, err := io.CopyBuffer(io.MultiWriter(blob, sha256.New()), struct{ io.Reader }{toHash}, make([]byte, 1<<20))
		return err
	})
	if err := work.Wait(); err != nil {
		return err
	}
	work = new(errgroup.Group)
	work.Go(blob.Sync)
	work.Go(func() error { return rootfs.Sync(dir) })
	return work.Wait()
}

func untarLimit(r io.Reader, dir string) error {
	br := bufio.NewReaderSize(r, 1<<20)
	tr := tar.NewReader(br)
	buf := make([]byte, 1<<20)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, br)
			return err
		}
		if err != nil {
			return err
		}
		name := filepath.Join(dir, hdr.Name)
		if hdr.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(name, 0o755); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			f, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
		}
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{tr}, buf)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

func benchStore(b *testing.B) *Store {
	testutil.Need(b, testutil.Overlay)
	return openStore(b, testutil.TempDir(b), Overlay)
}

func BenchmarkCreateBig(b *testing.B) {
	s, context := benchStore(b), big(b)
	var total time.Duration
	for b.Loop() {
		total += ours(b, s, context)
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/create")
}

func BenchmarkCreateLimit(b *testing.B) {
	root, context := testutil.TempDir(b), big(b)
	var total time.Duration
	for b.Loop() {
		total += limit(b, root, context)
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/create")
}

// BenchmarkCreate runs the two in turn and reports the ratio of their medians.
func BenchmarkCreate(b *testing.B) {
	s, context := benchStore(b), big(b)
	root := testutil.TempDir(b)
	ours(b, s, context) // both find the file in the cache
	var a, l []time.Duration
	for b.Loop() {
		a = append(a, ours(b, s, context))
		l = append(l, limit(b, root, context))
	}
	slices.Sort(a)
	slices.Sort(l)
	b.ReportMetric(float64(a[len(a)/2].Milliseconds()), "outlet-ms")
	b.ReportMetric(float64(l[len(l)/2].Milliseconds()), "limit-ms")
	b.ReportMetric(float64(a[len(a)/2])/float64(l[len(l)/2]), "ratio")
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
}
