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
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
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
	tx     *bbolt.Tx // what all parts read, and what ctx has for containerd's
	found  onDisk
	report Report

	records   map[string]bool // ids, the damaged ones included
	blobs     map[string]bool // held by a lease
	snapshots map[string]bool // held by a lease, without parents
}

// onDisk is what there is beside the database.
type onDisk struct {
	blobs      []content.Info
	ingests    []string // names of directories
	snapshots  []string // names of the snapshotter
	pluginDirs []string // names
}

func (c *checker) add(kind ProblemKind, subject, format string, args ...any) {
	c.report.Problems = append(c.report.Problems, Problem{kind, subject, fmt.Sprintf(format, args...)})
}

// Check compares the records with what is on disk and reports what does not
// fit. It changes nothing. Operations may be under way: what they have not
// finished does not count, though the directory of a plugin that is being removed
// may. It waits for a collection that is running, and none runs meanwhile: what
// goes while it is looked at cannot be read.
func (s *Store) Check(ctx context.Context) (Report, error) {
	resume, err := s.pauseCollector(ctx)
	if err != nil {
		return Report{}, err
	}
	defer resume()
	ctx = s.Context(ctx)
	// The disk first: what is made in between is unknown to what was read before,
	// whichever that is, and the database is never behind.
	found, err := s.onDisk(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := s.settle(ctx); err != nil {
		return Report{}, err
	}
	c := &checker{Store: s, found: found, records: map[string]bool{}, blobs: map[string]bool{}, snapshots: map[string]bool{}}
	err = s.db.View(func(tx *bbolt.Tx) error {
		c.tx = tx
		ctx := boltutil.WithTransaction(ctx, tx)
		for _, check := range []func(context.Context) error{
			c.checkRecords, c.checkIndex, c.checkLeases, c.checkBlobs, c.checkIngests, c.checkSnapshots, c.checkPluginDirs,
		} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := check(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = c.countSnapshots(ctx)
	}
	if err != nil {
		return Report{}, err
	}
	return c.report, nil
}

// onDisk lists what the database should know.
func (s *Store) onDisk(ctx context.Context) (onDisk, error) {
	var d onDisk
	err := s.blobs.Walk(ctx, func(info content.Info) error {
		d.blobs = append(d.blobs, info)
		return nil
	})
	if err != nil {
		return onDisk{}, err
	}
	err = s.backend.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		d.snapshots = append(d.snapshots, info.Name)
		return nil
	})
	if err != nil && !errdefs.IsNotFound(err) { // it never had one
		return onDisk{}, err
	}
	for dir, names := range map[string]*[]string{s.ingestDir(): &d.ingests, s.pluginDir(): &d.pluginDirs} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return onDisk{}, err
		}
		for _, e := range entries {
			*names = append(*names, e.Name())
		}
	}
	return d, nil
}

func (s *Store) ingestDir() string { return filepath.Join(s.root, "content", "ingest") }
func (s *Store) pluginDir() string { return filepath.Join(s.root, "plugins") }

// settle waits until the database knows what was on disk when it was called.
func (s *Store) settle(ctx context.Context) error {
	if err := s.preparing.wait(ctx); err != nil {
		return err
	}
	// Blobs, and what is prepared within a transaction, are on disk before that
	// is committed: there is one at a time.
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// gone says whether something that was seen on disk is not there any more.
func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func (c *checker) checkRecords(ctx context.Context) error {
	records, damaged, err := readRecords(c.tx)
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
	indexed := map[string]string{}
	err := nameBucket(c.tx).ForEach(func(name, id []byte) error {
		indexed[string(id)] = string(name)
		if !c.records[string(id)] {
			c.add(DamagedIndex, string(id), "the name %s leads to no record", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return recordBucket(c.tx).ForEach(func(id, b []byte) error {
		r, err := decodeRecord(id, b)
		if err == nil && indexed[r.ID] != r.Name {
			c.add(DamagedIndex, r.ID, "its name %s is not indexed", r.Name)
		}
		return nil
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
	for _, info := range c.found.blobs {
		if known[info.Digest.String()] {
			continue
		}
		if _, err := c.Store.blobs.Info(ctx, info.Digest); !errdefs.IsNotFound(err) {
			c.add(OrphanBlob, info.Digest.String(), "a file of %d bytes the database does not know", info.Size)
		}
	}
	return nil
}

// checkIngests looks for unfinished blobs the database does not know.
func (c *checker) checkIngests(context.Context) error {
	known := map[string]bool{}
	if b := c.bucket("content", "ingests"); b != nil {
		err := b.ForEachBucket(func(k []byte) error {
			known[digest.FromBytes(b.Bucket(k).Get([]byte("ref"))).Encoded()] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, name := range c.found.ingests {
		if dir := filepath.Join(c.ingestDir(), name); !known[name] && !gone(dir) {
			c.add(OrphanDirectory, dir, "of an unfinished blob the database does not know")
		}
	}
	return nil
}

// bucket is the bucket with the path below those of containerd's metadata; nil
// if there is none yet.
func (c *checker) bucket(path ...string) *bbolt.Bucket {
	b := c.tx.Bucket([]byte("v1"))
	for _, name := range append([]string{namespace}, path...) {
		if b == nil {
			return nil
		}
		b = b.Bucket([]byte(name))
	}
	return b
}

// checkSnapshots looks for snapshots nothing holds, and compares the
// snapshotter's own list with the metadata. It does not ask the snapshotter for
// those of the metadata: one may be committed just now, under another name.
func (c *checker) checkSnapshots(ctx context.Context) error {
	parents, known := map[string]string{}, map[string]bool{}
	if b := c.bucket("snapshots", c.snap); b != nil {
		err := b.ForEachBucket(func(k []byte) error {
			parents[string(k)] = string(b.Bucket(k).Get([]byte("parent")))
			known[string(b.Bucket(k).Get([]byte("name")))] = true
			return nil
		})
		if err != nil {
			return err
		}
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
	for _, name := range c.found.snapshots {
		if known[name] || c.litter.has(name) { // the next collection removes that
			continue
		}
		if _, err := c.backend.Stat(ctx, name); !errdefs.IsNotFound(err) {
			c.add(OrphanSnapshot, name, "the snapshotter has it, the database does not know it")
		}
	}
	return nil
}

// maxCounts bounds how often is counted while snapshots are prepared.
const maxCounts = 8

// countSnapshots compares the snapshotter's own list with its directories. Which
// directory is whose only the snapshotter knows, so where snapshots are prepared
// all the time there is no telling.
func (c *checker) countSnapshots(ctx context.Context) error {
	dir := filepath.Join(c.root, "snapshots", c.snap, "snapshots")
	for range maxCounts {
		if err := c.preparing.wait(ctx); err != nil {
			return err
		}
		before, calm := c.preparing.calm()
		count := 0
		err := c.backend.Walk(ctx, func(context.Context, snapshots.Info) error {
			count++
			return nil
		})
		if err != nil && !errdefs.IsNotFound(err) { // it never had one
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(entries) == count {
			return nil
		}
		if after, _ := c.preparing.calm(); calm && after == before {
			c.add(OrphanDirectory, dir, "%d directories for %d snapshots", len(entries), count)
			return nil
		}
	}
	return nil
}

func (c *checker) checkPluginDirs(context.Context) error {
	for _, name := range c.found.pluginDirs {
		if dir := filepath.Join(c.pluginDir(), name); !c.records[name] && !gone(dir) {
			c.add(OrphanDirectory, dir, "there is no such plugin")
		}
	}
	return nil
}
