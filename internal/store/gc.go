package store

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
)

// GCStats says what a collection removed and how long it took.
type GCStats struct {
	Blobs     int
	Bytes     int64 // of the blobs
	Snapshots int
	Elapsed   time.Duration
}

// GC removes the blobs and snapshots that neither a record nor a running
// operation holds, and interrupted downloads older than 24 hours. One runs at a
// time; it never waits for an operation, and none waits for more than its short
// moments in the database.
func (s *Store) GC(ctx context.Context) (GCStats, error) { return GCStats{}, errdefs.ErrNotImplemented }
