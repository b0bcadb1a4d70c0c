package store

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/rootfs"
)

const (
	chunkSize  = 512 << 10
	chunkCount = 6
)

// layerWriter writes a layer into the content store from a goroutine of its
// own, so that hashing and writing it run beside unpacking it. The layer is not
// compressed: only a push needs that, and then pays for it; and so the digest of
// the blob is the digest of what it holds.
type layerWriter struct {
	store *Store
	ref   string
	blob  content.Writer

	chunk []byte
	full  chan []byte
	empty chan []byte
	done  chan struct{}
	err   error // of the goroutine; read after done
	size  int64
}

// newLayerWriter begins a layer under the lease in ctx. It must be ended with
// finish.
func (s *Store) newLayerWriter(ctx context.Context) (*layerWriter, error) {
	w := &layerWriter{
		store: s,
		ref:   "layer-" + rand.Text(),
		full:  make(chan []byte, chunkCount),
		empty: make(chan []byte, chunkCount),
		done:  make(chan struct{}),
	}
	var err error
	if w.blob, err = s.Content().Writer(ctx, content.WithRef(w.ref)); err != nil {
		return nil, err
	}
	for range chunkCount {
		w.empty <- make([]byte, 0, chunkSize)
	}
	w.chunk = <-w.empty
	go w.run()
	return w, nil
}

func (w *layerWriter) run() {
	defer close(w.done)
	for chunk := range w.full {
		if _, err := w.blob.Write(chunk); err != nil {
			w.err = err
			return
		}
		w.empty <- chunk[:0]
	}
}

// Write copies p; it waits only if the disk is slower than the archive.
func (w *layerWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room := min(cap(w.chunk)-len(w.chunk), len(p))
		w.chunk = append(w.chunk, p[:room]...)
		p = p[room:]
		if len(w.chunk) == cap(w.chunk) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	w.size += int64(n)
	return n, nil
}

func (w *layerWriter) flush() error {
	select {
	case w.full <- w.chunk:
	case <-w.done:
		return w.err
	}
	select {
	case w.chunk = <-w.empty:
		return nil
	case <-w.done:
		w.chunk = nil
		return w.err
	}
}

// finish waits until all is written.
func (w *layerWriter) finish() error {
	if len(w.chunk) > 0 {
		select {
		case w.full <- w.chunk:
		case <-w.done:
		}
	}
	close(w.full)
	<-w.done
	return w.err
}

func (w *layerWriter) diffID() digest.Digest { return w.blob.Digest() }

func (w *layerWriter) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: rootfs.MediaTypeLayer, Digest: w.diffID(), Size: w.size}
}

// commit makes the blob durable and known. That it exists is success.
func (w *layerWriter) commit(ctx context.Context) error {
	err := w.blob.Commit(ctx, w.size, w.diffID())
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// abort gives up the blob; its ingest goes with the lease. Closing would sync
// what nobody wants, so it is made empty first.
func (w *layerWriter) abort() error {
	return errors.Join(w.blob.Truncate(0), w.blob.Close())
}
