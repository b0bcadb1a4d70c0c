package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/durable"
)

// GCStats says what a collection removed and how long it took.
type GCStats struct {
	Blobs     int
	Bytes     int64 // of the blobs
	Snapshots int
	Elapsed   time.Duration
}

// pauseCollector waits for a collection to end and keeps others from beginning.
//
// Whoever writes blobs or prepares snapshots within a transaction needs that:
// containerd's stores take their lock within the transaction then and before
// one elsewhere, which is safe only while nobody waits to have that lock alone.
// Only collections do.
func (s *Store) pauseCollector(ctx context.Context) (resume func(), err error) {
	select {
	case s.collector <- struct{}{}:
		return func() { <-s.collector }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tryPauseCollector is pauseCollector for who would rather do without than wait.
func (s *Store) tryPauseCollector() (resume func(), ok bool) {
	select {
	case s.collector <- struct{}{}:
		return func() { <-s.collector }, true
	default:
		return nil, false
	}
}

// GC removes the blobs and snapshots that neither a record nor a running
// operation holds, and interrupted downloads older than 24 hours. One runs at a
// time; it never waits for an operation, and none waits for more than its short
// moments in the database.
func (s *Store) GC(ctx context.Context) (GCStats, error) {
	resume, err := s.pauseCollector(ctx) // any other
	if err != nil {
		return GCStats{}, err
	}
	defer resume()
	start := time.Now()
	// It is short, and half of one leaves more behind than there was.
	ctx = s.Context(context.WithoutCancel(ctx))
	if err := s.dropLost(ctx); err != nil {
		return GCStats{}, err
	}
	// Whatever fails from here on, the next collection looks at everything.
	failed := s.failed.Swap(false) // also where it has to look anyway: it is told of failures from here on
	look := failed || !s.swept
	s.swept = false
	if look {
		if err := s.markDirty(ctx); err != nil {
			return GCStats{}, err
		}
	}
	s.litter.clear()
	blobs, size, removed := s.blobs.blobs.Load(), s.blobs.bytes.Load(), s.backend.removed.Load()
	if _, err := durable.Call(durable.Collect, "metadata", func() (gc.Stats, error) { return s.meta.GarbageCollect(ctx) }); err != nil {
		return GCStats{}, err
	}
	stats := GCStats{
		Blobs:     int(s.blobs.blobs.Load() - blobs),
		Bytes:     s.blobs.bytes.Load() - size,
		Snapshots: int(s.backend.removed.Load() - removed),
		Elapsed:   time.Since(start),
	}
	if look { // the two that made it look
		stats.Blobs--
		stats.Bytes -= int64(len(sweepMark))
		stats.Snapshots--
	}
	if err := s.cleanDirs(ctx); err != nil {
		return stats, err
	}
	// containerd's collection only logs what it cannot remove.
	if s.failed.Load() {
		return stats, errors.New("something could not be removed")
	}
	s.swept = true
	return stats, nil
}

// Litter says whether operations gave up snapshots since the last collection
// began, such as one they had unpacked and that somebody else had been faster
// with. It is for who would ask for a collection only where there is one to do.
func (s *Store) Litter() bool { return s.litter.any() }

// cleanDirs removes directories of plugins that are gone, which could not be
// removed with them.
func (s *Store) cleanDirs(ctx context.Context) error {
	dir := filepath.Join(s.root, "removing")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // also what is being removed just now: there is no harm in helping
		if err := durable.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return s.cleanPluginDirs(ctx)
}

var sweepMark = []byte("outlet: made to be collected\n")

// markDirty makes the next collection compare files with metadata. A collection
// only does so where it knows that something was removed, and what a process
// removed that then died, the next one does not know.
func (s *Store) markDirty(ctx context.Context) (err error) {
	// Under a lease, because an ingest without one stays for a day if this is
	// cut off.
	a, err := s.newArtifact(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Release(ctx)) }()
	ctx = a.context(ctx)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(sweepMark), Size: int64(len(sweepMark))}
	if err := content.WriteBlob(ctx, s.Content(), "sweep-"+rand.Text(), bytes.NewReader(sweepMark), desc); err != nil {
		return err
	}
	if err := s.Content().Delete(ctx, desc.Digest); err != nil {
		return err
	}
	key := "sweep-" + rand.Text()
	if _, err := s.snapshots().Prepare(ctx, key, ""); err != nil {
		return err
	}
	return s.snapshots().Remove(ctx, key)
}
