package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
)

// Report is what [Store.Check] found.
type Report struct {
	Problems []Problem
}

// Problem is one thing on disk that should not be so.
type Problem struct {
	Kind ProblemKind
	// Subject is a plugin id, a digest, a snapshot's key, a lease or a path.
	Subject string
	Detail  string
}

// ProblemKind classes the problems.
type ProblemKind string

// The kinds of problems. The orphans of blobs and snapshots go with the next
// [Store.GC].
const (
	DamagedRecord   ProblemKind = "damaged record"   // cannot be read
	DamagedIndex    ProblemKind = "damaged index"    // the index of names is not that of the records
	MissingBlob     ProblemKind = "missing blob"     // a record names it
	MissingRootfs   ProblemKind = "missing rootfs"   // a record names it
	OrphanBlob      ProblemKind = "orphan blob"      // nothing holds it
	OrphanSnapshot  ProblemKind = "orphan snapshot"  // nothing holds it
	OrphanDirectory ProblemKind = "orphan directory" // of a plugin that does not exist, or of no snapshot
	OrphanLease     ProblemKind = "orphan lease"     // of a plugin that does not exist
)

// checker collects what Check finds.
type checker struct {
	*Store
	report    Report
	records   map[string]bool // ids, the damaged ones included
	blobs     map[string]bool // held by a lease
	snapshots map[string]bool // held by a lease, without parents
}

func (c *checker) add(kind ProblemKind, subject, format string, args ...any) {
	c.report.Problems = append(c.report.Problems, Problem{kind, subject, fmt.Sprintf(format, args...)})
}

