package store

import (
	"context"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet/internal/durable"
)

// countingContent counts what a collection removes. Nothing else deletes from
// below the metadata.
type countingContent struct {
	content.Store
	blobs, bytes atomic.Int64
	failed       *atomic.Bool // set when it could not
}

func (c *countingContent) Delete(ctx context.Context, d digest.Digest) error {
	info, err := c.Info(ctx, d)
	if err != nil {
		return err
	}
	err = durable.Do(durable.Blob, "delete "+d.String(), func() error { return c.Store.Delete(ctx, d) })
	if err != nil {
		c.failed.Store(true)
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
	failed  *atomic.Bool // as above
}

func (c *countingSnapshotter) Remove(ctx context.Context, key string) error {
	err := durable.Do(durable.Snapshot, "remove "+key+" itself", func() error { return c.Snapshotter.Remove(ctx, key) })
	if err == nil {
		c.removed.Add(1)
	} else if !errdefs.IsFailedPrecondition(err) { // it has children, which go first
		c.failed.Store(true)
	}
	return err
}

// Cleanup removes the directories of removed snapshots.
func (c *countingSnapshotter) Cleanup(ctx context.Context) error {
	if cleaner, ok := c.Snapshotter.(snapshots.Cleaner); ok {
		err := durable.Do(durable.Snapshot, "clean up", func() error { return cleaner.Cleanup(ctx) })
		if err != nil {
			c.failed.Store(true)
		}
		return err
	}
	return nil
}
