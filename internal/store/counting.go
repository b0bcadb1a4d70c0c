package store

import (
	"context"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet/internal/durable"
)

// countingContent counts what a collection removes. Nothing else deletes from
// below the metadata.
type countingContent struct {
	content.Store
	blobs, bytes atomic.Int64
}

func (c *countingContent) Delete(ctx context.Context, d digest.Digest) error {
	info, err := c.Info(ctx, d)
	if err != nil {
		return err
	}
	err = durable.Do(durable.Blob, "delete "+d.String(), func() error { return c.Store.Delete(ctx, d) })
	if err != nil {
		return err
	}
	c.blobs.Add(1)
	c.bytes.Add(info.Size)
	return nil
}

// countingSnapshotter does the same for snapshots.
type countingSnapshotter struct {
	snapshots.Snapshotter
	removed atomic.Int64
}

func (c *countingSnapshotter) Remove(ctx context.Context, key string) error {
	err := durable.Do(durable.Snapshot, "remove "+key+" itself", func() error { return c.Snapshotter.Remove(ctx, key) })
	if err == nil {
		c.removed.Add(1)
	}
	return err
}

// Cleanup removes the directories of removed snapshots.
func (c *countingSnapshotter) Cleanup(ctx context.Context) error {
	if cleaner, ok := c.Snapshotter.(snapshots.Cleaner); ok {
		return durable.Do(durable.Snapshot, "clean up", func() error { return cleaner.Cleanup(ctx) })
	}
	return nil
}