// Check compares the records with what is on disk and reports what does not
// fit. It changes nothing. Run while operations are under way it may report
// what they are about to finish. It waits for a collection that is running, and
// none runs meanwhile: what goes while it is looked at cannot be read.
func (s *Store) Check(ctx context.Context) (Report, error) {
	select {
	case s.collector <- struct{}{}:
		defer func() { <-s.collector }()
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	c := &checker{Store: s, records: map[string]bool{}, blobs: map[string]bool{}, snapshots: map[string]bool{}}
	ctx = s.Context(ctx)
	for _, check := range []func(context.Context) error{
		c.checkRecords, c.checkIndex, c.checkLeases, c.checkBlobs, c.checkSnapshots, c.checkPluginDirs,
	} {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if err := check(ctx); err != nil {
			return Report{}, err
		}
	}
	return c.report, nil
}

func (c *checker) checkRecords(ctx context.Context) error {
	records, damaged, err := c.Records(ctx)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		c.records[d.ID] = true
		c.add(DamagedRecord, d.ID, "%v", d.Err)
	}
	for _, r := range records {
		c.records[r.ID] = true
		for _, res := range c.resources(&r) {
			if err := c.checkResource(ctx, r.Name, res); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkResource looks for what a record names, in the metadata and below it.
func (c *checker) checkResource(ctx context.Context, name string, res leases.Resource) error {
	if res.Type != "content" {
		_, err := c.Store.snapshots().Stat(ctx, res.ID)
		if errdefs.IsNotFound(err) {
			c.add(MissingRootfs, res.ID, "plugin %s needs it", name)
			return nil
		}
		return err
	}
	d, err := digest.Parse(res.ID)
	if err != nil {
		c.add(MissingBlob, res.ID, "plugin %s names it: %v", name, err)
		return nil
	}
	known, err := c.Content().Info(ctx, d)
	if errdefs.IsNotFound(err) {
		c.add(MissingBlob, res.ID, "plugin %s needs it", name)
		return nil
	}
	if err != nil {
		return err
	}
	file, err := c.Store.blobs.Info(ctx, d)
	if errdefs.IsNotFound(err) || errors.Is(err, fs.ErrNotExist) {
		c.add(MissingBlob, res.ID, "plugin %s needs it, its file is gone", name)
		return nil
	}
	if err == nil && file.Size != known.Size {
		c.add(MissingBlob, res.ID, "plugin %s needs it, its file has %d bytes instead of %d", name, file.Size, known.Size)
	}
	return err
}

func (c *checker) checkIndex(context.Context) error {
	return c.db.View(func(tx *bbolt.Tx) error {
		indexed := map[string]string{}
		err := nameBucket(tx).ForEach(func(name, id []byte) error {
			indexed[string(id)] = string(name)
			if !c.records[string(id)] {
				c.add(DamagedIndex, string(id), "the name %s leads to no record", name)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return recordBucket(tx).ForEach(func(id, b []byte) error {
			r, err := decodeRecord(id, b)
			if err == nil && indexed[r.ID] != r.Name {
				c.add(DamagedIndex, r.ID, "its name %s is not indexed", r.Name)
			}
			return nil
		})
	})
}

func (c *checker) checkLeases(ctx context.Context) error {
	all, err := c.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if id, ok := strings.CutPrefix(l.ID, pluginLease); ok && !c.records[id] {
			c.add(OrphanLease, l.ID, "there is no such plugin")
		}
		held, err := c.leases.ListResources(ctx, l)
		if errdefs.IsNotFound(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return err
		}
		for _, res := range held {
			if res.Type == "content" {
				c.blobs[res.ID] = true
			} else {
				c.snapshots[res.ID] = true
			}
		}
	}
	return nil
}

func (c *checker) checkBlobs(ctx context.Context) error {
	known := map[string]bool{}
	err := c.Content().Walk(ctx, func(info content.Info) error {
		known[info.Digest.String()] = true
		if !c.blobs[info.Digest.String()] {
			c.add(OrphanBlob, info.Digest.String(), "nothing holds its %d bytes", info.Size)
		}
		return nil
	})
	if err != nil && !errdefs.IsNotFound(err) { // nothing was ever stored
		return err
	}
	err = c.Store.blobs.Walk(ctx, func(info content.Info) error {
		if !known[info.Digest.String()] {
			c.add(OrphanBlob, info.Digest.String(), "a file of %d bytes the database does not know", info.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.checkIngests(ctx)
}

func (c *checker) checkIngests(ctx context.Context) error {
	known, err := c.Content().ListStatuses(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	dir := filepath.Join(c.root, "content", "ingest")
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) != len(known) {
		c.add(OrphanDirectory, dir, "%d directories for %d unfinished blobs", len(entries), len(known))
	}
	return err
}

func (c *checker) checkSnapshots(ctx context.Context) error {
	parents := map[string]string{}
	err := c.Store.snapshots().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		parents[info.Name] = info.Parent
		return nil
	})
	if err != nil {
		return err
	}
	for key := range c.snapshots {
		for key = parents[key]; key != ""; key = parents[key] {
			c.snapshots[key] = true
		}
	}
	for key := range parents {
		if !c.snapshots[key] {
			c.add(OrphanSnapshot, key, "nothing holds it")
		}
	}
	return c.checkBackend(ctx)
}

// checkBackend compares the snapshotter's own list, and its directories, with
// the metadata.
func (c *checker) checkBackend(ctx context.Context) error {
	known := map[string]bool{}
	err := c.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("v1"))
		for _, name := range []string{namespace, "snapshots", c.snap} {
			if b != nil {
				b = b.Bucket([]byte(name))
			}
		}
		if b == nil {
			return nil
		}
		return b.ForEachBucket(func(k []byte) error {
			known[string(b.Bucket(k).Get([]byte("name")))] = true
			return nil
		})
	})
	if err != nil {
		return err
	}
	count := 0
	err = c.backend.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		count++
		if !known[info.Name] {
			c.add(OrphanSnapshot, info.Name, "the snapshotter has it, the database does not know it")
		}
		return nil
	})
	if err != nil && !errdefs.IsNotFound(err) { // it never had one
		return err
	}
	dir := filepath.Join(c.root, "snapshots", c.snap, "snapshots")
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) != count {
		c.add(OrphanDirectory, dir, "%d directories for %d snapshots", len(entries), count)
	}
	return err
}

func (c *checker) checkPluginDirs(context.Context) error {
	entries, err := os.ReadDir(filepath.Join(c.root, "plugins"))
	for _, e := range entries {
		if !c.records[e.Name()] {
			c.add(OrphanDirectory, filepath.Join(c.root, "plugins", e.Name()), "there is no such plugin")
		}
	}
	return err
}
