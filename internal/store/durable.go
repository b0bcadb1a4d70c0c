package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet/internal/durable"
)

// durableSnapshotter has what changes snapshots go through package durable.
type durableSnapshotter struct {
	snapshots.Snapshotter
	failed *atomic.Bool // set when something did, and may have left a part
	litter *litter
	// preparing are the snapshots that are on disk and not yet in the database.
	preparing *underWay
}

// noting sets failed if err is one.
func noting(failed *atomic.Bool, err error) error {
	if err != nil && !errdefs.IsAlreadyExists(err) && !errdefs.IsNotFound(err) {
		failed.Store(true)
	}
	return err
}

func (s durableSnapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	defer s.preparing.begin()()
	mounts, err := durable.Call(durable.Snapshot, "prepare "+key, func() ([]mount.Mount, error) {
		return s.Snapshotter.Prepare(ctx, key, parent, opts...)
	})
	return mounts, noting(s.failed, err)
}

func (s durableSnapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	err := durable.Do(durable.Snapshot, "commit "+key, func() error { return s.Snapshotter.Commit(ctx, name, key, opts...) })
	return noting(s.failed, err)
}

func (s durableSnapshotter) Remove(ctx context.Context, key string) error {
	s.litter.add(key) // before the database forgets it
	err := durable.Do(durable.Snapshot, "remove "+key, func() error { return s.Snapshotter.Remove(ctx, key) })
	if err != nil {
		s.litter.drop(key)
	} else {
		s.litter.add(key) // a collection may have begun in between that did not see it
	}
	return noting(s.failed, err)
}

// litter are the keys of snapshots that were removed, which only a collection
// does to their files. The zero value is ready.
type litter struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

func (l *litter) add(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]struct{}{}
	}
	l.keys[key] = struct{}{}
}

func (l *litter) drop(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, key)
}

func (l *litter) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = nil
}

func (l *litter) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys) > 0
}

// has says whether the snapshot was removed that a snapshotter knows by name:
// there its key comes behind a namespace and a number.
func (l *litter) has(name string) bool {
	_, key, _ := strings.Cut(name, "/")
	_, key, _ = strings.Cut(key, "/")
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.keys[key]
	return ok
}

// durableContent does the same for blobs.
type durableContent struct {
	content.Store
	failed *atomic.Bool // as above
}

func (c durableContent) Delete(ctx context.Context, d digest.Digest) error {
	err := durable.Do(durable.Blob, "delete "+d.String(), func() error { return c.Store.Delete(ctx, d) })
	return noting(c.failed, err)
}

func (c durableContent) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := durable.Call(durable.Blob, "begin", func() (content.Writer, error) {
		w, err := c.Store.Writer(ctx, opts...)
		if err != nil {
			return nil, err
		}
		return durableWriter{w, c.failed}, nil
	})
	return w, noting(c.failed, err)
}

// durableWriter does the same for what is being written.
type durableWriter struct {
	content.Writer
	failed *atomic.Bool // as above
}

func (w durableWriter) Write(p []byte) (int, error) {
	return durable.Call(durable.Blob, "write", func() (int, error) { return w.Writer.Write(p) })
}

func (w durableWriter) Truncate(size int64) error {
	return durable.Do(durable.Blob, "truncate", func() error { return w.Writer.Truncate(size) })
}

func (w durableWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	err := durable.Do(durable.Blob, "commit", func() error { return w.Writer.Commit(ctx, size, expected, opts...) })
	return noting(w.failed, err)
}
